"""The names of splits."""


def check_split(split: str) -> None:
    """Refuse another name than ``"train"`` and ``"val"``.

    Raises:
        ValueError: If the split is unknown.
    """
    if split not in ("train", "val"):
        raise ValueError(f"split must be 'train' or 'val', not {split!r}")
