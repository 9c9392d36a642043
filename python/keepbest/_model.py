"""A model file, opened: of keepbest's own and of any other safetensors writer."""

from __future__ import annotations

import json
import os
import sys
import threading
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from keepbest import _native, _tensors, _tree, errors
from keepbest._contents import BESIDE, VERSION
from keepbest._data import as_source
from keepbest._images import parts


@dataclass(frozen=True)
class Predictions:
    """What a model says of images."""

    labels: list[str]
    """The class that is decided for, of each image: the likeliest, or what the model's thresholds say."""
    indices: Any
    """The same as ``int64[images]``, indices into ``classes``."""
    probabilities: Any
    """Softmax probabilities, ``float32[images, classes]``."""
    classes: list[str]
    """Names of all classes, by label."""

    def __len__(self) -> int:
        return len(self.labels)


class Model:
    """A model as it is on disk. Made by :func:`load`."""

    def __init__(self, file: _native.ModelFile) -> None:
        self._file = file
        raw = file.metadata()
        self._metadata: dict[str, Any] = json.loads(raw) if raw is not None else {}
        self._trees_: dict[str, Any] | None = None
        self._predictors: dict[Any, _native.Predictor] = {}
        self._lock, self._process = threading.Lock(), os.getpid()

    @property
    def path(self) -> str:
        """The file."""
        return os.fspath(self._file.path)

    @property
    def step(self) -> int | None:
        """Steps of the optimizer behind it."""
        return self._metadata.get("step")

    @property
    def epoch(self) -> int | None:
        """The epoch that it was measured after."""
        return self._metadata.get("epoch")

    @property
    def metrics(self) -> dict[str, float]:
        """What was measured on exactly these weights."""
        evaluation = self._metadata.get("evaluation") or {}
        return {name: as_number(value) for name, value in evaluation.get("metrics", {}).items()}

    @property
    def classes(self) -> list[str]:
        """Class names, by label."""
        return list(self._metadata.get("classes") or [])

    @property
    def preprocessing(self) -> Any:
        """How inputs are made, as data."""
        return self._metadata.get("preprocessing")

    @property
    def spec(self) -> dict[str, Any] | None:
        """The network as data; ``None`` for weights alone."""
        return self._metadata.get("model")

    @property
    def provenance(self) -> Any:
        """Where the model comes from, as data."""
        return self._metadata.get("provenance")

    @property
    def history(self) -> list[dict[str, Any]]:
        """The evaluations of the run up to it."""
        return list(self._metadata.get("history") or [])

    @property
    def digest(self) -> str:
        """The identity of the weights: BLAKE3 over names, element types, shapes and bytes."""
        return self._file.digest()

    def state_dict(self, framework: str | None = None) -> dict[str, Any]:
        """Parameters and buffers by name. ``framework`` is ``"torch"`` or ``"numpy"``; by default what they were saved from, else torch
        if the program has imported it."""
        tree = self._trees().get("model")
        if tree is None:
            chosen = framework or ("torch" if _tensors.loaded("torch") else "numpy")
            return {
                name: _tensors.restore(view, dtype, shape, chosen) for name, dtype, shape, view in self._file.weights()
            }
        tensors = self._file.weights()
        for name, dtype, shape, view in self._file.training_state():
            if name.startswith(BESIDE):
                tensors.append((name[len(BESIDE) :], dtype, shape, view))
        decoded: dict[str, Any] = _tree.decode(tree, _Tensors(tensors, framework))
        return decoded

    @property
    def is_ours(self) -> bool:
        """Whether keepbest wrote the file."""
        return bool(self._metadata)

    def resume_epoch(self) -> int:
        """The last epoch that is over; -1 before any."""
        epoch = self._trees().get("epoch")
        return int(epoch if epoch is not None else self.epoch or 0)

    def state(self) -> dict[str, Any]:
        """What was offered beside the model: ``{"optimizer": {...}, "rng": {...}}``. Empty in a file of weights alone."""
        tree = self._trees().get("state", {})
        tensors = _Tensors(self._file.training_state(), None)
        return {name: _tree.decode(value, tensors) for name, value in tree.items()}

    def _trees(self) -> dict[str, Any]:
        if self._trees_ is None:
            self._trees_ = {}
            for name, dtype, shape, view in self._file.training_state():
                if name == "python":
                    self._trees_ = json.loads(bytes(_tensors.restore(view, dtype, shape, "numpy")))
                    if self._trees_.get("version", 1) > VERSION:
                        raise errors.KeepbestError(
                            f"{self.path} holds state of version {self._trees_['version']}, and this keepbest reads 1 to {VERSION}: install a newer one"
                        )
        return self._trees_

    def verify(self) -> None:
        """Reads every byte again and compares it with the digests in the file.

        Raises:
            ModelDamaged: It is not what was written.
        """
        _native.ModelFile.open(self.path, True)

    def predict(
        self,
        images: Any,
        *,
        network: str | os.PathLike[str] | None = None,
        strict: bool = False,
        batch_size: int = 64,
        threads: int | None = None,
    ) -> Predictions:
        """Asks the model what images show, as ``keepbest predict`` does: each is made the network's input by the rule that the file records.

        Args:
            images: An image or several: a path (of a folder, all images in it), an array ``uint8[height, width]`` or
                ``uint8[height, width, 1 or 3]``, several in one array ``uint8[n, height, width]`` or ``uint8[n, height, width, 1 or 3]``, an
                image of Pillow, or any iterable of those. Arrays and Pillow's images are taken as they are; files are turned as they say.
            network: The network, for a file that holds weights alone: a name that ``keepbest models`` lists, or a model file.
            strict: Whether images of a size or kind that the model has not seen are refused; else they are converted, with a warning.
            batch_size: Images computed at a time; answers do not depend on it.
            threads: Threads that compute, one a core by default; answers do not depend on it.

        Raises:
            NoNetwork: The file holds weights alone, as those of :class:`keepbest.Keeper` do: the network is your program's.
            CannotRead: A file is no image that can be read.
            CannotPredict: An image does not fit the model, or has no answer; ``image`` names it.
            InvalidData: Something is no image.

        The GIL is released while it computes. Any number of threads may call it at a time: each gets the same bits as if it were alone.
        """
        predictor = self._predictor(network, strict, batch_size, threads)
        import numpy

        found, indices = bytearray(), list[int]()
        converted = None
        for part in parts(images):
            probabilities, decided, how = predictor.rate(part)
            found += probabilities
            indices += decided
            converted = converted or how
        if converted is not None:
            warnings.warn(f"images were converted: {converted}; strict=True refuses", errors.Caution, stacklevel=2)
        classes = predictor.classes()
        return Predictions(
            labels=[classes[index] for index in indices],
            indices=numpy.array(indices, dtype=numpy.int64),
            probabilities=numpy.frombuffer(found, dtype=numpy.float32).reshape(len(indices), len(classes)),
            classes=classes,
        )

    def evaluate(
        self,
        data: Any = None,
        split: str | None = None,
        *,
        data_dir: str | os.PathLike[str] | None = None,
        network: str | os.PathLike[str] | None = None,
        strict: bool = False,
        batch_size: int = 64,
        threads: int | None = None,
    ) -> dict[str, Any]:
        """Measures the model, as ``keepbest evaluate`` does.

        Args:
            data: As of :func:`keepbest.train`; by default the images that the model was trained with, where they lie now.
            split: ``"train"``, ``"val"``, ``"test"`` or ``"all"``; by default test where there is one, else val of the data of the training,
                and all of any other.
            data_dir: Where a named set lies, when not at its usual place.

        Returns:
            What ``keepbest evaluate --json`` prints: ``metrics``, ``intervals``, ``per_class``, ``confusion`` (rows are labels) ...

        Raises:
            NoNetwork: The file holds weights alone.
            InvalidData: The images are not there, or not of the model's classes.
        """
        predictor = self._predictor(network, strict, batch_size, threads)
        with as_source(data) as source:
            folder = os.fspath(data_dir) if data_dir is not None else None
            report: dict[str, Any] = json.loads(predictor.evaluate(source, folder, split))
        report["metrics"] = {name: as_number(value) for name, value in report["metrics"].items()}
        return report

    def _predictor(
        self, network: str | os.PathLike[str] | None, strict: bool, batch_size: int, threads: int | None
    ) -> _native.Predictor:
        if batch_size < 1 or (threads is not None and threads < 1):
            raise errors.InvalidOption("batch_size and threads are at least 1")
        if self._process != os.getpid():
            # A lock that another thread held when the process was forked is never free again.
            self._predictors, self._lock, self._process = {}, threading.Lock(), os.getpid()
        key = (network, strict, batch_size, threads)
        with self._lock:
            predictor = self._predictors.get(key)
            if predictor is None:
                named = os.fspath(network) if network is not None else None
                predictor = self._file.predictor(named, strict, batch_size, threads)
                self._predictors[key] = predictor
                for note in predictor.notes():
                    warnings.warn(note, errors.Caution, stacklevel=3)
        return predictor

    def __repr__(self) -> str:
        return f"<keepbest.Model {self.path!r}, epoch {self.epoch}, digest {self.digest[:16]}>"


class _Tensors:
    """The tensors of a file, by the leaves of a tree. Names that shared memory share it again."""

    def __init__(self, viewed: list[tuple[str, str, list[int], _native.View]], framework: str | None) -> None:
        self._viewed = {name: (dtype, shape, view) for name, dtype, shape, view in viewed}
        self._framework = framework
        self._made: dict[str, Any] = {}

    def __call__(self, leaf: dict[str, Any]) -> Any:
        tied = self._made.get(leaf.get("tied", ""))
        if tied is not None:
            return tied
        dtype, shape, view = self._viewed[leaf[_tree.TENSOR]]
        framework = self._framework or leaf["as"]
        value = _tensors.restore(view, dtype, shape, framework, leaf.get("pair"))
        strides = leaf.get("strides")
        if strides is not None and framework == "torch":
            import torch

            value = torch.empty_strided(value.shape, strides, dtype=value.dtype).copy_(value)
        self._made[leaf[_tree.TENSOR]] = value
        return value


def load(reference: str | os.PathLike[str], *, verify: bool = True) -> Model:
    """Opens a model: a file, a run (its best), or ``run@best``, ``run@last``, ``run@epoch:7``, ``run@step:1200``.

    Args:
        reference: Which.
        verify: Whether every byte is compared with the digests in the file.

    Raises:
        ModelMissing: There is no such file, or the run has none.
        ModelDamaged: It is not what was written.
    """
    # Absolute, so that a program may change its directory.
    return Model(_native.ModelFile.open(os.path.abspath(_native.resolve(os.fspath(reference))), verify))


def load_into(model: Any, source: Model) -> None:
    """Loads the weights into a module, or anything else with ``load_state_dict``."""
    if not hasattr(model, "load_state_dict"):
        raise errors.InvalidOption(
            f"a {type(model).__qualname__} has no load_state_dict: take the tensors from keepbest.load(...).state_dict()"
        )
    values = source.state_dict()
    torch = _tensors.loaded("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        like = model.state_dict()
        if not hasattr(values, "_metadata") and source.is_ours:
            # A file of weights alone has no versions of modules; torch would take it for older than all of them.
            values = OrderedDict(values)
            values._metadata = like._metadata  # type: ignore[attr-defined]
        for name, tensor in like.items():
            if hasattr(tensor, "full_tensor") and name in values:
                values[name] = sharded(values[name], tensor)
    model.load_state_dict(values)


def sharded(value: Any, like: Any) -> Any:
    """A whole tensor, distributed as ``like`` is."""
    from torch.distributed.tensor import distribute_tensor

    if tuple(value.shape) != tuple(like.shape):
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)


def optimizer_state(optimizer: Any, state: Any) -> Any:
    """The state of an optimizer, what belongs to sharded parameters sharded as they are."""
    groups = getattr(optimizer, "param_groups", None)
    if "torch.distributed.tensor" not in sys.modules or groups is None or not isinstance(state, dict):
        return state
    parameters = [parameter for group in groups for parameter in group["params"]]
    for index, values in state.get("state", {}).items():
        if isinstance(index, int) and index < len(parameters) and hasattr(parameters[index], "full_tensor"):
            for name, value in values.items():
                if _tensors.is_torch_tensor(value) and value.dim():
                    values[name] = sharded(value, parameters[index])
    return state


def as_number(value: Any) -> float:
    """A metric out of JSON."""
    # JSON has no NaN or infinity: they are stored as text.
    return float(value) if value is not None else float("nan")
