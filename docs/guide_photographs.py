#!/usr/bin/env python3
"""Cuts photographs into square tiles, a folder a photograph: small data sets of colour images to try docs/guide.md on.

usage: docs/guide_photographs.py [--to FOLDER]

Needs scikit-image, whose wheel has the photographs. Tiles of one photograph do not overlap, so no pixel is in two images; every second one is
turned or mirrored at random. FOLDER/photos gets six photographs of up to 100 tiles; FOLDER/few four others, two of them grey, of 24 each to train on and 40
to test on. They are the same each time.
"""

import argparse
import pathlib
import random

import skimage.data
from PIL import Image, ImageStat

TILE = 48
PHOTOS = {
    "astronaut": "astronaut.png",
    "cat": "chelsea.png",
    "coffee": "coffee.png",
    "galaxies": "hubble_deep_field.jpg",
    "motorcycle": "motorcycle_left.png",
    "retina": "retina.jpg",
}
FEW = {"grass": "grass.png", "gravel": "gravel.png", "rocket": "rocket.jpg", "tissue": "ihc.png"}


def tiles(file, seed):
    """All tiles of a photograph with something on them, in an order drawn from `seed`."""
    photograph = Image.open(pathlib.Path(skimage.data.__file__).parent / file)
    columns, rows = (side // TILE for side in photograph.size)
    found = []
    for at in range(columns * rows):
        left, top = at % columns * TILE, at // columns * TILE
        tile = photograph.crop((left, top, left + TILE, top + TILE))
        # Nothing but black, beside the retina, would be the same image again and again.
        if max(high - low for low, high in ImageStat.Stat(tile).extrema) > 16:
            found.append(tile)
    order = random.Random(seed)
    order.shuffle(found)
    turns = list(Image.Transpose)
    return [tile.transpose(order.choice(turns)) if at % 2 else tile for at, tile in enumerate(found)]


def write(images, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for at, image in enumerate(images):
        # Both kinds of file, as folders have them.
        image.save(folder / (f"{at:03}.jpg" if at % 3 else f"{at:03}.png"), quality=92)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=pathlib.Path, default=pathlib.Path("."))
    to = parser.parse_args().to
    for name, file in PHOTOS.items():
        write(tiles(file, 1)[:100], to / "photos" / name)
    for name, file in FEW.items():
        found = tiles(file, 1)
        write(found[:24], to / "few" / "train" / name)
        write(found[24:64], to / "few" / "test" / name)


if __name__ == "__main__":
    main()
