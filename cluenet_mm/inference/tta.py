"""Test-time augmentation of any task, with no more in the config than a test needs."""

from collections.abc import Sequence

from mmengine.config import Config, ConfigDict

from ..config import inner_datasets, metrics_of, type_name
from ..tasks import TASKS

__all__ = ["use_tta", "with_flips"]


def use_tta(cfg: Config) -> None:
    """Wrap the model for test-time augmentation and exchange the pipeline.

    Args:
        cfg: Changed in place. Its ``tta_model`` and ``tta_pipeline`` are used; where
            they are missing, the library's model, and the image with its mirror image.

    Raises:
        ValueError: No model that merges views is known for the task.
    """
    if "tta_model" not in cfg:
        task = TASKS.get(cfg.get("default_scope"))
        if task is None:
            raise ValueError(
                "cannot use --tta: the config has no tta_model, and its default_scope "
                "has none, either. Write a tta_model"
            )
        if any("Panoptic" in type_name(metric) for metric in metrics_of(cfg)):
            raise ValueError(
                "cannot use --tta: views of a panoptic segmentation cannot be merged. "
                "Leave it out, or write a tta_model"
            )
        cfg.tta_model = ConfigDict(type=task.tta_model)
    for dataset in inner_datasets(cfg.test_dataloader.dataset):
        dataset.pipeline = cfg.get("tta_pipeline") or with_flips(dataset.pipeline)
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


def with_flips(pipeline: Sequence[dict]) -> list[dict]:
    """A test pipeline that makes two views, of the image as it is and mirrored.

    The labels are those of the original image, so the flip comes before them.
    """
    loads = type_name(pipeline[0]) == "LoadImageFromFile"
    *steps, pack = pipeline[1:] if loads else pipeline
    kinds = [type_name(step) for step in steps]
    at = kinds.index("LoadAnnotations") if "LoadAnnotations" in kinds else len(steps)
    if "meta_keys" in pack:
        needed = (*pack["meta_keys"], "flip", "flip_direction")
        pack = ConfigDict(pack, meta_keys=tuple(dict.fromkeys(needed)))
    flips = [ConfigDict(type="RandomFlip", prob=prob) for prob in (0.0, 1.0)]
    views = [[step] for step in steps]
    views = [*views[:at], flips, *views[at:], [pack]]
    augment = ConfigDict(type="TestTimeAug", transforms=views)
    return [pipeline[0], augment] if loads else [augment]
