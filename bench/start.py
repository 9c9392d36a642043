#!/usr/bin/env python3
"""Measures the time from the start of the process to the first training step, on the data that ships inside the program.

usage: bench/start.py [--rounds N] [--json FILE] [-- ARGUMENTS OF `keepbest train` ...]

Two moments that the program itself tells on stderr, as any user sees them: the heads of the table come when everything is ready
and the first step begins; with --eval-every 1 the first line below them comes when the first step is done and its
evaluation too. The first training step lies between the two. Each round starts the program anew in an empty folder and ends it then.

Exits 1 when the median of the later moment is above 0.3 s.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from store import build

REACH = 0.3


def once(keepbest, arguments):
    """Seconds to `ready` and to `stepped` of one process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [keepbest, "train", "--eval-every", "1", *arguments]
        begun = time.perf_counter()
        child = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        moments = {}
        for line in child.stderr:
            words = line.split()
            if words[:2] == ["epoch", "train/loss"]:
                moments["ready"] = time.perf_counter() - begun
            elif "ready" in moments and words[0].startswith("1/"):
                moments["stepped"] = time.perf_counter() - begun
                break
        child.kill()
        child.wait()
    if "stepped" not in moments:
        sys.exit(f"no step was taken: {' '.join(map(str, command))}")
    return moments


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--json", type=pathlib.Path, help="write all figures to a file")
    parser.add_argument("arguments", nargs="*", help="more for `keepbest train`")
    a = parser.parse_args()
    keepbest = build()[0].resolve()
    # The first one reads the program from disk.
    once(keepbest, a.arguments)
    found = [once(keepbest, a.arguments) for _ in range(a.rounds)]
    for name in ("ready", "stepped"):
        seconds = [moments[name] for moments in found]
        print(f"{name:8} {statistics.median(seconds):.3f} s [{min(seconds):.3f} to {max(seconds):.3f}]")
    median = statistics.median(moments["stepped"] for moments in found)
    print(f"first step, evaluation included: {median:.3f} s, to reach {REACH}: {'reached' if median <= REACH else 'MISSED'}")
    if a.json:
        a.json.write_text(json.dumps({"rounds": found}, indent=1) + "\n")
    sys.exit(median > REACH)


if __name__ == "__main__":
    main()
