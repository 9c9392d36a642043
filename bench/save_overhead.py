#!/usr/bin/env python3
"""Measures how much slower a resnet18 trains when a full model (90 MB) is saved every so many steps.

usage: bench/save_overhead.py [--rounds N] [--every STEPS] [--batch N] [--dir DIR] [--json FILE]

Each round trains the steps between two saves once without and once with a snapshot offered before them, which the keeper writes,
syncs, reads back and makes the best meanwhile; which of the two comes first alternates. The slow-down is taken within a round and
told as its median with the smallest and largest. DIR (a new folder under the current one by default) decides which disk is used.

Exits 1 when the median is above 3 %.
"""

import argparse
import json
import pathlib
import statistics
import sys
import tempfile

from store import Ours, build

REACH = 0.03


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--every", type=int, default=50, help="steps between two saves")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--dir", type=pathlib.Path, default=pathlib.Path.cwd())
    parser.add_argument("--json", type=pathlib.Path, help="write all figures to a file")
    a = parser.parse_args()
    _, example = build()
    found = []
    with tempfile.TemporaryDirectory(dir=a.dir) as folder:
        ours = Ours(example, folder, a.batch)
        # The first steps touch fresh memory, and the first save allocates the second arena.
        ours.ask("train-saving 3")
        ours.ask("train 3")
        for turn in range(a.rounds):
            commands = ["train", "train-saving"]
            seconds = {}
            for command in commands if turn % 2 == 0 else reversed(commands):
                told = ours.ask(f"{command} {a.every}")
                if told["saved"] != (command == "train-saving"):
                    sys.exit(f"{command}: {told}")
                seconds[command] = told["seconds"]
            slower = seconds["train-saving"] / seconds["train"] - 1
            found.append({"without": seconds["train"], "with": seconds["train-saving"], "slower": slower})
            print(f"{seconds['train']:8.2f} s without, {seconds['train-saving']:8.2f} s with: {100 * slower:+.2f} %", flush=True)
        ours.end()
    slower = [one["slower"] for one in found]
    median = statistics.median(slower)
    state = "reached" if median <= REACH else "MISSED"
    print(
        f"slower by {100 * median:.2f} % [{100 * min(slower):.2f} to {100 * max(slower):.2f}],"
        f" to reach {100 * REACH:.0f} %: {state}"
    )
    if a.json:
        a.json.write_text(json.dumps({"every": a.every, "batch": a.batch, "rounds": found, "median": median}, indent=1) + "\n")
    sys.exit(median > REACH)


if __name__ == "__main__":
    main()
