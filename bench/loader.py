#!/usr/bin/env python3
"""Measures whether training waits for images: resnet18 with the strong recipe's augmentation, on 32x32 images and on JPEG files at 224x224.

usage: PYTHON bench/loader.py [--threads N]

PYTHON needs scikit-image and Pillow. The images are parts of scikit-image's photographs: 2,000 PNG files of 32x32, and 240 JPEG files of 240 to
400 pixels a side, decoded again every epoch (`--cache 0`). Prints what `keepbest train --profile` says of two epochs of each, and
of the same with a network that computes next to nothing, which is as fast as images come.
"""

import argparse
import pathlib
import random
import re
import subprocess
import tempfile

import skimage.data
from PIL import Image

from store import build

PHOTOS = ["astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "motorcycle_left.png", "retina.jpg"]
# The smallest network there is: what its training takes is next to nothing beside decoding.
TINY = """version = 2
name = "tiny"
input = {{ channels = 3, height = {side}, width = {side} }}
classes = 6
layers = [
  {{ op = "avg_pool2d", kernel = {side} }},
  {{ op = "flatten" }},
  {{ op = "linear", name = "fc", out = 6 }},
]
"""


def cut(folder, count, sides, suffix):
    chance = random.Random(1)
    shipped = pathlib.Path(skimage.data.__file__).parent
    for name in PHOTOS:
        photograph = Image.open(shipped / name).convert("RGB")
        to = folder / name.split(".")[0]
        to.mkdir(parents=True)
        for at in range(count // len(PHOTOS)):
            width, height = (min(chance.randint(*sides), side) for side in photograph.size)
            left, top = chance.randint(0, photograph.width - width), chance.randint(0, photograph.height - height)
            photograph.crop((left, top, left + width, top + height)).save(to / f"{at:04}.{suffix}", quality=90)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    a = parser.parse_args()
    keepbest = build()[0].resolve()
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        for side, count, sides, suffix, augment in [
            (32, 2000, (32, 32), "png", "shift:3,flip,erase:0.25"),
            (224, 240, (240, 400), "jpg", "flip,crop:0.35,trivial,erase:0.1"),
        ]:
            cut(place / str(side), count, sides, suffix)
            (place / f"tiny{side}.toml").write_text(TINY.format(side=side))
            for network in ("resnet18", f"tiny{side}.toml"):
                command = [keepbest, "train", "--data", str(side), "--model", network, "--image-size", str(side), "--resize", "crop"]
                command += ["--augment", augment, "--cache", "0", "--epochs", "2", "--batch-size", "32", "--threads", str(a.threads), "--profile"]
                said = subprocess.run(command, cwd=place, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
                speed = [int(row.replace(",", "")) for row in re.findall(r"^ +\d+/2 .* ([\d,]+)(?:  best)?$", said, re.M)]
                print(f"{network.split('.')[0]} at {side}x{side}, augment {augment}: {speed} images/s by epoch")
                for row in re.findall(r"^(?:training steps|waiting for images) .*$", said, re.M):
                    print(f"  {row}", flush=True)


if __name__ == "__main__":
    main()
