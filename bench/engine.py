#!/usr/bin/env python3
"""Measures keepbest's engine, PyTorch, Burn and ONNX Runtime in one run, interleaved, and prints images/s and ratios.

usage: $(interop/environment) bench/engine.py [--rounds N] [--threads N] [--models M ...] [--modes M ...]
                                              [--compile] [--bf16] [--burn] [--onnxruntime] [--json FILE]

Each round runs every engine once, each in a process of its own, in another order every round; a figure is the
median over rounds of the median step. A ratio is taken within a round, ours to the fastest float32 PyTorch of that
round, and told as its median with the smallest and largest. PyTorch runs at its best: with glibc's malloc told to keep
its memory, eager and channels_last, and compiled on request. Figures of different runs must not be mixed: the
machine drifts.
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

ROOT = pathlib.Path(__file__).resolve().parents[1]
ONNX_RUNTIME = "ONNX Runtime"
BURN = "Burn flex"
OURS_BF16 = "keepbest bf16"
KEEP_MEMORY = "glibc.malloc.mmap_threshold=8589934592:glibc.malloc.trim_threshold=17179869184"

# (model, mode, batch): steps to time, after three to warm up
WORK = {
    ("simple-cnn", "train", 64): 60,
    ("resnet18", "train", 64): 5,
    ("simple-cnn", "infer", 1): 400,
    ("simple-cnn", "infer", 64): 100,
    ("resnet18", "infer", 1): 40,
    ("resnet18", "infer", 64): 8,
    ("resnet50", "train", 16): 3,
    ("resnet50", "infer", 1): 20,
    ("resnet50", "infer", 16): 5,
}


def build():
    """Builds bench_step in release mode and gives its path."""
    subprocess.run(
        ["cargo", "build", "--release", "--locked", "-p", "keepbest-nn", "--example", "bench_step"], cwd=ROOT, check=True
    )
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return ROOT / target / "release" / "examples" / "bench_step"


def build_burn():
    """Builds bench/burn and gives the path of its program."""
    project = ROOT / "bench" / "burn"
    subprocess.run(["cargo", "build", "--release", "--locked"], cwd=project, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", project / "target"))
    return target / "release" / "burn-step"


def engines(binary, with_compile, with_bf16, with_burn, with_onnxruntime):
    """Name -> command. Only the float32 ones of PyTorch count for the ratio to PyTorch's best."""
    torch = [sys.executable, str(ROOT / "bench" / "torch_step.py")]
    found = {
        "keepbest": [str(binary)],
        "PyTorch eager": torch,
        "PyTorch channels_last": [*torch, "--layout", "channels_last"],
    }
    if with_compile:
        found["PyTorch compile"] = [*torch, "--layout", "channels_last", "--compile"]
    if with_bf16:
        found[OURS_BF16] = [str(binary), "--precision", "bf16"]
        found["PyTorch bf16"] = [*torch, "--layout", "channels_last", "--autocast"]
    if with_burn:
        found[BURN] = [str(build_burn())]
    if with_onnxruntime:
        found[ONNX_RUNTIME] = [*torch, "--onnxruntime"]
    return found


def measure(name, command, model, mode, batch, threads):
    """One process: its median images/s and its peak memory in bytes."""
    arguments = ["--model", model, "--batch", batch, "--steps", WORK[model, mode, batch], "--threads", threads]
    arguments += ["--infer"] if mode == "infer" else []
    environment = dict(os.environ, PYTHONDONTWRITEBYTECODE="1")
    if name.startswith("PyTorch"):
        environment["GLIBC_TUNABLES"] = KEEP_MEMORY
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen([*command, *map(str, arguments)], env=environment, stdout=out)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            sys.exit(f"{name}: exit {child.returncode}")
        out.seek(0)
        return json.load(out)["images_per_second"], usage.ru_maxrss * 1024


def cpu():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def compare(commands, work, rounds, threads):
    """One network and mode: per engine the figures of each round, and ours to the peers' by round."""
    model, mode, batch = work
    # What they cannot do: ONNX Runtime does not train, ours infers in float32 always, and bench/burn has the small networks only.
    left_out = {ONNX_RUNTIME} if mode != "infer" else {OURS_BF16}
    left_out |= {BURN} if model == "resnet50" else set()
    commands = {name: command for name, command in commands.items() if name not in left_out}
    figures = {name: [] for name in commands}
    memory = {name: 0 for name in commands}
    names = list(commands)
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            rate, peak = measure(name, commands[name], *work, threads)
            figures[name].append(rate)
            memory[name] = max(memory[name], peak)
    peers = [name for name in names if name.startswith("PyTorch") and "bf16" not in name]
    ours = figures["keepbest"]
    ratios = {"PyTorch's best": [ours[r] / max(figures[p][r] for p in peers) for r in range(rounds)]}
    for peer in (ONNX_RUNTIME, BURN):
        if peer in figures:
            ratios[peer] = [ours[r] / figures[peer][r] for r in range(rounds)]
    if OURS_BF16 in figures:
        ratios["PyTorch bf16, in bf16"] = [figures[OURS_BF16][r] / figures["PyTorch bf16"][r] for r in range(rounds)]
    print(f"\n{model}, {mode}, batch {batch}")
    print(f"  {'engine':<24}{'images/s':>10}{'least':>10}{'most':>10}{'peak MB':>10}")
    for name in names:
        f = figures[name]
        print(f"  {name:<24}{statistics.median(f):>10.0f}{min(f):>10.0f}{max(f):>10.0f}{memory[name] / 1e6:>10.0f}")
    for peer, r in ratios.items():
        print(f"  ours to {peer}: {statistics.median(r):.2f} ({min(r):.2f} to {max(r):.2f})", flush=True)
    return {"model": model, "mode": mode, "batch": batch, "images_per_second": figures, "peak_rss_bytes": memory, "ratios": ratios}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--models", nargs="+", default=["simple-cnn", "resnet18", "resnet50"])
    parser.add_argument("--modes", nargs="+", default=["train", "infer"])
    parser.add_argument("--compile", action="store_true", help="also torch.compile")
    parser.add_argument("--bf16", action="store_true", help="also bfloat16: ours, and PyTorch's autocast")
    parser.add_argument("--burn", action="store_true", help="also Burn's flex engine")
    parser.add_argument("--onnxruntime", action="store_true", help="also ONNX Runtime, for inference")
    parser.add_argument("--json", type=pathlib.Path, help="write all figures to a file")
    a = parser.parse_args()
    commands = engines(build(), a.compile, a.bf16, a.burn, a.onnxruntime)
    print(f"{cpu()}, {a.threads} threads, {a.rounds} rounds, load {os.getloadavg()[0]:.1f} at the start")
    done = [
        compare(commands, work, a.rounds, a.threads) for work in WORK if work[0] in a.models and work[1] in a.modes
    ]
    if not done:
        sys.exit("nothing to measure: no such model or mode")
    if a.json:
        a.json.write_text(json.dumps({"cpu": cpu(), "threads": a.threads, "results": done}, indent=1) + "\n")


if __name__ == "__main__":
    main()
