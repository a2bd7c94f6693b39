"""Unpack class strips of CIFAR-100 to an image folder.

The source holds ``{train,test}/<label>_<name>.webp``, each a vertical strip of 32-pixel
images of one class. The target becomes ``{train,test}/<label>_<name>/<i>.png``, which
``configs/cluenet/cls_cifar100_folder.py`` reads.

Example:
    python tools/convert/cifar100_strips.py strips data/cifar100_folder
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

from mmengine.utils import track_iter_progress
from PIL import Image

SIDE = 32


def unpack_strip(strip: Path, target: Path, limit: int | None = None) -> int:
    """Write the images of one strip; the folder appears once it is complete.

    Args:
        strip: Image of 32 x (32 * n) pixels.
        target: Folder to make. One that exists already is left as it is.
        limit: At most so many images.

    Returns:
        Number of images in the folder.

    Raises:
        ValueError: If the strip has another width or height.
    """
    if target.is_dir():
        return len(list(target.glob("*.png")))
    image = Image.open(strip).convert("RGB")
    if image.width != SIDE or image.height % SIDE:
        raise ValueError(
            f"{strip} is {image.width} x {image.height}, not {SIDE} wide and a "
            f"multiple of {SIDE} high"
        )
    count = min(image.height // SIDE, limit or sys.maxsize)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for i in range(count):
        box = (0, SIDE * i, SIDE, SIDE * (i + 1))
        image.crop(box).save(partial / f"{i:03d}.png")
    os.replace(partial, target)
    return count


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder with train/ and test/")
    parser.add_argument("target", type=Path, help="folder to make")
    parser.add_argument("--classes", type=int, help="only the first so many classes")
    parser.add_argument("--train-images", type=int, help="at most so many a class")
    args = parser.parse_args()
    jobs = []
    for split, limit in (("train", args.train_images), ("test", None)):
        strips = sorted((args.source / split).glob("*.webp"))[: args.classes]
        if not strips:
            sys.exit(f"error: no *.webp strips in {args.source / split}")
        jobs += [(s, args.target / split / s.stem, limit) for s in strips]
    try:
        total = sum(unpack_strip(*job) for job in track_iter_progress(jobs))
    except (ValueError, OSError) as error:
        sys.exit(f"\nerror: {error}")
    print(f"\n{args.target}: {total:,} images")


if __name__ == "__main__":
    main()
