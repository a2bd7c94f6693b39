"""What the datasets of digit scenes have in common."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from .digits_scenes import prepare_scenes
from .split import check_split


class ScenesDataset:
    """Mixin in front of a dataset of mmdet or mmseg: its scenes are made on first use.

    Its options and errors are those that the datasets name.
    """

    # Where a split lies below ``data_root``, as options of the dataset.
    files: ClassVar[Callable[[str], dict]]

    def __init__(
        self,
        split: str,
        data_root: str = "data/digits_scenes",
        pipeline: Sequence = (),
        indices: int | Sequence[int] | None = None,
        test_mode: bool = False,
        lazy_init: bool = False,
    ) -> None:
        check_split(split)
        super().__init__(
            **self.files(split),
            data_root=str(Path(data_root).expanduser()),
            pipeline=pipeline,
            indices=indices,
            test_mode=test_mode,
            lazy_init=lazy_init,
        )

    def load_data_list(self) -> list[dict]:
        """Read the annotations, from scenes that are made first where needed."""
        prepare_scenes(self.data_root)
        return super().load_data_list()
