#!/usr/bin/env python3
"""Draws what bench/engine.py --json wrote as an SVG: images/s of every engine, relative to the fastest float32 PyTorch.

usage: bench/plot.py FIGURES.json [--to docs/engine-speed.svg]

Bars are medians over rounds of an engine's speed to that of the fastest PyTorch of the same round; the line on a bar goes from the
least to the most of them, and the number beside it is the median images/s. Needs nothing but Python.
"""

import argparse
import json
import pathlib
import statistics
from xml.sax.saxutils import escape

# Ours stands out; peers are told apart by place and name.
COLOURS = {"keepbest": "#0b7a75", "keepbest bf16": "#5bb5ae"}
PEER, BEST_PEER = "#b9bfc7", "#6b7683"
WIDTH, LEFT, RIGHT = 760, 190, 110
BAR, GAP, HEAD = 15, 4, 40


def is_f32_pytorch(name):
    return name.startswith("PyTorch") and "bf16" not in name


def panel(result):
    """Of one network and mode: (engine, median ratio, least, most, images/s), fastest first."""
    figures = result["images_per_second"]
    rounds = range(len(figures["keepbest"]))
    best = [max(rates[r] for name, rates in figures.items() if is_f32_pytorch(name)) for r in rounds]
    rows = []
    for name, rates in figures.items():
        ratios = [rates[r] / best[r] for r in rounds]
        rows.append((name, statistics.median(ratios), min(ratios), max(ratios), statistics.median(rates)))
    return sorted(rows, key=lambda row: -row[1])


def text(x, y, words, anchor="start", weight="normal", colour="#24292f", size=12):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" fill="{colour}"'
        f' font-size="{size}" stroke="#ffffff" stroke-width="3" paint-order="stroke">{escape(words)}</text>'
    )


def draw(told):
    panels = [(f"{r['model']}, {r['mode']}, batch {r['batch']}", panel(r)) for r in told["results"]]
    longest = max(row[3] for _, rows in panels for row in rows)
    scale = (WIDTH - LEFT - RIGHT) / longest
    parts, y = [], 30
    parts.append(text(16, y, "Speed to the fastest float32 PyTorch of the same round", weight="bold", size=15))
    parts.append(text(16, y + 18, f"{told['cpu']}, {told['threads']} threads", colour="#57606a"))
    y += 30
    for title, rows in panels:
        y += HEAD
        parts.append(text(16, y - 10, title, weight="bold"))
        one, bottom = LEFT + scale, y + len(rows) * (BAR + GAP)
        parts.append(f'<path d="M{one:.1f} {y - 3}V{bottom}" stroke="#cf222e" stroke-dasharray="4 3"/>')
        fastest_peer = next(name for name, *_ in rows if is_f32_pytorch(name))
        for name, median, least, most, rate in rows:
            middle = y + BAR / 2
            peer = BEST_PEER if name == fastest_peer else PEER
            weight = "bold" if name in COLOURS else "normal"
            parts.append(text(LEFT - 8, middle + 4, name, anchor="end", weight=weight))
            parts.append(
                f'<rect x="{LEFT}" y="{y}" width="{median * scale:.1f}" height="{BAR}" fill="{COLOURS.get(name, peer)}"/>'
            )
            parts.append(
                f'<path d="M{LEFT + least * scale:.1f} {middle}H{LEFT + most * scale:.1f}" stroke="#24292f" stroke-width="1.5"/>'
            )
            end = LEFT + max(median, most) * scale + 6
            parts.append(text(end, middle + 4, f"{median:.2f}  ({rate:,.0f}/s)", colour="#57606a", size=11))
            y += BAR + GAP
    height = y + 16
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
        ' font-family="system-ui, sans-serif">\n'
        '<rect width="100%" height="100%" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = pathlib.Path(__file__).resolve().parents[1]
    parser.add_argument("figures", type=pathlib.Path)
    parser.add_argument("--to", type=pathlib.Path, default=root / "docs" / "engine-speed.svg")
    a = parser.parse_args()
    a.to.write_text(draw(json.loads(a.figures.read_text())))
    print(a.to)


if __name__ == "__main__":
    main()
