"""Images and labels as arrays, for a trainer that reads files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from keepbest.errors import InvalidData, KeepbestError

_SPLITS = ("train", "val", "test")
_CHANNELS = (1, 3)


@contextmanager
def as_source(data: Any) -> Iterator[str | None]:
    """What the trainer opens: a path or a name as it is, arrays as a NumPy archive that only this user can read and that is gone
    afterwards."""
    if data is None or isinstance(data, (str, os.PathLike)):
        yield None if data is None else os.fspath(data)
        return
    import tempfile

    import numpy

    arrays, classes = _arrays(data)
    with tempfile.TemporaryDirectory(prefix="keepbest-") as folder:
        path = os.path.join(folder, "arrays-given-in-python.npz")
        numpy.savez(path, **arrays)
        if classes:
            with open(os.path.join(folder, "classes.txt"), "w", encoding="utf-8") as file:
                file.writelines(f"{name}\n" for name in classes)
        try:
            yield path
        except KeepbestError as error:
            # Nobody knows that file.
            error.args = (str(error).replace(path, "data"), *error.args[1:])
            raise


def _arrays(data: Any) -> tuple[dict[str, Any], list[str]]:
    """The arrays by the names that they have in the archive, and the names of the classes, where they are given."""
    if isinstance(data, (tuple, list)) and len(data) == 2:
        data = {"train": data}
    if not isinstance(data, Mapping):
        raise InvalidData(
            f"data is a {type(data).__qualname__}: it is a path, the name of a set, (images, labels), "
            "or {'train': (images, labels), 'val': ..., 'test': ...}"
        )
    unknown = [key for key in data if key not in (*_SPLITS, "classes")]
    if unknown or "train" not in data:
        wrong = f"has {unknown[0]!r}" if unknown else "has no 'train'"
        raise InvalidData(f"data {wrong}: its keys are 'train', and where there are any 'val', 'test' and 'classes'")
    arrays = {}
    for split in _SPLITS:
        if data.get(split) is not None:
            arrays[f"x_{split}"], arrays[f"y_{split}"] = _pair(data[split], f"data[{split!r}]")
    return arrays, _classes(data.get("classes"), arrays["y_train"])


def _classes(given: Any, labels: Any) -> list[str]:
    names = [str(name) for name in given or ()]
    if names and labels.dtype.kind in "US":
        raise InvalidData("data has 'classes', and labels that are names already: classes go with labels that are numbers")
    if any("\n" in name or not name.strip() for name in names):
        raise InvalidData("data['classes'] has a name that is empty or of several lines")
    return names


def _pair(pair: Any, where: str) -> tuple[Any, Any]:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise InvalidData(f"{where} is not (images, labels)")
    images, labels = as_images(pair[0], f"{where}: the images"), _labels(pair[1], f"{where}: the labels")
    if len(images) != len(labels):
        raise InvalidData(f"{where} has {len(images)} images and {len(labels)} labels")
    return images, labels


def as_images(images: Any, where: str) -> Any:
    """Images as ``uint8[n, height, width]`` or ``uint8[n, height, width, channels]``."""
    array = as_levels(images, where)
    if array.ndim == 4 and array.shape[3] not in _CHANNELS and array.shape[1] in _CHANNELS:
        raise InvalidData(f"{where} are {list(array.shape)}: channels come last, x.transpose(0, 2, 3, 1)")
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] not in _CHANNELS) or 0 in array.shape:
        raise InvalidData(f"{where} are {list(array.shape)}, not [n, height, width] or [n, height, width, 1 or 3]")
    return array


def as_levels(value: Any, where: str) -> Any:
    """A dense array of ``uint8``."""
    import numpy

    if hasattr(value, "detach"):
        value = value.detach().cpu()
    array = numpy.asarray(value)
    if array.dtype != numpy.uint8:
        way = "; numbers from 0 to 1 become levels by (x * 255).round().astype('uint8')" if array.dtype.kind == "f" else ""
        raise InvalidData(f"{where} are of type {array.dtype}, not uint8: levels from 0 to 255, as image files have them{way}")
    return numpy.ascontiguousarray(array)


def _labels(labels: Any, where: str) -> Any:
    import numpy

    if hasattr(labels, "detach"):
        labels = labels.detach().cpu()
    array = numpy.asarray(labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise InvalidData(f"{where} are {list(array.shape)}, not [n]: one label an image")
    if array.dtype.kind not in "iuUS":
        raise InvalidData(f"{where} are of type {array.dtype}: they are whole numbers, or names")
    if array.dtype.kind == "i" and len(array) and array.min() < 0:
        raise InvalidData(f"{where} have {array.min()}: classes are numbered from 0")
    return array
