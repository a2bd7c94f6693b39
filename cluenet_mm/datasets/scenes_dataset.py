"""What the data sets of digit scenes have in common."""

from collections.abc import Sequence

from .digits_scenes import prepare_scenes
from .split import check_split


class ScenesDataset:
    """Mixin in front of a data set of mmdet or mmseg: its scenes are made on first use.

    Args:
        split: ``"train"`` or ``"val"``.
        data_root: Folder of the scenes; made if it is missing.
        pipeline: Transforms.
        indices: Only the first so many samples, or the samples at these positions.
        test_mode: Whether a failing transform is an error.
        lazy_init: Whether to leave the files for later.

    Raises:
        ValueError: If the split is unknown.
        FileExistsError: If ``data_root`` holds something else.
    """

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
            data_root=data_root,
            pipeline=pipeline,
            indices=indices,
            test_mode=test_mode,
            lazy_init=lazy_init,
        )

    @staticmethod
    def files(split: str) -> dict:
        """Where a split lies below ``data_root``, as options of the data set."""
        raise NotImplementedError

    def load_data_list(self) -> list[dict]:
        """Read the annotations, from scenes that are made first where needed."""
        prepare_scenes(self.data_root)
        return super().load_data_list()
