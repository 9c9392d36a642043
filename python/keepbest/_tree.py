"""Nested containers of tensors and plain values as JSON beside tensors, and back.

Nothing in a file is code: what is not a container, a plain value or a tensor is refused, named by its path.
"""

from __future__ import annotations

import base64
import collections
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from keepbest import _tensors
from keepbest.errors import CannotStore, Skipped

# A key that marks what JSON has no form for. A mapping with such a key is stored as pairs.
TENSOR, TUPLE, NAMED, PAIRS, FLOAT, COMPLEX, BYTES, SET, TORCH, STATE_DICT = (
    "$tensor",
    "$tuple",
    "$named",
    "$pairs",
    "$float",
    "$complex",
    "$bytes",
    "$set",
    "$torch",
    "$state_dict",
)
DEEPEST = 200
_LEFT_OUT = object()


class Encoder:
    """Puts trees into JSON, and gathers their tensors under names."""

    def __init__(self, strict: bool) -> None:
        self.strict = strict
        self.pieces: dict[str, _tensors.Piece] = {}
        self._names: dict[tuple[Any, ...], str] = {}
    def encode(self, value: Any, where: str) -> Any:
        """The JSON of a tree. ``where`` is its path, from which the names of its tensors are made."""
        encoded = self._encode(value, where, 0)
        return None if encoded is _LEFT_OUT else encoded

    def _encode(self, value: Any, where: str, depth: int) -> Any:
        if depth > DEEPEST:
            raise CannotStore(f"{where} is nested more than {DEEPEST} deep", where=where, type=type(value).__name__)
        if isinstance(value, str):
            return _checked(value, where)
        if value is None or isinstance(value, bool) or type(value) is int:
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {FLOAT: repr(value)}
        if type(value) is dict:  # by far the usual one, and asking for an abstract class takes long
            return self._mapping(value, where, depth)
        if _tensors.is_torch_tensor(value):
            return self._leaf(value, where)
        if isinstance(value, Mapping):
            encoded = self._mapping(value, where, depth)
            # The versions of a module's parts, which tell its code how old a state dict is.
            versions = getattr(value, "_metadata", None)
            if isinstance(versions, Mapping):
                return {STATE_DICT: encoded, "metadata": self._mapping(versions, f"{where} (metadata)", depth + 1)}
            return encoded
        if isinstance(value, list | collections.deque):
            return self._items(value, where, depth)
        if isinstance(value, tuple):
            return self._tuple(value, where, depth)
        if _tensors.is_tensor(value):
            return self._leaf(value, where)
        return self._other(value, where, depth)

    def _mapping(self, value: Mapping[Any, Any], where: str, depth: int) -> Any:
        pairs = []
        plain = True
        for key, item in value.items():
            named = type(key) is str
            encoded_key = _checked(key, where or "a name") if named else self._encode(key, f"{where} (a key)", depth + 1)
            encoded = self._encode(item, f"{where}.{key}" if where else str(key), depth + 1)
            if encoded is not _LEFT_OUT:
                plain = plain and named and key[:1] != "$"
                pairs.append([encoded_key, encoded])
        return dict(pairs) if plain else {PAIRS: pairs}

    def _items(self, value: Any, where: str, depth: int) -> list[Any]:
        items = [self._encode(item, f"{where}.{index}", depth + 1) for index, item in enumerate(value)]
        # A place in a sequence cannot be left out.
        return [None if item is _LEFT_OUT else item for item in items]

    def _tuple(self, value: tuple[Any, ...], where: str, depth: int) -> Any:
        fields = getattr(value, "_fields", None)
        if fields is not None:
            by_name = {field: getattr(value, field) for field in fields}
            encoded = [[field, self._encode(item, f"{where}.{field}", depth + 1)] for field, item in by_name.items()]
            return {NAMED: type(value).__name__, "fields": [[f, None if e is _LEFT_OUT else e] for f, e in encoded]}
        return {TUPLE: self._items(value, where, depth)}

    def _leaf(self, value: Any, where: str) -> Any:
        try:
            made = _tensors.piece(value, where)
        except CannotStore as error:
            return self._leave_out(error)
        tied = self._names.get(made.identity()) if made.framework == "torch" and made.nbytes else None
        name, again = where or "value", 2
        while name in self.pieces:
            name, again = f"{where}~{again}", again + 1
        self.pieces[name] = made
        leaf: dict[str, Any] = {TENSOR: name, "as": made.framework}
        if made.strides is not None:
            leaf["strides"] = made.strides
        if made.pair is not None:
            leaf["pair"] = made.pair
        if tied is not None:
            leaf["tied"] = tied
        else:
            self._names[made.identity()] = name
        return leaf

    def _other(self, value: Any, where: str, depth: int) -> Any:
        if isinstance(value, int):  # an IntEnum, or another kind of int
            return int(value)
        if isinstance(value, float):
            return self._encode(float(value), where, depth)
        if isinstance(value, complex):
            return {COMPLEX: [self._encode(value.real, where, depth), self._encode(value.imag, where, depth)]}
        if isinstance(value, bytes | bytearray):
            return {BYTES: base64.b64encode(value).decode()}
        if isinstance(value, set | frozenset):
            return {SET: self._items(sorted(value, key=repr), where, depth)}
        torch = _tensors.loaded("torch")
        if torch is not None and isinstance(value, torch.dtype | torch.device | torch.memory_format):
            return {TORCH: str(value), "is": type(value).__name__}
        if _tensors.has_buffer(value):
            return self._leaf(memoryview(value), where)
        name = f"{type(value).__module__}.{type(value).__qualname__}"
        words = f"{where} cannot be stored: it is a {name}, neither a tensor, nor a plain value, nor a container of them"
        if callable(getattr(value, "state_dict", None)):
            words += "; give its state_dict()"
        return self._leave_out(CannotStore(words, where=where, type=name))

    def _leave_out(self, error: CannotStore) -> Any:
        if self.strict:
            raise error
        warnings.warn(f"{error}; it is left out", Skipped, stacklevel=2)
        return _LEFT_OUT


def _checked(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise CannotStore(f"{where} cannot be stored: {text!a} is no text that can be written: {error.reason}", where=where, type="str") from error
    return text


def decode(tree: Any, tensor: Callable[[dict[str, Any]], Any]) -> Any:
    """The value of a tree; ``tensor`` gives that of a leaf."""
    if isinstance(tree, list):
        return [decode(item, tensor) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if TENSOR in tree:
        return tensor(tree)
    if TUPLE in tree:
        return tuple(decode(item, tensor) for item in tree[TUPLE])
    if NAMED in tree:
        fields = tree["fields"]
        kind = collections.namedtuple(tree[NAMED], [field for field, _ in fields], rename=True)  # type: ignore[misc]
        return kind(*(decode(item, tensor) for _, item in fields))
    if PAIRS in tree:
        return {decode(key, tensor): decode(item, tensor) for key, item in tree[PAIRS]}
    if FLOAT in tree:
        return float(tree[FLOAT])
    if COMPLEX in tree:
        real, imaginary = (decode(part, tensor) for part in tree[COMPLEX])
        return complex(real, imaginary)
    if BYTES in tree:
        return base64.b64decode(tree[BYTES])
    if SET in tree:
        return {decode(item, tensor) for item in tree[SET]}
    if TORCH in tree:
        return _torch_value(tree)
    if STATE_DICT in tree:
        state = collections.OrderedDict(decode(tree[STATE_DICT], tensor))
        state._metadata = decode(tree["metadata"], tensor)  # type: ignore[attr-defined]
        return state
    return {key: decode(item, tensor) for key, item in tree.items()}


def _torch_value(tree: dict[str, Any]) -> Any:
    import torch

    text = str(tree[TORCH])
    return torch.device(text) if tree["is"] == "device" else getattr(torch, text.removeprefix("torch."))
