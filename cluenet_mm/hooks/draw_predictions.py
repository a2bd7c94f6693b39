"""Pictures of what a test predicts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from mmengine.visualization import Visualizer

from ..data_errors import unwrapped
from ..files import path_inside
from ..inference.draw import build_visualizer, draw_sample
from ..inference.images import read_image
from ..registry import HOOKS


@HOOKS.register_module()
class DrawPredictionsHook(Hook):
    """Draw every tested image with its labels and predictions, whatever the task.

    In place of the libraries' own hooks, whose pictures lie in different places, with
    red and blue exchanged in classification, and overwrite each other where classes
    have files of the same name.

    OpenMMLab's visualizers draw in the first process only; of a distributed test
    these are its share of the images.

    Args:
        out_dir: Folder for the pictures, which have the names that the images have
            below the dataset's folder, with ``.png`` for their suffix (behind it, where
            two would have the same).
        score_thr: Instances with a lower score are left out.
    """

    def __init__(self, out_dir: str, score_thr: float = 0.3) -> None:
        self.out_dir = Path(out_dir)
        self.score_thr = score_thr
        self._visualizer: Visualizer | None = None
        self._folders: list[str] = []
        self._drawn: set[str] = set()

    def before_test(self, runner: Runner) -> None:
        """Build the visualizer for the classes of the dataset."""
        dataset = runner.test_dataloader.dataset
        self._visualizer = build_visualizer(runner.cfg, dataset.metainfo)
        self._folders = [
            folder
            for part in unwrapped(dataset)
            for folder in (getattr(part, "data_prefix", None) or {}).values()
            if isinstance(folder, str)
        ]
        self._drawn = set()

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[BaseDataElement] | None = None,
    ) -> None:
        """Draw one batch."""
        for position, sample in enumerate(outputs):
            path = sample.get("img_path")
            if path is not None:
                image = read_image(path)
                name = self._name_below_data(path)
            else:  # a dataset in memory
                image = _input_image(runner.model, data_batch["inputs"], position)
                name = Path(f"{sample.get('sample_idx', len(self._drawn)):06d}")
            # Images of one name may differ in their suffix, or in their dataset.
            names = (name.with_suffix(""), name, f"{name}.{len(self._drawn)}")
            name = next(str(n) for n in names if str(n) not in self._drawn)
            self._drawn.add(name)
            picture = path_inside(self.out_dir, f"{name}.png")
            draw_sample(
                self._visualizer, image, sample, picture, score_thr=self.score_thr
            )

    def _name_below_data(self, path: str) -> Path:
        """Name of an image below the first folder that holds it, else its bare name."""
        for folder in self._folders:
            if folder and Path(path).is_relative_to(folder):
                return Path(path).relative_to(folder)
        return Path(Path(path).name)


def _input_image(model: torch.nn.Module, inputs: Sequence, position: int) -> np.ndarray:
    """An image of the batch as RGB, the first view in test-time augmentation."""
    while not isinstance(inputs, torch.Tensor) and not torch.is_tensor(inputs[0]):
        inputs = inputs[0]
    while hasattr(model, "module"):
        model = model.module
    image = inputs[position].permute(1, 2, 0).cpu().numpy().astype(np.uint8)
    return image[..., ::-1] if getattr(model.data_preprocessor, "to_rgb", 0) else image
