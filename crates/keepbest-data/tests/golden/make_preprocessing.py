#!/usr/bin/env python3
"""Writes preprocessing.json: what Pillow and torchvision make of images on their way to the network.

- `resizes`: {"name", "from", "to", "channels", "rule", "pixels"}: an image of `from` (height, width) brought to `to`,
  bilinear, anti-aliased as PIL does: to the whole size (rule `exact`), or to the size that torchvision's `Resize` of the
  shorter side gives and through its `CenterCrop` (rule `crop`). Pillow's `resize` is called twice, for the width and then
  for the height: since version 13 one call for both takes the height first where that is much less work, which changes the
  rounding between the two. torchvision's own result is checked to be within one level of it.
- `luma`: {"colours", "grey"}: Pillow's `convert("L")`.
- `normalised`: {"mean", "std", "values"}: `ToTensor` and `Normalize` of the 256 grey values, as the hexadecimal bits of
  float32.

An image is not stored but made from its shape: value i of the dense HWC array is ((i * 2654435761 + 12345) mod 2^32) >> 24,
so neighbours differ strongly, as in noise; `smooth` ones are (7 * row + 3 * column + 50 * channel) mod 256 instead.
Results are HWC bytes in hexadecimal.
"""

import argparse
import json
import pathlib
import struct

import torch
from PIL import Image, ImageChops
from torchvision import transforms
from torchvision.transforms.functional import to_tensor

CASES = [
    # from, to, channels, rule, smooth
    ((7, 5), (7, 5), 1, "exact", False),
    ((28, 28), (14, 14), 1, "exact", False),
    ((28, 28), (32, 32), 1, "exact", False),
    ((31, 17), (8, 8), 3, "exact", False),
    ((5, 9), (23, 4), 3, "exact", False),
    ((9, 40), (9, 11), 3, "exact", False),
    ((40, 9), (11, 9), 1, "exact", False),
    ((1, 1), (3, 2), 3, "exact", False),
    ((200, 3), (2, 5), 1, "exact", True),
    ((64, 48), (16, 16), 3, "crop", True),
    ((48, 64), (16, 16), 3, "crop", False),
    ((37, 90), (16, 16), 1, "crop", False),
    ((91, 37), (16, 16), 1, "crop", False),
    ((11, 10), (24, 24), 1, "crop", False),
    ((10, 13), (8, 8), 3, "crop", False),
]


def pixels(height, width, channels, smooth):
    if smooth:
        values = ((7 * y + 3 * x + 50 * c) % 256 for y in range(height) for x in range(width) for c in range(channels))
    else:
        values = (((i * 2654435761 + 12345) % 2**32) >> 24 for i in range(height * width * channels))
    return bytes(values)


def resize(source, target, channels, rule, smooth):
    mode = "L" if channels == 1 else "RGB"
    image = Image.frombytes(mode, (source[1], source[0]), pixels(*source, channels, smooth))
    # Square targets when cropping: torchvision's Resize(int) is of the shorter side.
    change = transforms.Resize(target if rule == "exact" else target[0])
    crop = transforms.CenterCrop(target)
    reference = change(image)
    width, height = reference.size
    result = image.resize((width, image.height), Image.Resampling.BILINEAR)
    result = crop(result.resize((width, height), Image.Resampling.BILINEAR))
    differences = ImageChops.difference(result, crop(reference)).getextrema()
    assert max(differences if channels == 1 else (high for _, high in differences)) <= 1
    name = f"{source[0]}x{source[1]} to {target[0]}x{target[1]}x{channels} {rule}"
    return {
        "name": name,
        "from": list(source),
        "to": list(target),
        "channels": channels,
        "rule": rule,
        "smooth": smooth,
        "pixels": result.tobytes().hex(),
    }


def luma():
    colours = pixels(16, 16, 3, False) + bytes([0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    image = Image.frombytes("RGB", (len(colours) // 3, 1), colours)
    return {"colours": colours.hex(), "grey": image.convert("L").tobytes().hex()}


def normalised(mean, std):
    grey = to_tensor(Image.frombytes("L", (256, 1), bytes(range(256))))
    values = transforms.Normalize([mean], [std])(grey).flatten()
    return {"mean": mean, "std": std, "values": "".join(struct.pack(">f", value).hex() for value in values.tolist())}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    out = parser.parse_args().out
    torch.set_num_threads(1)
    golden = {
        "resizes": [resize(*case) for case in CASES],
        "luma": luma(),
        "normalised": [normalised(0.5, 0.25), normalised(0.28604060411453247, 0.3530242443084717)],
    }
    (out / "preprocessing.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
