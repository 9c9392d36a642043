#!/usr/bin/env python3
"""Measures reading a resnet18 `.pth` (45 MB) beside torch.load: time, and memory.

usage: PYTHON bench/formats.py [--rounds N] [--json FILE]

PYTHON needs what interop/requirements.txt names; interop/environment prints such a Python. The file is in the page cache for both
sides, each round reads it once by each, in another order every round, and ratios are taken within a round.

- read: file to tensors in a running process. keepbest checks the CRC of every entry, torch.load(mmap=False) of none.
- whole process: `keepbest inspect` beside a Python that imports torch and loads the file.
- memory: how much the peak of a fresh process grows by reading, over the bytes of the file. For keepbest these are the pages of
  the file itself, which it shares with the system's cache.

Exits 1 when keepbest takes longer than torch.load(mmap=False) in the median, or more than 1.1 times the file's bytes.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import torch
import torchvision

ROOT = pathlib.Path(__file__).resolve().parents[1]
MEMORY = 1.1

TORCH_PEAK = """
import sys, torch
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
before = peak()
state = torch.load(sys.argv[1], weights_only=True, mmap=False)
print(peak() - before)
"""


class Ours:
    """The example, kept running."""

    def __init__(self, binary):
        self.process = subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def read(self, path):
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def build():
    command = ["cargo", "build", "--release", "--locked", "-p", "keepbest", "-p", "keepbest-formats", "--bin", "keepbest"]
    subprocess.run([*command, "--example", "load_pth"], cwd=ROOT, check=True)
    target = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release"
    return target / "keepbest", target / "examples" / "load_pth"


def timed(action):
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def whole(*command):
    return timed(lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    program, example = build()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "resnet18.pth"
        torch.save(torchvision.models.resnet18().state_dict(), path)
        size = path.stat().st_size

        ours = Ours(example)
        grown = ours.read(path)
        memory = {"keepbest": (grown["peak"] - grown["peak_before"]) / size}
        peak = subprocess.run([sys.executable, "-c", TORCH_PEAK, path], capture_output=True, text=True, check=True)
        memory["torch.load(mmap=False)"] = int(peak.stdout) / size

        load = "import sys, torch; torch.load(sys.argv[1], weights_only=True, mmap=False)"
        ways = {
            "keepbest": lambda: ours.read(path)["seconds"],
            "torch.load(mmap=False)": lambda: timed(lambda: torch.load(path, weights_only=True, mmap=False)),
            "keepbest inspect, whole process": lambda: whole(program, "inspect", path),
            "torch.load(mmap=False), whole process": lambda: whole(sys.executable, "-c", load, path),
        }
        seconds = {name: [] for name in ways}
        for number in range(arguments.rounds + 1):
            names = list(ways) if number % 2 else list(reversed(ways))
            for name in names:
                taken = ways[name]()
                if number:  # the first round warms both up
                    seconds[name].append(taken)
        ours.close()

    for name, taken in seconds.items():
        print(f"{name:40} {statistics.median(taken) * 1e3:8.1f} ms ({min(taken) * 1e3:.1f} to {max(taken) * 1e3:.1f})")
    ratios = [a / b for a, b in zip(seconds["keepbest"], seconds["torch.load(mmap=False)"])]
    ratio = statistics.median(ratios)
    print(f"keepbest takes {ratio:.2f} of the time of torch.load ({min(ratios):.2f} to {max(ratios):.2f})")
    for name, times in memory.items():
        print(f"{name:40} {times:8.2f} times the file's {size / 1e6:.1f} MB of memory")
    if arguments.json:
        found = {"bytes": size, "seconds": seconds, "memory": memory, "torch": torch.__version__, "machine": platform.processor()}
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(ratio > 1 or memory["keepbest"] > MEMORY)


if __name__ == "__main__":
    main()
