"""Write CIFAR-100 as arrays, train.npz and test.npz, for configs/*/*_memory.py.

SOURCE is one of
    a folder for mmpretrain's CIFAR100, which downloads the official archive into it if
        it is missing, and checks its MD5 (default: data/cifar100)
    an image folder {train,test}/<class>/<image>
    class strips {train,test}/<label>_<class>.webp: the images of a class in a column

Example: python tools/dev/cifar100_npz.py images --out data/cifar100
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from cluenet_mm.files import atomic_write
from cluenet_mm.guard import run_tool

SIDE = 32
Group = tuple[str, np.ndarray]  # name of a class; its images, N x 32 x 32 x 3


def read_pixels(path: Path) -> np.ndarray:
    """The images of one file, N x 32 x 32 x 3."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    if pixels.shape[1] != SIDE or pixels.shape[0] % SIDE:
        height, width, _ = pixels.shape
        raise ValueError(
            f"cannot use {path}: it is {width} x {height}, not {SIDE} wide and a "
            f"multiple of {SIDE} high."
        )
    return pixels.reshape(-1, SIDE, SIDE, 3)


def read_groups(source: Path, split: str) -> Iterator[Group]:
    """The classes of a split in the order of their labels."""
    if strips := sorted(source.glob(f"{split}/*.webp")):
        for label, path in enumerate(strips):
            number, _, name = path.stem.partition("_")
            if not number.isdigit() or int(number) != label:
                raise ValueError(f"cannot use {path}: expected label {label}.")
            yield name, read_pixels(path)
    elif folders := sorted(path for path in source.glob(f"{split}/*") if path.is_dir()):
        for folder in folders:
            images = [read_pixels(p) for p in sorted(folder.iterdir()) if p.is_file()]
            yield folder.name, np.concatenate(images)
    else:
        from mmpretrain.datasets import CIFAR100

        data = CIFAR100(data_root=str(source), split=split)
        infos = [data.get_data_info(i) for i in range(len(data))]
        for label, name in enumerate(data.metainfo["classes"]):
            yield name, np.stack([x["img"] for x in infos if x["gt_label"] == label])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "source", type=Path, nargs="?", default="data/cifar100", help="see above"
    )
    parser.add_argument("--out", type=Path, default="data/cifar100", help="folder")
    parser.add_argument("--classes", type=int, help="only the first so many classes")
    args = parser.parse_args()
    classes: list[str] = []
    for split in ("train", "test"):
        try:
            groups = list(read_groups(args.source, split))[: args.classes]
        except (OSError, RuntimeError, ValueError) as error:
            sys.exit(f"error: {error}")
        names = [name for name, _ in groups]
        if names != (classes := classes or names):
            sys.exit(f"error: the classes of {args.source} differ between its splits.")
        images = np.concatenate([images for _, images in groups])
        labels = np.repeat(np.arange(len(groups)), [len(group) for _, group in groups])
        with atomic_write(args.out / f"{split}.npz") as temporary:
            np.savez(
                temporary,
                images=images.transpose(0, 3, 1, 2),
                labels=labels,
                classes=np.array(names),
            )
        counts = f"{len(images):,} images of {len(names)} classes"
        print(f"{args.out / split}.npz: {counts}")


if __name__ == "__main__":
    run_tool(main)
