#!/usr/bin/env python3
"""Compares regenerated golden files with the committed ones: compare_golden.py COMMITTED_DIR FRESH_DIR.

Every file in FRESH_DIR must exist in COMMITTED_DIR and hold the same values. JSON is compared by structure:
strings, integers and keys exactly, floats to RELATIVE. safetensors: names, dtypes and shapes exactly, integer
tensors exactly, float32 tensors (inputs) bit for bit, float64 tensors (results) to RELATIVE of the tensor's largest
value. Files with the same bytes are the same; other kinds of files must have the same bytes.

A JSON object may widen the tolerance of its own float fields, and of those below it: `"tolerance": {"field": relative}`.
The committed file decides. Prints one line a file with the number of values compared; exits 1 on any difference.
"""

import json
import math
import pathlib
import sys

import numpy as np
from safetensors.numpy import load_file

RELATIVE = 1e-9


class Comparison:
    """Counts what was compared and keeps the differences found in one file."""

    def __init__(self):
        self.count = 0
        self.unit = "values"
        self.differences = []

    def differ(self, where, committed, fresh):
        self.differences.append(f"{where}: committed {committed!r:.120}, fresh {fresh!r:.120}")

    def json(self, where, a, b, relative=RELATIVE, fields={}):
        if isinstance(a, dict) and isinstance(b, dict):
            if list(a) != list(b):
                return self.differ(f"{where} keys", sorted(a), sorted(b))
            fields = fields | a.get("tolerance", {})
            for key in a:
                self.json(f"{where}.{key}", a[key], b[key], fields.get(key, relative), fields)
        elif isinstance(a, list) and isinstance(b, list):
            if len(a) != len(b):
                return self.differ(f"{where} length", len(a), len(b))
            for i, (x, y) in enumerate(zip(a, b)):
                self.json(f"{where}[{i}]", x, y, relative, fields)
        else:
            self.count += 1
            if isinstance(a, float) and isinstance(b, float):
                same = a == b or math.isclose(a, b, rel_tol=relative, abs_tol=1e-12) or (math.isnan(a) and math.isnan(b))
            else:
                same = type(a) is type(b) and a == b
            if not same:
                self.differ(where, a, b)

    def safetensors(self, a, b):
        if a.keys() != b.keys():
            return self.differ("tensor names", sorted(a.keys() - b.keys()), sorted(b.keys() - a.keys()))
        for name in sorted(a):
            x, y = a[name], b[name]
            self.count += x.size
            if (x.dtype, x.shape) != (y.dtype, y.shape):
                self.differ(name, (x.dtype, x.shape), (y.dtype, y.shape))
            elif x.dtype == np.float64:
                # Results: measured against the tensor's size, since sums that cancel keep the error of their terms.
                bound = RELATIVE * max(np.abs(x).max(initial=0.0), 1e-3)
                if not (np.abs(x - y) <= bound).all():
                    self.differ(name, f"values within {bound:.1e}", f"off by {np.abs(x - y).max():.1e}")
            elif x.tobytes() != y.tobytes():  # bits, so that NaN equals itself and -0.0 does not equal 0.0
                at = next(i for i, (p, q) in enumerate(zip(x.flat, y.flat)) if p.tobytes() != q.tobytes())
                self.differ(f"{name}[{at}]", x.flat[at], y.flat[at])


def compare(committed, fresh):
    result = Comparison()
    if not committed.is_file():
        result.differ(committed.name, "no such file", "made by the script")
    elif committed.read_bytes() == fresh.read_bytes():
        result.count = fresh.stat().st_size
        result.unit = "bytes"
    elif fresh.suffix == ".json":
        result.json("", json.loads(committed.read_text()), json.loads(fresh.read_text()))
    elif fresh.suffix == ".safetensors":
        result.safetensors(load_file(committed), load_file(fresh))
    else:
        result.differ("bytes", committed.stat().st_size, fresh.stat().st_size)
    return result


def main():
    committed, fresh = map(pathlib.Path, sys.argv[1:])
    files = sorted(fresh.iterdir())
    if not files:
        sys.exit(f"{fresh}: the script wrote nothing")
    failed = False
    for path in files:
        result = compare(committed / path.name, path)
        state = "same" if not result.differences else f"{len(result.differences)} DIFFERENCES"
        print(f"  {path.name}: {result.count} {result.unit}, {state}")
        for line in result.differences[:10]:
            print(f"    {line}")
        failed |= bool(result.differences) or result.count == 0
    sys.exit(failed)


if __name__ == "__main__":
    main()
