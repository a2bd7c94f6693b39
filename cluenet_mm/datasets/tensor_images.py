"""Labeled images in memory that are handed out a whole batch at a time."""

from collections.abc import Sequence
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..registry import DATASETS


@DATASETS.register_module()
class TensorImages(Dataset):
    """Images of one size in memory: a batch is one indexing operation.

    PyTorch's loader asks ``__getitems__`` for all samples of a batch at once. Nothing
    is decoded, transformed or packed image by image, so that one process feeds a GPU;
    augmentation and normalization are left to ``cluenet_mm.TensorDataPreprocessor``.
    The loader's config needs
    ``collate_fn=dict(type="torch.utils.data.default_convert")``, which leaves the batch
    as it is.

    Args:
        path: File of NumPy's ``.npz`` format with ``images`` (uint8, N x 3 x H x W,
            RGB), ``labels`` (int64, N) and ``classes`` (text). ``numpy.savez`` writes
            one; tools/dev/cifar100_npz.py does it for CIFAR-100.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is damaged or holds something else.
    """

    def __init__(self, path: str) -> None:
        try:
            with np.load(path) as arrays:
                images, labels = arrays["images"], arrays["labels"]
                classes = tuple(map(str, arrays["classes"]))
            if images.ndim != 4 or images.dtype != np.uint8:
                raise ValueError(f"its images are {images.dtype}, {images.shape}")
            if labels.shape != images.shape[:1] or labels.dtype != np.int64:
                raise ValueError(f"its labels are {labels.dtype}, {labels.shape}")
        except FileNotFoundError:
            raise FileNotFoundError(
                f"cannot read images {path}: no such file. Write it with numpy.savez, "
                "for CIFAR-100 with tools/dev/cifar100_npz.py."
            ) from None
        except (BadZipFile, EOFError, KeyError, OSError, ValueError) as error:
            raise ValueError(
                f"cannot read images {path}: {error}. Write the file again."
            ) from error
        self.images = torch.from_numpy(images)
        self.labels = torch.from_numpy(labels)
        self.metainfo = {"classes": classes}

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One image (3 x H x W, uint8) and its label (a scalar)."""
        return {"inputs": self.images[index], "labels": self.labels[index]}

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """A batch: ``inputs`` (B x 3 x H x W, uint8) and ``labels`` (B)."""
        chosen = torch.as_tensor(indices)
        return {"inputs": self.images[chosen], "labels": self.labels[chosen]}
