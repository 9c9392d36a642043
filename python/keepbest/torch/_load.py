"""A model file as a module of PyTorch, with what makes its input of images."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

from keepbest import _native, errors
from keepbest._images import parts
from keepbest._model import load as open_model
from keepbest.torch._build import Network, build_checked, checked, resolve


class Transform:
    """From images to a network's input, to the bit as our engine does it. Made by :func:`load`, or of a preprocessing as data.

    Called with one image of 8 bits, it gives ``float32[channels, height, width]``: an image of Pillow, an array
    ``uint8[height, width]`` or ``uint8[height, width, 1 or 3]``, a path; or a tensor ``uint8[1 or 3, height, width]``, channels first as
    torchvision has them. A transform may be pickled, so workers of a ``DataLoader`` take it.

    Args:
        preprocessing: As ``keepbest.Model.preprocessing`` gives it.
        strict: Whether images of a size or kind that the model has not seen are refused; else they are converted, with a warning.

    Raises:
        InvalidPreprocessing: It is no preprocessing.
    """

    def __init__(self, preprocessing: Mapping[str, Any], *, strict: bool = False) -> None:
        self.preprocessing, self.strict = dict(preprocessing), strict
        self._native = _native.Preprocessing(json.dumps(self.preprocessing), strict)

    @property
    def size(self) -> tuple[int, int, int]:
        """Channels, height and width of what it gives."""
        size = self.preprocessing["input"]
        return size["channels"], size["height"], size["width"]

    def __call__(self, image: Any) -> torch.Tensor:
        """One image.

        Raises:
            InvalidData: It is no image of 8 bits, or several.
            CannotPredict: It does not fit the model.
        """
        found = self.batch([_channels_last(image)])
        return found[0]

    def batch(self, images: Any) -> torch.Tensor:
        """Several images, as of ``keepbest.Model.predict``: ``float32[n, channels, height, width]``."""
        channels, height, width = self.size
        found, converted = bytearray(), None
        for part in parts(images):
            made, how = self._native.apply(part)
            found += made
            converted = converted or how
        if converted is not None:
            warnings.warn(f"images were converted: {converted}; strict=True refuses", errors.Caution, stacklevel=2)
        if not found:
            return torch.empty(0, channels, height, width)
        flat = torch.frombuffer(found, dtype=torch.float32)
        return flat.view(-1, height, width, channels).permute(0, 3, 1, 2).contiguous()

    def __reduce__(self) -> tuple[Any, ...]:
        return _transform, (self.preprocessing, self.strict)

    def __deepcopy__(self, memo: dict[int, Any]) -> Transform:
        return self

    def __repr__(self) -> str:
        return f"Transform({self.preprocessing})"


def _transform(preprocessing: Mapping[str, Any], strict: bool) -> Transform:
    return Transform(preprocessing, strict=strict)


def _channels_last(image: Any) -> Any:
    """The same image as an array that ``keepbest.Model.predict`` takes."""
    if not isinstance(image, torch.Tensor):
        return image
    if image.dtype != torch.uint8 or image.dim() != 3 or image.shape[0] not in (1, 3):
        raise errors.InvalidData(
            f"the image is a tensor {str(image.dtype).removeprefix('torch.')}{list(image.shape)}, not uint8[1 or 3, height, width]"
        )
    return image.detach().cpu().permute(1, 2, 0).numpy()


def load(
    reference: str | os.PathLike[str],
    *,
    network: str | os.PathLike[str] | None = None,
    device: Any = None,
    strict: bool = False,
    verify: bool = True,
) -> Network:
    """A model as a module of PyTorch with its weights, in evaluation mode; with ``.classes`` and ``.transform``.

    Args:
        reference: As of :func:`keepbest.load`: a file, a run (its best), ``run@last``.
        network: The network, for a file that holds weights alone: a name that ``keepbest models`` lists, or a model file.
        device: Where the weights go.
        strict: Whether ``.transform`` refuses images of a size or kind that the model has not seen.
        verify: Whether every byte is compared with the digests in the file.

    Raises:
        ModelMissing: There is no such file, or the run has none.
        ModelDamaged: It is not what was written, or not of its network.
        NoNetwork: The file holds weights alone.
    """
    model = open_model(reference, verify=verify)
    recorded = model.preprocessing
    if model.spec is not None:
        if network is not None and os.fspath(network) != model.spec.get("name"):
            raise errors.InvalidOption(f"{model.path} is a full model of {model.spec.get('name')}, not of {network}")
        spec = checked(model.spec)
    elif network is None:
        raise errors.NoNetwork(
            f"{model.path} holds weights alone, without the network they belong to; network=\"resnet18\" names one, and "
            "load_state_dict of a module of yours takes keepbest.load(...).state_dict()",
            path=model.path,
        )
    else:
        spec = _named(network, recorded, len(model.classes))
        if not _is_ours(recorded):
            recorded = None
    module = build_checked(spec, device="meta")
    module.to_empty(device=device or torch.get_default_device())
    # Buffers that no file holds are made anew.
    named = {name for name, *_ in model._file.weights()}
    weights = {name: tensor for name, tensor in model.state_dict("torch").items() if name in named}
    fill_fixed(module)
    own = module.state_dict()
    for name in own.keys() - weights.keys():
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.zeros_like(own[name])
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise errors.ModelDamaged(f"the weights of {model.path} are not of its network: {error}", path=model.path) from error
    classes = model.classes or [str(label) for label in range(spec["classes"])]
    transform = Transform(recorded or _plain(spec), strict=strict)
    module.describe(classes=classes, transform=transform)
    module.eval()
    return module


def fill_fixed(module: torch.nn.Module) -> None:
    """Computes the filters that no file holds."""
    from keepbest.torch._layers import BlurPool2d, binomial

    for each in module.modules():
        if isinstance(each, BlurPool2d):
            binomial(each.filter)


def preprocessing(
    input: tuple[int, int, int],
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    resize: Literal["none", "exact", "crop"] = "none",
    shorter_side: int | None = None,
) -> dict[str, Any]:
    """How images become a network's input, as data: what :class:`Transform` and :class:`keepbest.Keeper` take.

    Grey images become colour, or colour ones grey, where they are not as the input is.

    Args:
        input: Channels (1 or 3), rows and columns.
        mean: Of each channel, of values from 0 to 1: as torchvision's ``Normalize``; 0 by default.
        std: Likewise; 1 by default.
        resize: What happens to images of another size: they are refused, ``"exact"`` brings them to the size, ``"crop"`` to one that just covers
            it, of which the centre is taken: torchvision's ``Resize(size)`` and ``CenterCrop(size)`` of a PIL image.
        shorter_side: What the shorter side becomes before the crop: ``Resize(256)`` and ``CenterCrop(224)``.

    Raises:
        InvalidPreprocessing: The values do not go together.
    """
    channels, height, width = input
    data: dict[str, Any] = {
        "input": {"channels": channels, "height": height, "width": width},
        "resize": resize,
        "channels": "to-rgb" if channels == 3 else "to-grey",
        "divide_by": 255.0,
        "mean": [float(value) for value in mean] if mean is not None else [0.0] * channels,
        "std": [float(value) for value in std] if std is not None else [1.0] * channels,
    }
    if shorter_side is not None:
        data["shorter_side"] = shorter_side
    _native.Preprocessing(json.dumps(data), True)
    return data


def _plain(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The preprocessing of a model that records none."""
    size = spec["input"]
    return {**preprocessing((size["channels"], size["height"], size["width"])), "channels": "none"}


def _is_ours(preprocessing: Any) -> bool:
    try:
        _native.Preprocessing(json.dumps(preprocessing), True)
    except errors.KeepbestError:
        return False
    return True


def _named(network: str | os.PathLike[str], preprocessing: Any, classes: int) -> dict[str, Any]:
    """The spec of a named network, for the input and the classes that are recorded."""
    size = preprocessing["input"] if _is_ours(preprocessing) else None
    shape = (size["channels"], size["height"], size["width"]) if size else None
    return resolve(network, shape, classes or None)
