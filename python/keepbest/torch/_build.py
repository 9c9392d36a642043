"""From a spec to a module of PyTorch: an ``fx.GraphModule`` whose submodules are those of ``torch.nn``, under the names of the spec."""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from keepbest import _native, errors
from keepbest.torch import _modules
from keepbest.torch._modules import Made
from keepbest.torch._start import constant

Spec = dict[str, Any]
Layer = Mapping[str, Any]

_ATTRIBUTES = "_user_preserved_attributes"  # the key under which fx keeps attributes when a GraphModule is copied


class Network(fx.GraphModule):
    """A module made of a spec. Its submodules are plain ones of ``torch.nn`` and may be replaced, frozen or hooked like any other."""

    # TorchScript reads the annotations that are there at run time, and knows none of these types.
    if TYPE_CHECKING:
        spec: Spec
        """What it was made of."""
        classes: list[str]
        """Class names, by label; empty where they are not known."""
        transform: Any
        """From an image to the network's input, for a module made by :func:`load`; else ``None``."""

    def describe(self, **attributes: Any) -> None:
        """Sets attributes that copies of the module keep."""
        self.meta.setdefault(_ATTRIBUTES, {}).update(attributes)
        for name, value in attributes.items():
            setattr(self, name, value)


def build(
    spec: Mapping[str, Any] | str | os.PathLike[str],
    *,
    input: tuple[int, int, int] | None = None,
    classes: int | None = None,
    device: Any = None,
    dtype: torch.dtype | None = None,
) -> Network:
    """A module of a spec, with the parameter names, shapes, buffers and starting distributions of our engine; drawn from PyTorch's generator.

    Args:
        spec: The spec: as data, the name of a network that ``keepbest models`` lists, a model file (``net.toml``), or a model
            (``best.safetensors``, a run), whose weights are left out.
        input: Channels, rows and columns of an image, for a name or a model file; else what is usual.
        classes: The number of classes, likewise.
        device: Where parameters are made.
        dtype: Their type.

    Raises:
        InvalidSpec: There is no such network, or its layers do not fit each other.

    The module takes ``[n, channels, rows, columns]`` and gives ``[n, classes]``, before any softmax. ``torch.compile``, ``torch.export``,
    ``torch.jit.script``, ``copy.deepcopy`` and pickling take it.
    """
    return build_checked(resolve(spec, input, classes), device, dtype)


def resolve(
    spec: Mapping[str, Any] | str | os.PathLike[str], input: tuple[int, int, int] | None = None, classes: int | None = None
) -> Spec:
    """The spec that is meant, checked."""
    if isinstance(spec, Mapping):
        if input is not None or classes is not None:
            raise errors.InvalidOption("input and classes are for the name of a network or a model file: a spec says its own")
        return checked(spec)
    name = os.fspath(spec)
    if not name.endswith(".toml") and (os.path.exists(name) or "@" in name):
        from keepbest._model import load

        model = load(name)
        if model.spec is None:
            raise errors.NoNetwork(f"{name} holds weights alone, without the network they belong to", path=name)
        return checked(model.spec)
    found: Spec = json.loads(_native.network_spec(name, input, classes))
    return found


def checked(spec: Mapping[str, Any]) -> Spec:
    """The same as our engine writes it.

    Raises:
        InvalidSpec: It is no spec, or its layers do not fit each other.
    """
    try:
        text = json.dumps(spec)
    except (TypeError, ValueError) as error:
        raise errors.InvalidSpec(f"the spec cannot be written as JSON: {error}") from error
    read: Spec = json.loads(_native.read_spec(text)[0])
    return read


def build_checked(spec: Spec, device: Any = None, dtype: torch.dtype | None = None) -> Network:
    """A module of a spec that is known to fit together."""
    builder = _Builder(spec)
    module = Network(builder.root, builder.graph, class_name="Network")
    _in_place(module)
    module.to_empty(device=device or torch.get_default_device())
    if dtype is not None:
        module.to(dtype=dtype)
    with torch.no_grad():
        tensors = dict(module.named_parameters()) | dict(module.named_buffers())
        for name, start in builder.starts.items():
            start(tensors[name])
    module.describe(spec=spec, classes=[], transform=None)
    return module


@dataclass(frozen=True)
class Value:
    """A value in the graph."""

    node: fx.Node
    sample: torch.Tensor
    """A tensor of its shape, on the meta device. A map has four sides, a vector two."""
    last: bool = False
    """Whether its channels are the last side, rather than the second."""

    @property
    def channels(self) -> int:
        """Channels of a map, features of a vector."""
        return self.sample.shape[-1 if self.last else 1]


class _Builder:
    """Adds the layers of a spec to a graph, one by one."""

    def __init__(self, spec: Spec) -> None:
        self.graph, self.root = fx.Graph(), nn.Module()
        self.starts: dict[str, Any] = {}
        self._taken = _names(spec["layers"], "")
        self._permuted: dict[tuple[fx.Node, bool], Value] = {}
        size = spec["input"]
        sample = torch.empty(2, size["channels"], size["height"], size["width"], device="meta")
        value = self.sequence("", spec["layers"], Value(self.graph.placeholder("x"), sample))
        self.graph.output(self.first(value).node)

    def sequence(self, prefix: str, layers: list[Layer], value: Value) -> Value:
        """Adds layers in order; ``prefix`` is the name of the block they are in."""
        for position, layer in enumerate(layers):
            value = self.layer(prefix, position, layer, [value])
        return value

    def layer(self, prefix: str, position: int, layer: Layer, values: list[Value]) -> Value:
        """Adds one layer of a list."""
        op, own = layer["op"], layer.get("name", str(position))
        place = prefix if op == "repeat" else join(prefix, own)
        block = getattr(self, f"_{op}", None)
        if block is not None:
            found: Value = block(place, layer, *values)
            return found
        function = _modules.FUNCTIONS.get(op)
        if function is not None:
            return self._call(function, values)
        make = _modules.MODULES.get(op)
        if make is None:
            raise errors.InvalidSpec(f"layer {place} ({op}): keepbest.torch has no module of it")
        return self._module(place, layer, make(layer, values[0].sample, values[0].channels), values[0])

    def first(self, value: Value) -> Value:
        """The value with its channels as the second side."""
        return self._permute(value, last=False) if value.sample.dim() == 4 else value

    def _permute(self, value: Value, last: bool) -> Value:
        if value.last == last:
            return value
        key = (value.node, last)
        if key not in self._permuted:
            order = (0, 2, 3, 1) if last else (0, 3, 1, 2)
            node = self.graph.call_method("permute", (value.node, *order))
            made = Value(node, value.sample.permute(order), last)
            self._permuted[key] = made
            self._permuted[(node, not last)] = value
        return self._permuted[key]

    def _module(self, place: str, layer: Layer, made: Made, value: Value) -> Value:
        if made.last is not None and value.sample.dim() == 4:
            value = self._permute(value, made.last)
        if made.before is not None:
            value = self._module(f"{place}_pad", {"op": "pad2d"}, Made(made.before), value)
        has_tensors = any(True for _ in made.module.parameters()) or any(True for _ in made.module.buffers())
        name = place if has_tensors else self._free(place, layer["op"])
        _put(self.root, name, made.module)
        self.starts.update({f"{name}.{part}": start for part, start in made.starts.items()})
        node = self.graph.call_module(name, (value.node,))
        with torch.no_grad():
            return Value(node, made.module.to("meta")(value.sample), value.last)

    def _call(self, function: Any, values: list[Value]) -> Value:
        """A function of maps or vectors, in one layout."""
        last = all(value.last for value in values)
        values = [self._permute(value, last) if value.sample.dim() == 4 else value for value in values]
        node = self.graph.call_function(function, tuple(value.node for value in values))
        return Value(node, function(*(value.sample for value in values)), last)

    def _free(self, place: str, op: str) -> str:
        """A name for a module without tensors that no other has."""
        name, number = place, 1
        while name in self._taken:
            name = f"{place}_{op}" if number == 1 else f"{place}_{op}_{number}"
            number += 1
        self._taken.add(name)
        return name

    def _sequential(self, place: str, layer: Layer, value: Value) -> Value:
        return self.sequence(place, layer["layers"], value)

    def _repeat(self, place: str, layer: Layer, value: Value) -> Value:
        pattern, first = layer.get("name", "{}"), layer.get("first", 0)
        for copy in range(first, first + layer["times"]):
            value = self.sequence(join(place, pattern.replace("{}", str(copy))), layer["layers"], value)
        return value

    def _residual(self, place: str, layer: Layer, value: Value) -> Value:
        body = self.sequence(place, layer["body"], value)
        return self._call(operator.add, [body, self.sequence(place, layer.get("shortcut", []), value)])

    def _gate(self, place: str, layer: Layer, value: Value) -> Value:
        return self._call(operator.mul, [value, self.sequence(place, layer["body"], value)])

    def _branch(self, place: str, layer: Layer, value: Value) -> Value:
        return self._concat(place, layer, *(self.sequence(place, branch, value) for branch in layer["branches"]))

    def _graph(self, place: str, layer: Layer, value: Value) -> Value:
        known, latest = {"input": value}, value
        for position, node in enumerate(layer["nodes"]):
            inner = node["layer"]
            values = [known[name] for name in node["from"]] if "from" in node else [latest]
            latest = self.layer(place, position, inner, values)
            known[node.get("id", inner.get("name", str(position)))] = latest
        return known[layer["output"]] if "output" in layer else latest

    def _concat(self, _place: str, _layer: Layer, *values: Value) -> Value:
        firsts = [self.first(value) for value in values]
        node = self.graph.call_function(torch.cat, ([value.node for value in firsts], 1))
        return Value(node, torch.cat([value.sample for value in firsts], 1))

    def _add(self, _place: str, layer: Layer, *values: Value) -> Value:
        function = _modules.OF_TWO[layer["op"]]
        result = values[0]
        for value in values[1:]:
            result = self._call(function, [result, value])
        return result

    _sub = _mul = _div = _maximum = _minimum = _add

    def _flatten(self, _place: str, _layer: Layer, value: Value) -> Value:
        if value.sample.dim() == 2:
            return value
        value = self.first(value)
        return Value(self.graph.call_function(torch.flatten, (value.node, 1)), torch.flatten(value.sample, 1))

    def _identity(self, _place: str, _layer: Layer, value: Value) -> Value:
        return value

    def _channel_slice(self, _place: str, layer: Layer, value: Value) -> Value:
        value = self.first(value)
        start = layer.get("start", 0)
        length = layer.get("end", value.channels) - start
        node = self.graph.call_method("narrow", (value.node, 1, start, length))
        return Value(node, value.sample.narrow(1, start, length))

    def _crop(self, _place: str, layer: Layer, value: Value) -> Value:
        value = self.first(value)
        height, width = value.sample.shape[2:]
        sides = [layer.get(side, 0) for side in ("top", "bottom", "left", "right")]
        for dim, start, length in ((2, sides[0], height - sides[0] - sides[1]), (3, sides[2], width - sides[2] - sides[3])):
            node = self.graph.call_method("narrow", (value.node, dim, start, length))
            value = Value(node, value.sample.narrow(dim, start, length))
        return value

    def _layer_scale(self, place: str, layer: Layer, value: Value) -> Value:
        flat, scalar = layer.get("flat", False), layer.get("scalar", False)
        value = self._permute(value, value.last and (flat or scalar))
        shape = [] if scalar else [value.channels] if flat else [value.channels, 1, 1]
        block, _, own = place.rpartition(".")
        _container(self.root, block).register_parameter(own, nn.Parameter(torch.empty(shape, device="meta")))
        self.starts[place] = constant(layer["init"])
        factor = self.graph.get_attr(place)
        if flat and value.sample.dim() == 4 and not value.last:
            factor = self.graph.call_method("view", (factor, -1, 1, 1))
        return Value(self.graph.call_function(operator.mul, (value.node, factor)), value.sample, value.last)


def join(prefix: str, own: str) -> str:
    """A name inside a block; an empty one adds nothing."""
    return f"{prefix}.{own}" if prefix and own else prefix or own


def _names(layers: list[Layer], prefix: str) -> set[str]:
    """The names of all layers that have tensors, and of the blocks around them: no other module can have them."""
    names: set[str] = set()
    for position, layer in enumerate(layers):
        place = join(prefix, layer.get("name", str(position)))
        if layer["op"] == "repeat":
            pattern, first = layer.get("name", "{}"), layer.get("first", 0)
            for copy in range(first, first + layer["times"]):
                names |= _names(layer["layers"], join(prefix, pattern.replace("{}", str(copy))))
            continue
        inner = [layer.get(key, []) for key in ("layers", "body", "shortcut")] + list(layer.get("branches", []))
        if layer["op"] == "graph":
            inner.append([{**node["layer"], "name": node["layer"].get("name", str(at))} for at, node in enumerate(layer["nodes"])])
        for each in inner:
            names |= _names(each, place)
        if layer["op"] in _modules.WITH_TENSORS:
            parts = place.split(".")
            names |= {".".join(parts[: end + 1]) for end in range(len(parts))}
    return names


def _container(root: nn.Module, name: str) -> nn.Module:
    """The module called ``name``, made if need be."""
    for part in name.split(".") if name else []:
        if part not in root._modules:
            _add_module(root, part, nn.Module())
        root = root.get_submodule(part)
    return root


def _put(root: nn.Module, name: str, module: nn.Module) -> None:
    block, _, own = name.rpartition(".")
    _add_module(_container(root, block), own, module)


def _add_module(parent: nn.Module, name: str, module: nn.Module) -> None:
    if name in parent._modules:
        raise errors.InvalidSpec(f"two layers are called {name}, or a layer is called as a block beside it")
    try:
        parent.add_module(name, module)
    except KeyError as error:
        raise errors.InvalidSpec(f"PyTorch has no room for a layer called {name}: {error.args[0]}") from error


def _in_place(module: fx.GraphModule) -> None:
    """Has rectifiers write over what only they read, as PyTorch's own networks do."""
    for node in module.graph.nodes:
        if node.op != "call_module":
            continue
        function, before = module.get_submodule(node.target), node.args[0]
        if not isinstance(function, nn.ReLU | nn.ReLU6) or len(before.users) > 1:
            continue
        if before.op == "call_module":
            function.inplace = isinstance(module.get_submodule(before.target), nn.Conv2d | nn.BatchNorm2d | nn.Linear)
        else:
            function.inplace = before.op == "call_function" and before.target is operator.add
