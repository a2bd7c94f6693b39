"""Files of a dataset that cannot be read, told in one line."""

from collections.abc import Callable, Iterator
from typing import Any

import cv2
from torch.utils.data import Dataset

from .errors import one_line

__all__ = ["DataError", "name_files", "unwrapped"]

# The files of a sample, as MMEngine's libraries call them.
_FILES = ("img_path", "seg_map_path")


class DataError(RuntimeError):
    """A file of a dataset that cannot be read; names it."""

    def __str__(self) -> str:
        # A worker sends its error as text, behind its own traceback.
        return super().__str__().strip().rsplit("DataError: ", 1)[-1]


class _Named:
    """A pipeline whose readers' errors, some of which name no file, name it."""

    def __init__(self, pipeline: Callable[[dict], Any]) -> None:
        self.pipeline = pipeline

    def __call__(self, sample: dict) -> Any:
        files = [sample[key] for key in _FILES if sample.get(key)]
        try:
            return self.pipeline(sample)
        except (AssertionError, OSError, cv2.error) as error:
            read = not isinstance(error, AssertionError) or "load image" in str(error)
            if not (files and read):
                raise
            raise DataError(
                f"cannot read {' or '.join(files)}: {one_line(error)}. Replace the "
                "file, or take it out; tools/check_dataset.py finds all such files"
            ) from error

    def __getattr__(self, name: str) -> Any:
        if name == "pipeline":  # while it is unpickled
            raise AttributeError(name)
        return getattr(self.pipeline, name)


def unwrapped(dataset: Dataset) -> Iterator[Dataset]:
    """The dataset and those inside of it, where it wraps others."""
    yield dataset
    for inner in [*getattr(dataset, "datasets", []), getattr(dataset, "dataset", None)]:
        if isinstance(inner, Dataset):
            yield from unwrapped(inner)


def name_files(dataset: Dataset) -> None:
    """Let a dataset raise a :class:`DataError` for images that it cannot read.

    Args:
        dataset: Any; those inside of wrappers are found.
    """
    for part in unwrapped(dataset):
        if callable(getattr(part, "pipeline", None)):
            part.pipeline = _Named(part.pipeline)
