"""Arithmetic: of two maps, of a map and a number, of a map and a parameter."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from keepbest.torch._functions import but, says
from keepbest.torch._record import Call, CannotSay, Parameter
from keepbest.torch._views import View, broadcast

_OPS = {
    **{key: "add" for key in ("add", "iadd", "radd")},
    **{key: "sub" for key in ("sub", "isub", "subtract", "rsub")},
    **{key: "mul" for key in ("mul", "imul", "rmul", "multiply")},
    **{key: "div" for key in ("div", "truediv", "itruediv", "true_divide", "divide", "rtruediv", "rdiv")},
    **{key: key for key in ("maximum", "minimum", "pow")},
}
_REVERSED = ("radd", "rsub", "rmul", "rtruediv", "rdiv")


@says(*_OPS)
def _arithmetic(call: Call) -> Any:
    a, b = call.get(0, "input"), call.get(1, "other", call.kwargs.get("exponent"))
    op = _OPS[call.key]
    if call.key in _REVERSED:
        a, b = b, a
    alpha = call.kwargs.get("alpha", 1)
    known_a, known_b = call.recorder.known(a), call.recorder.known(b)
    if isinstance(known_a, Parameter) and isinstance(known_b, Parameter):
        raise CannotSay("it is computed of two parameters")
    if isinstance(known_a, View) and isinstance(known_b, View):
        return _of_two(call, op, known_a, known_b, alpha)
    if isinstance(known_a, Parameter) or isinstance(known_b, Parameter):
        return _with_parameter(call, op, known_a, known_b, a, b)
    number_a, number_b = _number(a), _number(b)
    if isinstance(known_a, View) and number_b is not None:
        return _with_number(call, op, known_a, number_b * alpha)
    if isinstance(known_b, View) and number_a is not None:
        return _number_with(call, op, number_a, known_b)
    raise CannotSay("it is computed with a tensor that is no parameter, nor of the image")


def _number(value: Any) -> float | None:
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, Tensor) and value.numel() == 1:
        return float(value.item())
    return None


def _of_two(call: Call, op: str, a: View, b: View, alpha: Any) -> View:
    sides = broadcast(a, b)
    if alpha != 1:
        b = View(call.recorder.node("affine", [b.node], b.node.shape, {"scale": float(alpha), "shift": 0.0}), b.sides)
    if op not in ("add", "sub", "mul", "div", "maximum", "minimum"):
        raise CannotSay("it is computed of two values")
    if a.node is b.node:
        if op == "mul":
            return View(call.recorder.node("square", [a.node], a.node.shape), sides)
        if op == "add":
            return View(call.recorder.node("affine", [a.node], a.node.shape, {"scale": 2.0, "shift": 0.0}), sides)
    shape = tuple(max(one, other) for one, other in zip(a.node.shape, b.node.shape, strict=True))
    return View(call.recorder.node(op, [a.node, b.node], (shape[0], shape[1], shape[2])), sides)


def _with_number(call: Call, op: str, view: View, number: float) -> View:
    """A map and a number."""
    if op == "pow":
        if number == 2:
            return call.same(view, "square")
        if number == 0.5:
            return call.same(view, "sqrt")
        return call.same(view, "pow", {"exponent": number})
    scale, shift = {"add": (1.0, number), "sub": (1.0, -number), "mul": (number, 0.0)}.get(op, (None, 0.0))
    if op == "div":
        scale = 1.0 / number
    if scale is None:
        return call.same(view, "clip", {"min" if op == "maximum" else "max": number})
    if (scale, shift) == (1.0, 0.0):
        return view
    return call.same(view, "affine", {"scale": scale, "shift": shift})


def _number_with(call: Call, op: str, number: float, view: View) -> View:
    """A number and a map."""
    if op == "sub":
        return call.same(view, "affine", {"scale": -1.0, "shift": number})
    if op == "div":
        inverse = call.same(view, "pow", {"exponent": -1.0})
        return inverse if number == 1 else call.same(inverse, "affine", {"scale": number, "shift": 0.0})
    if op == "pow":
        raise CannotSay("it is a number to the power of a map")
    return _with_number(call, op, view, number)


@says("neg", "negative")
def _neg(call: Call) -> Any:
    return call.same(call.view(), "affine", {"scale": -1.0, "shift": 0.0})


@says("rsqrt")
def _rsqrt(call: Call) -> Any:
    return call.same(call.view(), "pow", {"exponent": -0.5})


@says("reciprocal")
def _reciprocal(call: Call) -> Any:
    return call.same(call.view(), "pow", {"exponent": -1.0})


def _with_parameter(call: Call, op: str, known_a: Any, known_b: Any, a: Any, b: Any) -> Any:
    """A trained factor or summand."""
    parameter, other, tensor = (known_a, known_b, a) if isinstance(known_a, Parameter) else (known_b, known_a, b)
    number = _number(b if parameter is known_a else a)
    if other is None:
        if op == "mul" and number is not None and parameter.eps is None:
            return Parameter(parameter.name, parameter.shape, parameter.factor * number)
        raise CannotSay(f"something is computed of {parameter.name} alone")
    if not parameter.is_plain():
        raise CannotSay(f"something is computed of {parameter.name} while it runs")
    if op not in ("add", "mul"):
        raise CannotSay(f"{parameter.name} is neither a factor nor a summand")
    if math.prod(parameter.shape) == 1 and other.node.shape[0] != 1:
        start = float(tensor.flatten()[0])
        if op == "mul" and parameter.shape == ():
            call.recorder.own(parameter)
            return call.same(other, "layer_scale", {"init": start, "scalar": True}, parameter.name)
        if parameter.shape != (1,):
            raise CannotSay(f"{parameter.name} has the shape {list(parameter.shape)}; a trained number has [1]")
        name = parameter.of_module("scale" if op == "mul" else "bias")
        call.recorder.own(parameter)
        settings = {"bias": False, "scale_init": start} if op == "mul" else {"scale": False, "bias_init": start}
        return call.same(other, "scalar_affine", but(settings, scale_init=1.0, bias_init=0.0), name)
    return _for_each_channel(call, op, parameter, other, tensor)


def _for_each_channel(call: Call, op: str, parameter: Parameter, view: View, tensor: Tensor) -> View:
    """A trained factor or summand for each channel."""
    channels = view.node.shape[0]
    sides = [at for at, side in enumerate(tensor.shape) if side != 1]
    dim = sides[0] - tensor.dim() + len(view.sides) if len(sides) == 1 else -1
    if dim < 0 or not view.is_whole(dim, "c"):
        raise CannotSay(f"{parameter.name} {list(parameter.shape)} is not one number for each channel")
    if op == "mul" and parameter.shape in ((channels,), (channels, 1, 1)):
        call.recorder.own(parameter)
        settings = {"init": float(tensor.flatten()[0]), **({"flat": True} if parameter.shape == (channels,) else {})}
        return call.same(view, "layer_scale", settings, parameter.name)
    if parameter.shape != (channels,):
        raise CannotSay(f"{parameter.name} has the shape {list(parameter.shape)}; a parameter for each channel has [{channels}]")
    name = parameter.of_module("weight" if op == "mul" else "bias")
    call.recorder.own(parameter)
    return call.same(view, "scale2d", {"bias": False} if op == "mul" else {"weight": False}, name)
