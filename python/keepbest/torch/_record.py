"""Follows a module while it runs on an example: every function of PyTorch that it calls becomes a node, or is named as what a spec cannot say.

Neither ``torch.fx`` nor ``torch.export`` is used. ``torch.fx`` runs a module on symbols, which fails where it asks a tensor for its shape to
decide something, as ``same`` padding does. ``torch.export`` gives ATen operators, and nothing of what a module does in training alone: dropout by
images, stochastic depth. Here the module runs as it is, on numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from keepbest.torch._nodes import Node, Shape
from keepbest.torch._views import Mixed, View, whole


@dataclass(frozen=True)
class Unsupported:
    """Something that a module does and a spec cannot say."""

    path: str
    """The module that does it; empty for the outermost."""
    kind: str
    """What it is: the function of PyTorch, or the class of the module."""
    why: str
    """Why a spec cannot say it."""

    def __str__(self) -> str:
        return f"{self.path or 'the module itself'}: {self.kind}: {self.why}"


class CannotSay(Exception):
    """A call has no place in a spec; the text says why."""


@dataclass(frozen=True)
class Parameter:
    """A parameter or buffer, or what was made of one."""

    name: str
    shape: tuple[int, ...]
    """Its own shape, whatever it was brought to."""
    factor: float = 1.0
    """A number that it was multiplied with."""
    eps: float | None = None
    """Where it was standardised: what was added to the variance."""
    gain: Parameter | None = None
    """Where it was standardised: the parameter that it was multiplied with."""

    def of_module(self, attribute: str) -> str:
        """The name of its module, where the parameter is called ``attribute`` there.

        Raises:
            CannotSay: It is called otherwise.
        """
        module, _, own = self.name.rpartition(".")
        if own != attribute or not module:
            raise CannotSay(f"its parameter is called {self.name}; in a spec it would be the {attribute} of a layer")
        return module

    def is_plain(self) -> bool:
        """Whether nothing was computed of it."""
        return self.factor == 1.0 and self.eps is None


Handler = Callable[["Call"], Any]


@dataclass
class Call:
    """A call of a function of PyTorch, and what came of it."""

    recorder: Recorder
    key: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any

    def get(self, position: int, name: str, usual: Any = None) -> Any:
        """An argument, by place or name."""
        if position < len(self.args):
            return self.args[position]
        return self.kwargs.get(name, usual)

    def view(self, position: int = 0, name: str = "input") -> View:
        """The view that a tensor among the arguments is."""
        value = self.get(position, name)
        if value is None and name == "input":
            value = self.kwargs.get("self")
        known = self.recorder.known(value)
        if not isinstance(known, View):
            raise CannotSay("its input is not computed of the image")
        return known

    def parameter(self, position: int, name: str) -> Parameter | None:
        """The parameter that an argument is, if there is one."""
        value = self.get(position, name)
        if value is None:
            return None
        known = self.recorder.known(value)
        if isinstance(known, Parameter):
            return known
        raise CannotSay(f"its {name} is computed while it runs")

    def map(self, position: int = 0, name: str = "input") -> Node:
        """The node of an argument that is a map."""
        return self.recorder.as_map(self.view(position, name))

    def map_of(self, op: str, inputs: list[Node], settings: dict[str, Any] | None = None, name: str | None = None) -> View:
        """A new node that makes the result, which is a map."""
        shape = tuple(self.result.shape[1:])
        if len(shape) != 3:
            raise CannotSay(f"it gives {list(self.result.shape)}, which is no map")
        node = self.recorder.node(op, inputs, (shape[0], shape[1], shape[2]), settings, name)
        return View.of_map(node, self.recorder.batch)

    def same(self, view: View, op: str, settings: dict[str, Any] | None = None, name: str | None = None) -> View:
        """A new node of a view's shape, seen as it is."""
        return View(self.recorder.node(op, [view.node], view.node.shape, settings, name), view.sides)


@dataclass
class Recorder:
    """What has been found so far."""

    module: nn.Module
    batch: int
    handlers: dict[str, Handler]
    leaf_of: Callable[[nn.Module], Callable[[Call, Any], Any] | None]
    found: list[Unsupported] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    """Parameters and buffers that a layer has."""

    def __post_init__(self) -> None:
        self._known: dict[int, tuple[Any, View | Parameter]] = {}
        self._path: list[str] = [""]
        self._inside = 0
        self._resolved: dict[tuple[int, Any], Node] = {}
        names = [*self.module.named_parameters(), *self.module.named_buffers()]
        for name, tensor in names:
            self._known.setdefault(id(tensor), (tensor, Parameter(name, tuple(tensor.shape))))

    def known(self, value: Any) -> View | Parameter | None:
        """What a tensor is known as."""
        entry = self._known.get(id(value))
        return entry[1] if entry is not None else None

    def remember(self, value: Any, known: View | Parameter) -> None:
        """Makes a tensor known, and keeps it, so that no other gets its identity."""
        self._known[id(value)] = (value, known)

    def node(
        self, op: str, inputs: list[Node], shape: Shape, settings: dict[str, Any] | None = None, name: str | None = None
    ) -> Node:
        """A new node."""
        return Node(op, inputs, shape, dict(settings or {}), name)

    def own(self, *parameters: Parameter | None) -> None:
        """Takes parameters for a layer.

        Raises:
            CannotSay: Another layer has one of them.
        """
        names = [parameter.name for parameter in parameters if parameter is not None]
        for name in names:
            if name in self.used:
                raise CannotSay(f"{name} is used more than once: a spec has every parameter in one layer")
        self.used.update(names)

    def as_map(self, view: View) -> Node:
        """The node of a view that is a map ``[n, c, h, w]``, or one behind a shuffle of its channels."""
        if not view.is_map():
            raise CannotSay("its input is no map [n, channels, rows, columns]")
        return self.in_order(view, 1)

    def in_order(self, view: View, dim: int) -> Node:
        """The node whose channels are in the order of a side."""
        side, channels = view.sides[dim], view.node.shape[0]
        if side == whole("c", channels):
            return view.node
        if len(side) == 2 and side[0].stride == 1 and side[1].stride == side[0].size and side[0].size * side[1].size == channels:
            return self._once(view.node, "channel_shuffle", view.node.shape, {"groups": side[1].size})
        raise CannotSay("its channels were put into another order than a shuffle does, or some of them are missing")

    def _once(self, node: Node, op: str, shape: Shape, settings: dict[str, Any]) -> Node:
        key = (id(node), (op, str(settings)))
        if key not in self._resolved:
            self._resolved[key] = self.node(op, [node], shape, settings)
        return self._resolved[key]

    def slice(self, node: Node, start: int, end: int) -> Node:
        """Some channels of a node."""
        if (start, end) == (0, node.shape[0]):
            return node
        return self._once(node, "channel_slice", (end - start, *node.shape[1:]), {"start": start, "end": end})

    def note(self, kind: str, why: str) -> None:
        """Remembers something that cannot be said, once."""
        item = Unsupported(self._path[-1], kind, why)
        if item not in self.found:
            self.found.append(item)

    def run(self, example: Tensor) -> tuple[View | None, Tensor]:
        """Runs the module, and follows it: the view of its output, if it is known, and the output."""
        channels, height, width = example.shape[1:]
        self.remember(example, View.of_map(Node("input", [], (channels, height, width)), self.batch))
        with self._hooks(), _Mode(self):
            output = self.module(example)
        if not isinstance(output, Tensor):
            self.note(type(output).__name__, f"the module gives a {type(output).__name__}, not one tensor [n, classes]")
            return None, output
        known = self.known(output)
        return (known if isinstance(known, View) else None), output

    @contextmanager
    def _hooks(self) -> Iterator[None]:
        """Knows in which module a function is called, and takes some modules as a whole."""
        handles = []
        for path, module in self.module.named_modules():
            leaf = self.leaf_of(module)
            handles.append(module.register_forward_pre_hook(self._enter(path, leaf is not None)))
            handles.append(module.register_forward_hook(self._leave(path, leaf), with_kwargs=True, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, path: str, is_leaf: bool) -> Callable[..., None]:
        def enter(_module: nn.Module, _args: Any) -> None:
            self._path.append(path)
            self._inside += is_leaf

        return enter

    def _leave(self, path: str, leaf: Any) -> Callable[..., None]:
        def leave(module: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
            if leaf is not None:
                self._inside -= 1
                if not self._inside and result is not None:
                    self._take(lambda call: leaf(call, module), Call(self, type(module).__name__, args, kwargs, result))
            self._path.pop()

        return leave

    def called(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls a function, and records it where it is one of tensors that are known."""
        result = function(*args, **kwargs)
        if self._inside or not _tensors(result) or not any(self.known(value) for value in _tensors((args, kwargs))):
            return result
        key = getattr(function, "__name__", str(function)).strip("_")
        if key == "get":
            # An attribute, such as `x.data`.
            key = getattr(getattr(function, "__self__", None), "__name__", key)
        call = Call(self, key, args, kwargs, result)
        handler = self.handlers.get(key)
        if handler is None:
            self._opaque(call, "there is no layer that does it")
        else:
            self._take(handler, call)
        return result

    def _take(self, handler: Handler, call: Call) -> None:
        try:
            known = handler(call)
        except CannotSay as error:
            self._opaque(call, str(error))
            return
        except Mixed:
            self._opaque(call, "it mixes images, channels, rows and columns in a way that no layer does")
            return
        results = _tensors(call.result)
        for value, each in zip(results, known if isinstance(known, list) else [known], strict=True):
            if each is not None:
                self.remember(value, each)

    def _opaque(self, call: Call, why: str) -> None:
        """Notes a call that cannot be said, and goes on with what it gives as if it were an image, to find what else there is."""
        of_image = any(isinstance(self.known(value), View) for value in _tensors((call.args, call.kwargs)))
        if not of_image:
            # What is computed of parameters alone is told where it meets the image.
            return
        self.note(call.key, why)
        for value in _tensors(call.result):
            shape = [*value.shape[1:], 1, 1][: max(3, value.dim() - 1)]
            if value.dim() < 2 or value.shape[0] != self.batch or len(shape) != 3:
                self._known.pop(id(value), None)
                continue
            if value.dim() == 3:
                # Mostly tokens.
                shape = [value.shape[2], value.shape[1], 1]
                sides = (whole("n", self.batch), whole("h", shape[1]), whole("c", shape[0]))
                self.remember(value, View(self.node("opaque", [], (shape[0], shape[1], 1)), sides))
                continue
            view = View.of_map(self.node("opaque", [], (shape[0], shape[1], shape[2])), self.batch)
            self.remember(value, View(view.node, view.sides[: value.dim()]))


class _Mode(TorchFunctionMode):
    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._recorder.called(func, args, kwargs or {})


def _tensors(value: Any) -> list[Tensor]:
    """All tensors in arguments or results."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, tuple | list):
        return []
    return [tensor for each in value for tensor in _tensors(each)]


def example_of(example: Tensor) -> Tensor:
    """The same images, at least two, so that the batch is told from sides of a length of 1."""
    return example if example.shape[0] > 1 else torch.cat([example, example])
