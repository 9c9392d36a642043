#!/usr/bin/env python3
"""How small `keepbest archive` makes a run's checkpoints, beside zstd -19 and zipnn on the same files.

    bench/archive.py --keepbest target/release/keepbest --run runs/resnet18-1 [--peers 3]

The run is copied and the copy archived. The peers know no earlier file, so each file counts alone; zstd -19 takes a minute a file,
so both are given `--peers` of the files, spread over the run. Needs: zstandard, zipnn (left out where it is not installed).
Prints one JSON line.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path


def peers(files):
    """Ratio and speed of each peer over these files."""
    found = {}
    raw = [file.read_bytes() for file in files]
    total = sum(map(len, raw))

    def measure(name, compress):
        begun = time.perf_counter()
        packed = sum(len(compress(data)) for data in raw)
        seconds = time.perf_counter() - begun
        found[name] = {"ratio": round(packed / total, 4), "mb_per_s": round(total / 1e6 / seconds, 1)}

    try:
        import zipnn

        found["zipnn_version"] = getattr(zipnn, "__version__", None)
        measure("zipnn", lambda data: zipnn.ZipNN(bytearray_dtype="float32", input_format="byte").compress(bytearray(data)))
    except ImportError:
        found["zipnn"] = "not installed"
    import zstandard

    measure("zstd_19", zstandard.ZstdCompressor(level=19).compress)
    return found


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--keepbest", type=Path, required=True)
    arguments.add_argument("--run", type=Path, required=True)
    arguments.add_argument("--peers", type=int, default=3)
    arguments = arguments.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.run.parent) as place:
        copy = Path(place) / "run"
        shutil.copytree(arguments.run, copy)
        told = subprocess.run(
            [arguments.keepbest.resolve(), "archive", copy, "--json"], check=True, stdout=subprocess.PIPE
        )
        ours = json.loads(told.stdout)
    files = [arguments.run / "checkpoints" / name for name in ours["checkpoints"]]
    some = files[:: max(1, len(files) // arguments.peers)][: arguments.peers]
    print(
        json.dumps(
            {
                "checkpoints": len(files),
                "bytes": ours["bytes"],
                "keepbest": {
                    "ratio": round(ours["ratio"], 4),
                    "encode_mb_per_s": round(ours["bytes"] / 1e6 / ours["encode_seconds"], 1),
                    "restore_mb_per_s": round(ours["bytes"] / 1e6 / ours["verify_seconds"], 1),
                },
                "peers_on_files": len(some),
                **peers(some),
            }
        )
    )


if __name__ == "__main__":
    main()
