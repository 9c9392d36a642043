#!/usr/bin/env python3
"""Cuts the data set that ships inside the binary from Debian's dataset-fashion-mnist.

    apt install dataset-fashion-mnist
    python3 cut.py [--source /usr/share/datasets/fashion-mnist] [--out .] [--check]

Training images come from the training files, test images from the t10k files: the first 600 (train) and the first 100
(test) of each class in file order, kept in file order, so nothing is chosen by looking at it. Output: four gzip IDX
files, level 9, modification time 0, no file name: the uncompressed bytes are the same everywhere, the compressed ones
the same for the same zlib. `--check` compares the uncompressed bytes with the committed files instead of writing.

Standard library only.
"""

import argparse
import gzip
import io
import pathlib
import struct
import sys

CLASSES = 10
PER_CLASS = {"train": 600, "t10k": 100}


def read_idx(path: pathlib.Path, magic: int) -> tuple[tuple[int, ...], bytes]:
    data = gzip.decompress(path.read_bytes())
    (found,) = struct.unpack_from(">I", data)
    if found != magic:
        raise SystemExit(f"{path}: magic {found:#010x}, expected {magic:#010x}")
    rank = magic & 0xFF
    dims = struct.unpack_from(f">{rank}I", data, 4)
    return dims, data[4 + 4 * rank :]


def write_idx(magic: int, dims: tuple[int, ...], body: bytes) -> bytes:
    return struct.pack(f">{1 + len(dims)}I", magic, *dims) + body


def compress(data: bytes) -> bytes:
    out = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=out, mtime=0) as stream:
        stream.write(data)
    return out.getvalue()


def cut(source: pathlib.Path, part: str) -> dict[str, bytes]:
    (count, height, width), pixels = read_idx(source / f"{part}-images-idx3-ubyte.gz", 0x803)
    (label_count,), labels = read_idx(source / f"{part}-labels-idx1-ubyte.gz", 0x801)
    if count != label_count:
        raise SystemExit(f"{part}: {count} images, {label_count} labels")
    size = height * width
    taken = [0] * CLASSES
    chosen = []
    for index, label in enumerate(labels):
        if taken[label] < PER_CLASS[part]:
            taken[label] += 1
            chosen.append(index)
    if any(n != PER_CLASS[part] for n in taken):
        raise SystemExit(f"{part}: too few images in a class: {taken}")
    images = b"".join(pixels[i * size : (i + 1) * size] for i in chosen)
    return {
        f"{part}-images-idx3-ubyte.gz": write_idx(0x803, (len(chosen), height, width), images),
        f"{part}-labels-idx1-ubyte.gz": write_idx(0x801, (len(chosen),), bytes(labels[i] for i in chosen)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=pathlib.Path, default=pathlib.Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    parser.add_argument("--check", action="store_true", help="compare with the files in --out, write nothing")
    arguments = parser.parse_args()
    different = []
    for part in PER_CLASS:
        for name, data in cut(arguments.source, part).items():
            target = arguments.out / name
            if arguments.check:
                if gzip.decompress(target.read_bytes()) != data:
                    different.append(name)
            else:
                target.write_bytes(compress(data))
                print(f"{name}: {len(data)} bytes, {target.stat().st_size} compressed")
    if different:
        sys.exit(f"differ from the committed files: {', '.join(different)}")


if __name__ == "__main__":
    main()
