"""Cluster maps of a few images, drawn while a model learns."""

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from ..registry import HOOKS
from .figures import COLORINGS, cluster_figure, render
from .pixels import evenly_spaced, from_sample
from .trace import find_backbone, trace


@HOOKS.register_module()
class ClusterVisualizationHook(Hook):
    """Draw the clusters of fixed validation images after every validation.

    The pictures go to the back-ends of the run's visualizer (files, TensorBoard, ...)
    as ``clusters_<position>``, where the position is that in the validation set, with
    the iteration as their step. They are drawn with the weights that were validated,
    averaged ones included. The task does not matter; one process draws.

    Args:
        num_images: So many images, spread evenly over the validation set.
        indices: Positions of the images, instead.
        interval: Draw after every so many validations.
        max_heads: So many heads of every stage at most.
        coloring: ``feature``, ``mean`` or ``palette``, see
            :func:`cluenet_mm.interpret.cluster_figure`.
        merge: Merge the clusters of every map to so many.

    Raises:
        ValueError: An option is out of range, the model holds no clustering backbone,
            or the validation set has no image at one of the ``indices``.
    """

    # Before EMAHook puts the weights of the training back.
    priority = "HIGH"

    def __init__(
        self,
        num_images: int = 4,
        indices: list[int] | None = None,
        interval: int = 1,
        max_heads: int = 1,
        coloring: str = "feature",
        merge: int | None = None,
    ) -> None:
        counts = {"num_images": num_images, "interval": interval, "merge": merge or 1}
        for name, count in (counts | {"max_heads": max_heads}).items():
            if count < 1:
                raise ValueError(f"{name} must be positive, not {count}")
        if coloring not in COLORINGS:
            raise ValueError(f"coloring must be one of {COLORINGS}, not {coloring!r}")
        self.num_images = num_images
        self.indices = indices
        self.interval = interval
        self.max_heads = max_heads
        self.coloring = coloring
        self.merge = merge
        self._samples: dict[int, dict] = {}
        self._validations = 0

    def before_run(self, runner: Runner) -> None:
        """Refuse a model without clusters at once, not after the first epoch."""
        find_backbone(runner.model)

    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Draw, if it is time."""
        self._validations += 1
        if self._validations % self.interval or runner.rank != 0:
            return
        if not self._samples:
            self._samples = self._read(runner.val_dataloader.dataset)
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        for position, sample in self._samples.items():
            inputs, image = from_sample(model, sample)
            figure = cluster_figure(
                image,
                trace(model, inputs),
                max_heads=self.max_heads,
                coloring=self.coloring,
                merge=self.merge,
            )
            picture = render(figure)
            runner.visualizer.add_image(f"clusters_{position}", picture, runner.iter)

    def _read(self, dataset: object) -> dict[int, dict]:
        """The samples, once: they are the same in every picture."""
        count = len(dataset)
        positions = self.indices
        if positions is None:
            positions = evenly_spaced(count, self.num_images)
        for position in positions:
            if not 0 <= position < count:
                raise ValueError(
                    f"ClusterVisualizationHook: indices has {position}, but the "
                    f"validation set has {count} images"
                )
        return {position: dataset[position] for position in positions}
