"""Tensors of any framework as bytes in an arena, and back. Nothing is imported that the caller has not imported."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any

from keepbest import _native
from keepbest.errors import CannotStore

if TYPE_CHECKING:
    from collections.abc import Sequence

ALIGNMENT = 64
"""Bytes: where a tensor begins in the arena."""

# Element types as safetensors spells them, by the name that torch, numpy and ml_dtypes give them.
DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2": "F8_E5M2",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
    "complex64": "C64",
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}

# Complex numbers that safetensors has no type for: stored as pairs of real numbers, one side more.
PAIRS = {"complex32": "float16", "complex128": "float64"}


class Piece:
    """A tensor that is to be copied."""

    __slots__ = ("address", "dtype", "framework", "nbytes", "offset", "pair", "shape", "source", "strides")

    def __init__(self, source: Any, framework: str, dtype: str, shape: list[int], nbytes: int) -> None:
        self.source = source
        self.framework = framework
        self.pair = dtype if dtype in PAIRS else None
        self.dtype = DTYPES[PAIRS.get(dtype, dtype)]
        self.shape = [*shape, 2] if self.pair else shape
        self.nbytes = nbytes
        # Where the bytes lie if they can be copied as they are, else 0.
        self.address = 0
        # The strides of a tensor that is dense in another order.
        self.strides: list[int] | None = None
        self.offset = 0

    def identity(self) -> tuple[Any, ...]:
        """Equal for two names of the same memory."""
        return (self.address or id(self.source), self.dtype, tuple(self.shape))


def loaded(module: str) -> Any:
    """A module that the program has imported, else ``None``."""
    return sys.modules.get(module)


def is_torch_tensor(value: Any) -> bool:
    """Whether a value is a tensor of torch."""
    torch = loaded("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_array(value: Any) -> bool:
    """Whether a value says of itself that it is an array."""
    kind = type(value)
    return hasattr(kind, "__array__") or hasattr(kind, "__dlpack__")


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor or array of some framework."""
    return is_torch_tensor(value) or is_array(value) or isinstance(value, memoryview)


def has_buffer(value: Any) -> bool:
    """Whether a value gives its memory by the buffer protocol, as ``array.array``, ``ctypes`` arrays and ``mmap`` do."""
    try:
        memoryview(value).release()
    except TypeError:
        return False
    return True


def piece(value: Any, where: str) -> Piece:
    """What is to be copied of a tensor. Raises ``CannotStore``."""
    if is_torch_tensor(value):
        return _torch_piece(value, where)
    return _array_piece(value, where)


def _refuse(where: str, value: Any, why: str) -> CannotStore:
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    return CannotStore(f"{where} cannot be stored: {why}", where=where, type=name)


_torch_names: dict[Any, str] = {}
"""The names of torch's element types, as far as they were seen: asking a type for its own takes longer than all else here."""


def _torch_piece(value: Any, where: str) -> Piece:
    torch: Any = loaded("torch")
    if torch.nn.parameter.is_lazy(value):
        raise _refuse(where, value, "it has no shape before the first forward pass")
    # Holding the tensor itself is enough where its memory is copied as it lies.
    tensor = value if not value.requires_grad else value.detach()
    if tensor.device.type == "meta":
        raise _refuse(where, value, "it is on the meta device and holds no numbers")
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
        kind = "quantized" if tensor.is_quantized else "nested" if tensor.is_nested else str(tensor.layout)
        raise _refuse(where, value, f"it is {kind}, not a dense tensor")
    name = _torch_names.get(tensor.dtype)
    if name is None:
        name = str(tensor.dtype).removeprefix("torch.")
        if name not in DTYPES and name not in PAIRS:
            raise _refuse(where, value, f"there is no place for elements of type {name} in a file")
        _torch_names[tensor.dtype] = name
    made = Piece(tensor, "torch", name, list(tensor.shape), tensor.nbytes)
    lazy = tensor.is_conj() or tensor.is_neg()
    sharded = hasattr(tensor, "full_tensor")
    if not sharded and not _has_memory(tensor):
        raise _refuse(where, value, "its memory is not there, or was given back")
    if tensor.device.type == "cpu" and tensor.is_contiguous() and not lazy and not sharded:
        made.address = tensor.data_ptr()
    elif not lazy and not tensor.is_contiguous() and _is_dense(tensor):
        made.strides = list(tensor.stride())
    return made


def _has_memory(tensor: Any) -> bool:
    """Whether the memory that a tensor's shape speaks of is there: libraries that move weights away leave tensors without."""
    if not tensor.numel():
        return True
    try:
        last = tensor.storage_offset() + sum((side - 1) * stride for side, stride in zip(tensor.shape, tensor.stride(), strict=True))
        return bool((last + 1) * tensor.element_size() <= tensor.untyped_storage().nbytes() and tensor.data_ptr())
    except (RuntimeError, AssertionError, NotImplementedError):
        return False


def _is_dense(tensor: Any) -> bool:
    """Whether every element of the memory is one of the tensor, in some order of the sides."""
    expected = 1
    for stride, side in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if side != 1 and stride != expected:
            return False
        expected = stride * side if side != 1 else expected
    return bool(tensor.numel())


def _array_piece(value: Any, where: str) -> Piece:
    import numpy

    if hasattr(value, "mask") and hasattr(value, "filled"):
        raise _refuse(where, value, "its mask would be lost: give .filled(...), or data and mask")
    if type(value).__module__.partition(".")[0] in ("pandas", "polars", "xarray"):
        raise _refuse(where, value, "its labels would be lost: give its numbers, .to_numpy(), and the labels as text")
    array = value
    if not isinstance(value, numpy.ndarray):
        try:
            array = _as_array(numpy, value)
        except Exception as error:  # whatever a framework raises
            raise _refuse(where, value, f"it does not become a numpy array: {error}") from error
    if array.dtype.byteorder == ">" or (array.dtype.byteorder == "=" and sys.byteorder == "big"):
        array = array.astype(array.dtype.newbyteorder("<"))
    name = array.dtype.name
    if array.dtype.hasobject or (name not in DTYPES and name not in PAIRS):
        raise _refuse(where, value, f"there is no place for elements of type {array.dtype} in a file")
    framework = "scalar" if isinstance(value, numpy.generic) else "numpy"
    made = Piece(array, framework, name, list(array.shape), array.nbytes)
    if array.flags.c_contiguous:
        made.address = array.ctypes.data
    return made


def _as_array(numpy: Any, value: Any) -> Any:
    if hasattr(value, "detach"):
        value = value.detach()
    if hasattr(value, "numpy") and not hasattr(value, "__array__"):
        return value.numpy()
    if hasattr(value, "__array__") or isinstance(value, memoryview):
        return numpy.asarray(value)
    return numpy.from_dlpack(value)


def place(pieces: list[Piece], shared: bool = True) -> int:
    """Gives each piece its place in an arena, two names of the same memory the same one. Returns the arena's length."""
    places: dict[tuple[Any, ...], int] = {}
    end = 0
    for each in pieces:
        known = places.get(each.identity()) if shared and each.nbytes else None
        if known is not None:
            each.offset = known
            continue
        each.offset = end
        places[each.identity()] = end
        end += -(-each.nbytes // ALIGNMENT) * ALIGNMENT
    return end


def copy(pieces: list[Piece], arena: _native.Arena) -> None:
    """Copies all pieces to their places: dense memory in one pass on several threads, the rest by its framework."""
    direct = []
    seen = set()
    for each in pieces:
        if each.offset in seen or not each.nbytes:
            continue
        seen.add(each.offset)
        if each.address:
            direct.append((each.offset, each.address, each.nbytes))
        elif each.framework == "torch":
            _torch_view(each, arena).copy_(each.source)
        else:
            import numpy

            target = numpy.frombuffer(_buffer(arena, each.offset, each.nbytes), dtype=each.source.dtype)
            numpy.copyto(target.reshape(each.source.shape), each.source)
    arena.copy(direct)


def _buffer(arena: _native.Arena, offset: int, nbytes: int) -> Any:
    import ctypes

    return (ctypes.c_uint8 * nbytes).from_address(arena.address + offset)


def _torch_view(each: Piece, arena: _native.Arena) -> Any:
    torch = loaded("torch")
    flat = torch.frombuffer(_buffer(arena, each.offset, each.nbytes), dtype=torch.uint8)
    return flat.view(each.source.dtype).view(each.source.shape)


def restore(view: Any, dtype: str, shape: Sequence[int], framework: str, pair: str | None = None) -> Any:
    """A tensor of a file as one of ``framework``: ``"torch"``, ``"numpy"`` or ``"scalar"``. It owns its memory."""
    import numpy

    raw = numpy.asarray(view)
    sides = list(shape)
    if pair is not None:
        sides.pop()
    name = pair or NAMES[dtype]
    if framework == "torch":
        import torch

        flat = torch.empty(raw.nbytes, dtype=torch.uint8)
        flat.numpy()[...] = raw
        return flat.view(getattr(torch, name)).view(sides)
    array = raw.copy().view(_numpy_dtype(numpy, name)).reshape(sides)
    return array[()] if framework == "scalar" else array


def _numpy_dtype(numpy: Any, name: str) -> Any:
    if hasattr(numpy, name) and name != "bool":
        return numpy.dtype(getattr(numpy, name))
    if name == "bool":
        return numpy.dtype(bool)
    try:
        import ml_dtypes
    except ImportError:
        size = 1 if "8" in name else 2
        warnings.warn(f"numpy has no {name} without the package ml_dtypes: its bits are given", stacklevel=4)
        return numpy.dtype(f"uint{8 * size}")
    return numpy.dtype(getattr(ml_dtypes, name))
