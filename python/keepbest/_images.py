"""Images to ask a model about, as the native part takes them."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from typing import Any

from keepbest import _native
from keepbest._data import as_levels
from keepbest._tensors import is_array
from keepbest.errors import InvalidData

Input = tuple[str, _native.Arena, int, tuple[int, int, int]] | tuple[str, bytes] | str

# Images are handed over a part at a time: a copy of all could be too much.
_PART_BYTES = 64 << 20
_PART_IMAGES = 4096

_CHANNELS = (1, 3)


def parts(images: Any) -> Iterator[list[Input]]:
    """The images, as many at a time as are copied together."""
    part: list[Any] = []
    size = 0
    for item in _items(images):
        part.append(item)
        size += getattr(item[1], "nbytes", 0) if isinstance(item, tuple) else 0
        if size >= _PART_BYTES or len(part) >= _PART_IMAGES:
            yield _placed(part)
            part, size = [], 0
    if part:
        yield _placed(part)


def _placed(part: list[Any]) -> list[Input]:
    """The same, with arrays in memory that nobody changes meanwhile."""
    arrays = [item[1] for item in part if isinstance(item, tuple) and not isinstance(item[1], bytes)]
    arena = _native.Arena(sum(array.nbytes for array in arrays))
    pieces = []
    placed: list[Input] = []
    offset = 0
    for item in part:
        if isinstance(item, tuple) and not isinstance(item[1], bytes):
            name, array = item
            pieces.append((offset, array.ctypes.data, array.nbytes))
            placed.append((name, arena, offset, array.shape))
            offset += array.nbytes
        else:
            placed.append(item)
    arena.copy(pieces)
    return placed


def _items(images: Any) -> Iterator[Any]:
    """Each image: ``(name, uint8[height, width, channels])``, ``(name, bytes of a file)`` or a path."""
    if isinstance(images, (str, os.PathLike)) or _is_picture(images):
        yield from _item(images, "image 0")
    elif is_array(images):
        array = as_levels(images, "the images")
        if array.ndim == 4 or (array.ndim == 3 and array.shape[2] not in _CHANNELS):
            for at, image in enumerate(array):
                yield _array(image, f"image {at}")
        else:
            yield _array(array, "image 0")
    elif isinstance(images, Iterable):
        for at, image in enumerate(images):
            yield from _item(image, f"image {at}")
    else:
        raise _unknown(images, "images")


def _item(image: Any, name: str) -> Iterator[Any]:
    if isinstance(image, (str, os.PathLike)):
        path = os.fspath(image)
        if os.path.isdir(path):
            yield from (os.fspath(found) for found in _native.list_images(path))
        else:
            yield path
    elif _is_picture(image):
        yield _picture(image, name)
    elif is_array(image):
        yield _array(as_levels(image, f"the numbers of {name}"), name)
    else:
        raise _unknown(image, name)


def _array(array: Any, name: str) -> Any:
    """An image with its channels."""
    if array.ndim == 2 and array.size:
        return name, array[:, :, None]
    if array.ndim == 3 and array.shape[2] in _CHANNELS and array.size:
        return name, array
    raise InvalidData(
        f"{name} is {list(array.shape)}: an image is [height, width] or [height, width, 1 or 3]; several in one array are "
        "[n, height, width] or [n, height, width, 1 or 3]"
    )


def _is_picture(value: Any) -> bool:
    """Whether it is an image of Pillow."""
    return hasattr(value, "getbands") and hasattr(value, "save")


def _picture(image: Any, name: str) -> Any:
    if image.mode in ("L", "RGB"):
        return _array(as_levels(image, f"the numbers of {name}"), name)
    # Palettes, transparency and 16 bits become what they become when such a file is read.
    if image.mode in ("CMYK", "YCbCr", "HSV", "LAB", "RGBX", "RGBa"):
        image = image.convert("RGB")
    encoded = io.BytesIO()
    try:
        image.save(encoded, "PNG", compress_level=0)
    except (OSError, ValueError) as error:
        raise InvalidData(f"{name} is of Pillow's mode {image.mode}, which is no image of 8 or 16 bits: {error}") from error
    return name, encoded.getvalue()


def _unknown(value: Any, name: str) -> InvalidData:
    return InvalidData(
        f"{name} is a {type(value).__qualname__}: an image is a path, an array of uint8, or an image of Pillow; several are a list"
    )
