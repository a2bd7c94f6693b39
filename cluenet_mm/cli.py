"""What the command lines of ``tools/`` share; nothing else imports it."""

import argparse
import errno
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from mmengine.config import DictAction
from mmengine.utils import track_iter_progress

from .errors import one_line_with_place
from .files import WriteError, check_writable
from .guard import fail, interruptible, raise_lost
from .inference.images import MAX_PIXELS, UnreadableImageError

__all__ = [
    "add_cfg_options",
    "add_max_pixels",
    "add_run_arguments",
    "device",
    "fail",
    "for_each_image",
    "fraction",
    "natural",
    "output_file",
    "output_folder",
    "parse_arguments",
    "positive",
    "report_failures",
    "side",
]

# Pixels; a slip of the keyboard shall not fill the memory.
_LARGEST_SIDE = 1 << 14

Item = TypeVar("Item")


def add_cfg_options(parser: argparse.ArgumentParser, example: str = "") -> None:
    """Add the option that overrides settings of the config."""
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        default={},
        metavar="KEY=VALUE",
        help="override settings of the config" + (example and f", e.g. {example}"),
    )


def add_max_pixels(parser: argparse.ArgumentParser) -> None:
    """Add the option that keeps a large photograph from taking minutes."""
    parser.add_argument(
        "--max-pixels",
        type=positive,
        default=MAX_PIXELS,
        metavar="N",
        help="show a network no image of more pixels, but a smaller one; of a detector "
        "or segmentor the config's pipeline decides (default: %(default)s)",
    )


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that training and testing share."""
    parser.add_argument(
        "--work-dir",
        help="folder for logs and checkpoints (default: work_dir of the config, "
        "else ./work_dirs/<name of the config>, as in work_dirs/cluenet/cls_digits)",
    )
    add_cfg_options(parser, "train_dataloader.batch_size=8")
    parser.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm", "mpi"],
        default="none",
        help="how several processes are started (dist_*.sh and slurm_*.sh set it)",
    )


def parse_arguments(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line; ``--cfg-options`` without ``=`` is a usage error."""
    try:
        return parser.parse_args()
    except ValueError:
        parser.error("argument --cfg-options: expected KEY=VALUE pairs")
    except AssertionError as error:
        parser.error(f"argument --cfg-options: {error}")


def positive(text: str) -> int:
    """Type of an option that is an integer of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number


def natural(text: str) -> int:
    """Type of an option that is an integer of at least 0."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is negative")
    return number


def side(text: str) -> int:
    """Type of an option that is the side of an image in pixels."""
    number = positive(text)
    if number > _LARGEST_SIDE:
        raise argparse.ArgumentTypeError(f"{number} is more than {_LARGEST_SIDE}")
    return number


def fraction(text: str) -> float:
    """Type of an option that is a number from 0 to 1."""
    number = float(text)
    if not 0 <= number <= 1:  # nor is NaN
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return number


def device(text: str) -> str:
    """Type of an option that names a device of this machine."""
    try:
        torch.empty(0, device=text)
    except (AssertionError, RuntimeError) as error:  # of a PyTorch without CUDA, too
        reason = str(error).splitlines()[0]
        raise argparse.ArgumentTypeError(f"no device {text!r} here: {reason}") from None
    return text


def output_file(text: str) -> Path:
    """Type of an option that names a file to write."""
    return _writable(text, folder=False)


def output_folder(text: str) -> Path:
    """Type of an option that names a folder to write into."""
    return _writable(text, folder=True)


def _writable(text: str, folder: bool) -> Path:
    try:
        check_writable(text, folder)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return Path(text)


def for_each_image(
    images: Sequence[tuple[str, Item]], work: Callable[[str, Item], None]
) -> list[str]:
    """Do the work for every image, with progress; one that fails ends no other.

    Args:
        images: Names for errors, and what the work takes.
        work: Called with a name and its image. A result that cannot be written ends
            the script, unless its name is at fault.

    Returns:
        A line for every image that failed, with the reason.
    """
    failed = []
    for name, image in track_iter_progress(list(images)):
        try:
            with interruptible():
                work(name, image)
            raise_lost()
        except UnreadableImageError as error:
            failed.append(str(error))
        except WriteError as error:
            if error.errno != errno.ENAMETOOLONG:
                print()  # the progress bar leaves its line open
                fail(error)
            failed.append(str(error))
        except Exception as error:  # the other images do not depend on this one
            failed.append(f"{name}: {one_line_with_place(error)}")
    print()
    return failed


def report_failures(failed: Sequence[str], total: int) -> int:
    """Print what :func:`for_each_image` returned; the exit status that follows."""
    if failed:
        print(f"{len(failed)} of {total} images failed", file=sys.stderr)
    for line in failed:
        print(f"error: {line}", file=sys.stderr)
    return int(bool(failed))
