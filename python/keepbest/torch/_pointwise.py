"""Functions of each value alone, and softmax."""

from __future__ import annotations

from typing import Any

from keepbest.torch._functions import HANDLERS, but, parts_of, says, slice_of
from keepbest.torch._record import Call, CannotSay, Handler
from keepbest.torch._views import View

for _key in ("relu", "relu6", "sigmoid", "silu", "hardsigmoid", "hardswish", "selu", "tanh", "mish", "abs", "sqrt", "square", "exp", "log", "erf"):
    HANDLERS[_key] = lambda call: call.same(call.view(), call.key)


def _with(op: str, *settings: tuple[int, str, str, Any]) -> Handler:
    def handler(call: Call) -> Any:
        return call.same(call.view(), op, {own: call.get(at, name, usual) for at, name, own, usual in settings})

    return handler


HANDLERS["leaky_relu"] = _with("leaky_relu", (1, "negative_slope", "slope", 0.01))
HANDLERS["elu"] = _with("elu", (1, "alpha", "alpha", 1.0))
HANDLERS["celu"] = _with("celu", (1, "alpha", "alpha", 1.0))


@says("gelu")
def _gelu(call: Call) -> Any:
    return call.same(call.view(), "gelu", but({"approximate": call.get(1, "approximate", "none")}, approximate="none"))


@says("softplus")
def _softplus(call: Call) -> Any:
    return call.same(call.view(), "softplus", but({"beta": float(call.get(1, "beta", 1.0))}, beta=1.0))


@says("hardtanh", "clamp", "clip")
def _clip(call: Call) -> Any:
    names, usual = (("min_val", "max_val"), (-1.0, 1.0)) if call.key == "hardtanh" else (("min", "max"), (None, None))
    low, high = (call.get(at + 1, name, value) for at, (name, value) in enumerate(zip(names, usual, strict=True)))
    if (low, high) == (0, 6):
        return call.same(call.view(), "relu6")
    if low == 0 and high is None:
        return call.same(call.view(), "relu")
    if not isinstance(low, int | float | None) or not isinstance(high, int | float | None):
        raise CannotSay("its limits are tensors; a spec has numbers")
    return call.same(call.view(), "clip", {key: float(value) for key, value in (("min", low), ("max", high)) if value is not None})


@says("softmax", "log_softmax")
def _softmax(call: Call) -> Any:
    view, dim = call.view(), call.get(1, "dim")
    dim = dim % len(view.sides)
    if view.is_whole(dim, "c"):
        return call.same(view, call.key)
    parts = parts_of(view, dim) if call.key == "softmax" else None
    if parts is None or len(parts) != 2:
        raise CannotSay("it goes over another side than the channels")
    # Of two values it is a sigmoid of their difference.
    recorder, (a, b) = call.recorder, (slice_of(call, view.node, part) for part in parts)
    halves = []
    for one, other in ((a, b), (b, a)):
        difference = recorder.node("sub", [one, other], one.shape)
        halves.append(recorder.node("sigmoid", [difference], one.shape))
    return View(recorder.node("concat", halves, view.node.shape), view.sides)


@says("dropout")
def _dropout(call: Call) -> Any:
    p = float(call.get(1, "p", 0.5))
    return call.same(call.view(), "dropout", {"p": p}) if p > 0 else call.view()
