#!/usr/bin/env python3
"""Writes augment.json: what torchvision's v2 transforms make of PIL images.

- `images`: {"height", "width", "channels"}; value i of the dense HWC array is ((i * 2654435761 + 12345) mod 2^32) >> 24,
  so neighbours differ strongly; every second image is (7 * row + 3 * column + 50 * channel) mod 200 + 20 instead, which
  has a narrow histogram.
- `trivial`: for each image and each of TrivialAugmentWide's changes, in its order: the CRC-32 of the result's pixels for
  strengths 0 to 30, then for the same with the sign turned.
- `rotate`: {"image", "degrees", "crc"}; `adjust`: {"what", "image", "factor", "crc"}, with what to adjust.
- `crop`: {"image", "top", "left", "height", "width", "to", "crc"}: `resized_crop` to a size (rows, columns), called for the
  width and then for the height, as in preprocessing.json.
- `hsv`: the CRC-32 of 2^20 colours after `adjust_hue` by 0.1: number i is red, green and blue of 16 i + (i >> 8) mod 16.
- `mixup`: MixUp at a share of 0.3 of three images 2x2x1 of the values 1, 2 and 4.
"""

import argparse
import json
import pathlib
import zlib

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

SHAPES = [(8, 8, 1), (8, 8, 3), (28, 28, 1), (28, 28, 3), (13, 21, 1), (13, 21, 3), (1, 1, 3), (1, 1, 1), (2, 5, 3), (40, 36, 3)]


def picture(number):
    height, width, channels = SHAPES[number]
    i = np.arange(height * width * channels, dtype=np.uint64)
    values = ((i * 2654435761 + 12345) % 2**32) >> 24
    if number % 2:
        y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(channels), indexing="ij")
        values = ((7 * y + 3 * x + 50 * c) % 200 + 20).reshape(-1)
    array = values.astype(np.uint8).reshape(height, width, channels)
    return Image.fromarray(array[:, :, 0] if channels == 1 else array)


def crc(image):
    return zlib.crc32(np.asarray(image).tobytes())


def trivial(image):
    transform = v2.TrivialAugmentWide()
    interpolation, fill = transform.interpolation, transform._fill
    results = {}
    for name, (magnitudes, signed) in transform._AUGMENTATION_SPACE.items():
        values = magnitudes(31, image.height, image.width)
        values = [0.0] * 31 if values is None else [float(v) for v in values]
        if signed:
            values += [-v for v in values]
        else:
            values += values
        results[name] = [
            crc(transform._apply_image_or_video_transform(image, name, v, interpolation=interpolation, fill=fill))
            for v in values
        ]
    return results


def crop(image, top, left, height, width, to):
    part = F.crop(image, top, left, height, width)
    part = part.resize((to[1], part.height), Image.Resampling.BILINEAR)
    return crc(part.resize((to[1], to[0]), Image.Resampling.BILINEAR))


def colours():
    values = np.arange(2**20, dtype=np.uint32)
    values = 16 * values + (values >> 8) % 16
    channels = [values >> 16, values >> 8 & 255, values & 255]
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8).reshape(1024, 1024, 3))


def mixup():
    transform = v2.MixUp(num_classes=3)
    images = torch.tensor([1.0, 2.0, 4.0]).repeat_interleave(4).reshape(3, 1, 2, 2)
    params = {"lam": 0.3, "labels": None, "batch_size": 3}
    return transform.transform(images, params).reshape(-1).tolist()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    out = parser.parse_args().out
    pictures = [picture(i) for i in range(len(SHAPES))]
    adjust = {"hue": F.adjust_hue, "saturation": F.adjust_saturation, "contrast": F.adjust_contrast,
              "brightness": F.adjust_brightness}
    factors = {"hue": [-0.5, -0.25, -0.011, 0.0, 0.1, 0.5]}
    golden = {
        "images": [dict(zip(("height", "width", "channels"), shape)) for shape in SHAPES],
        "trivial": [trivial(image) for image in pictures],
        "rotate": [
            {"image": i, "degrees": degrees, "crc": crc(F.rotate(image, degrees))}
            for i, image in enumerate(pictures) for degrees in [-15.0, 0.3, 7.25, 45.0, 90.0, 179.0]
        ],
        "adjust": [
            {"what": name, "image": i, "factor": factor, "crc": crc(change(image, factor))}
            for name, change in adjust.items() for i, image in enumerate(pictures)
            for factor in factors.get(name, [0.0, 0.3, 0.999, 1.0, 1.7, 9.0])
        ],
        "crop": [
            {"image": i, "top": top, "left": left, "height": height, "width": width, "to": to,
             "crc": crop(pictures[i], top, left, height, width, to)}
            for i, top, left, height, width in [
                (2, 3, 4, 9, 11), (3, 0, 0, 28, 28), (4, 2, 5, 6, 8), (5, 12, 20, 1, 1), (9, 1, 0, 39, 36)
            ]
            for to in [SHAPES[i][:2], (8, 5), (32, 32)]
        ],
        "hsv": crc(F.adjust_hue(colours(), 0.1)),
        "mixup": mixup(),
    }
    text = json.dumps(golden, separators=(",", ":")).replace("},{", "},\n{").replace("],\"", "],\n\"")
    (out / "augment.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
