"""What a model file says of a model, so that it opens without its program: the network as a spec, class names, how inputs are made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from keepbest import _native, errors

_ELEMENTS = {"trained": "F32", "buffer": "F32", "counter": "I64"}


class Layout:
    """The tensors of the network that a spec describes."""

    def __init__(self, spec: str) -> None:
        checked, tensors = _native.read_spec(spec)
        self.spec: dict[str, Any] = json.loads(checked)
        self._tensors = {name: (_ELEMENTS[role], shape) for name, shape, role in tensors}
        self._optional = {name for name, _, role in tensors if role == "counter"}

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def check(self, found: Mapping[str, tuple[str, list[int]]]) -> None:
        """Compares a model's tensors, element types and shapes by name, with the network's. Others beside them are no fault.

        Raises:
            CannotStore: The model is not of this network.
        """
        for name, expected in self._tensors.items():
            has = found.get(name)
            if has == expected or (has is None and name in self._optional):
                continue
            was = "the model has none" if has is None else f"in the model it is {has[0]} {has[1]}"
            raise errors.CannotStore(
                f"the spec's network has {name} {expected[0]} {expected[1]}, {was}", where=name, type=expected[0]
            )


def layout_of(
    spec: Mapping[str, Any] | None, classes: Sequence[str], preprocessing: Mapping[str, Any] | None
) -> Layout | None:
    """The layout of a spec, with which classes and preprocessing are to go; ``None`` without a spec.

    Raises:
        InvalidSpec: It is no spec, or its layers do not fit each other.
        InvalidPreprocessing: The preprocessing is not one that opens without code.
        InvalidOption: They do not go together.
    """
    if spec is None:
        return None
    try:
        text = json.dumps(spec)
    except (TypeError, ValueError) as error:
        raise errors.InvalidSpec(f"the spec cannot be written as JSON: {error}") from error
    layout = Layout(text)
    network = layout.spec
    if classes and len(classes) != network["classes"]:
        raise errors.InvalidOption(f"the spec's network has {network['classes']} classes, {len(classes)} are named")
    if preprocessing is not None:
        _native.Preprocessing(json.dumps(preprocessing), True)
        if preprocessing["input"] != network["input"]:
            raise errors.InvalidOption(f"the spec's network takes {network['input']}, the preprocessing gives {preprocessing['input']}")
    return layout
