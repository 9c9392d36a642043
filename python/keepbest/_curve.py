"""A run as a curve, for notebooks: HTML that needs nothing but itself, on light ground and on dark."""

from __future__ import annotations

import math
from html import escape
from typing import Any

_WIDTH, _HEIGHT, _LEFT, _TOP, _BETWEEN = 330, 170, 52, 22, 40

# Blue and orange are told apart on either ground, by colour-blind eyes, too.
_COLOURS = ("#2f8fd0", "#e07020")

_STYLE = """
.keepbest-run { font: 12px system-ui, sans-serif; max-width: 780px; color: inherit }
.keepbest-run svg { width: 100%; height: auto; overflow: visible; color: inherit }
.keepbest-run svg text { font: 11px system-ui, sans-serif; fill: currentColor }
.keepbest-run .line { fill: none; stroke-width: 1.8; stroke-linejoin: round }
.keepbest-run .axis { stroke: currentColor; stroke-opacity: .25 }
.keepbest-run .best { fill: none; stroke: currentColor; stroke-width: 1.5 }
.keepbest-run .state { opacity: .75 }
"""


class Curve:
    """What was measured so far. ``steps`` are those planned, where the run is under way."""

    def __init__(self, run: str, monitor: str, steps: int | None = None) -> None:
        self.run, self.monitor, self.steps = run, monitor, steps
        self.state = ""
        self._points: list[tuple[int, int, dict[str, float]]] = []
        self._best: tuple[int, float] | None = None

    def add(self, step: int, epoch: int, metrics: dict[str, float], value: float, improved: bool) -> None:
        """One evaluation more; ``value`` is what is monitored."""
        self._points.append((step, epoch, {**metrics, self.monitor: value}))
        if improved:
            self._best = step, value

    def add_history(self, history: list[dict[str, Any]]) -> None:
        """The evaluations of a run that are over."""
        for record in history:
            improved = record["verdict"] == "improved"
            self.add(record["step"], record["epoch"], record["metrics"], record["value"], improved)

    def _repr_html_(self) -> str:
        return self.html(f"{self.run}: {self.state}" if self.state else self.run)

    def __repr__(self) -> str:
        return f"<keepbest run {self.run!r}: {self.state}>"

    def html(self, state: str) -> str:
        """The curves, with a line of text below."""
        measured = {name for _, _, metrics in self._points for name in metrics}
        split, _, metric = self.monitor.rpartition("/")
        first = [name for name in (self.monitor, f"train/{metric}") if name in measured and split]
        panels: list[list[str]] = [first or [self.monitor]]
        losses: list[str] = [name for name in ("val/loss", "train/loss") if name in measured]
        if losses and sorted(losses) != sorted(panels[0]):
            panels.append(losses)
        drawn = "".join(
            self._panel(names, at * (_WIDTH + _LEFT + _BETWEEN) + _LEFT) for at, names in enumerate(panels)
        )
        width = len(panels) * (_WIDTH + _LEFT + _BETWEEN)
        return (
            f'<div class="keepbest-run"><style>{_STYLE}</style>'
            f'<svg viewBox="0 0 {width} {_HEIGHT + _TOP + 26}" role="img" aria-label="{escape(state, quote=True)}">{drawn}</svg>'
            f'<div class="state">{escape(state)}</div></div>'
        )

    def _panel(self, names: list[str], left: int) -> str:
        lines = {
            name: [
                (step, metrics[name])
                for step, _, metrics in self._points
                if math.isfinite(metrics.get(name, math.nan))
            ]
            for name in names
        }
        values = [value for line in lines.values() for _, value in line]
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        if low == high:
            low, high = low - 0.5, high + 0.5
        last = self.steps or max((step for step, _, _ in self._points), default=1) or 1

        def place(step: int, value: float) -> tuple[float, float]:
            return left + _WIDTH * step / last, _TOP + _HEIGHT * (high - value) / (high - low)

        parts = []
        for value in (low, (low + high) / 2, high):
            y = place(0, value)[1]
            parts.append(f'<line class="axis" x1="{left}" x2="{left + _WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>')
        if self._points:
            step, epoch, _ = self._points[-1]
            x = place(step, low)[0]
            parts.append(f'<text x="{x:.1f}" y="{_TOP + _HEIGHT + 16}" text-anchor="middle">epoch {epoch}</text>')
        for at, (name, line) in enumerate(lines.items()):
            colour = _COLOURS[at % len(_COLOURS)]
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in line))
            parts.append(f'<polyline class="line" stroke="{colour}" points="{points}"/>')
            if len(line) == 1:
                x, y = place(*line[0])
                parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2" fill="{colour}"/>')
            parts.append(f'<text x="{left + at * 150}" y="12"><tspan fill="{colour}">&#9632;</tspan> {escape(name)}</text>')
        if self._best is not None and self.monitor in names:
            x, y = place(*self._best)
            parts.append(f'<circle class="best" cx="{x:.1f}" cy="{y:.1f}" r="5"><title>best</title></circle>')
        return "".join(parts)
