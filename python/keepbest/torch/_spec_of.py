"""From a module of PyTorch to a spec, proven by running both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from keepbest import errors
from keepbest.torch._build import build_checked, checked
from keepbest.torch import _arithmetic, _parameters, _pointwise, _pooling, _reshaping  # noqa: F401 (they fill the table)
from keepbest.torch._functions import HANDLERS
from keepbest.torch._leaves import leaf_of
from keepbest.torch._load import fill_fixed
from keepbest.torch._record import Recorder, Unsupported, example_of
from keepbest.torch._structure import layers_of, tidied

TOLERANCE = 1e-4
"""Of the largest number that the module gives: how far the spec's may be from it."""


class CannotDescribe(errors.KeepbestError):
    """A module does what a spec cannot say; ``layers`` names all of it."""

    layers: list[Unsupported]


def spec_of(module: nn.Module, example: Tensor, *, name: str | None = None) -> dict[str, Any]:
    """The spec of a module, with the module's own parameter names: what :class:`keepbest.Keeper` takes as ``spec``, so that its models open
    without the module's code.

    The module runs once on the example, in evaluation mode, and what it calls is written down. Then the spec is built, and run with the
    module's weights on the same example: both must agree to 1e-4 of the largest number.

    Args:
        module: A module that takes ``[n, channels, rows, columns]`` and gives ``[n, classes]``. It is left as it was.
        example: An input for it: its size is the spec's, its numbers should be such as the module sees.
        name: What the spec is called; the module's class by default.

    Raises:
        CannotDescribe: It does what a spec cannot say: ``layers`` has all of it, each with module, kind and reason.
        InvalidSpec: The spec has a layer that our engine does not know.

    Parameters that evaluation does not use, such as those of auxiliary outputs, are no part of the spec. What a module does in training alone is seen
    where it is dropout or stochastic depth; how parameters started is not.
    """
    if example.dim() != 4 or not example.is_floating_point():
        raise errors.InvalidOption(
            f"the example is {str(example.dtype).removeprefix('torch.')}{list(example.shape)}, not float[n, channels, rows, columns]"
        )
    images = example_of(example.detach())
    with _evaluating(module), torch.no_grad():
        spec, expected = _recorded(module, images, name or type(module).__name__)
        _prove(spec, module, images, expected)
    return checked(spec)


def _recorded(module: nn.Module, images: Tensor, name: str) -> tuple[dict[str, Any], Tensor]:
    """The spec that a module was seen to do, and what it gave."""
    recorder = Recorder(module, images.shape[0], HANDLERS, leaf_of)
    view, output = recorder.run(images)
    if view is None and not recorder.found:
        recorder.note(type(module).__name__, "what it gives is not computed of the image by functions of PyTorch")
    elif view is not None and (len(view.sides) != 2 or not view.is_whole(1, "c") or not view.node.is_pixel()) and not recorder.found:
        recorder.note(type(module).__name__, f"it gives {list(output.shape)}, not one tensor [n, classes]")
    if recorder.found or view is None:
        listed = "; ".join(str(item) for item in recorder.found)
        raise CannotDescribe(f"a spec cannot say {len(recorder.found)} things that the module does: {listed}", layers=recorder.found)
    channels, height, width = images.shape[1:]
    return {
        "version": 3,
        "name": name,
        "input": {"channels": channels, "height": height, "width": width},
        "classes": output.shape[1],
        "layers": layers_of(tidied(view.node)),
    }, output


def _prove(spec: dict[str, Any], module: nn.Module, images: Tensor, expected: Tensor) -> None:
    """Runs what is built of the spec with the module's weights.

    Raises:
        CannotDescribe: It gives something else.
    """
    built = build_checked(spec, device="meta").to_empty(device=images.device).eval()
    fill_fixed(built)
    own = module.state_dict()
    built.load_state_dict({key: own.get(key, torch.zeros_like(tensor)) for key, tensor in built.state_dict().items()})
    found = built.to(images.dtype)(images)
    largest = max(float(expected.abs().max()), 1e-12)
    difference = float((found - expected).abs().max()) / largest
    if not difference <= TOLERANCE:
        why = f"what is built of the spec gives numbers that differ by {difference:.2g} of the largest: it computes something that was not seen"
        raise CannotDescribe(why, layers=[Unsupported("", type(module).__name__, why)])


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, and afterwards what was before, module by module."""
    modes = {each: each.training for each in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for each, mode in modes.items():
            each.training = mode

