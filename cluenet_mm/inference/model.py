"""A model outside of a runner."""

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from ..building import building
from ..checkpoint import load_checkpoint, load_weights


def build_model(cfg: Config, checkpoint: str | None = None) -> nn.Module:
    """Build the model of a config and load its weights.

    Args:
        cfg: Config of any task; its ``default_scope`` becomes the current one.
        checkpoint: File or address of the weights, which must be those of the model.

    Returns:
        The model in evaluation mode, on the CPU.

    Raises:
        BuildError: If a part of the model cannot be built.
        FileNotFoundError: If the file does not exist.
        CheckpointError: If it cannot be read, or holds other weights.
    """
    init_default_scope(cfg.get("default_scope", "mmengine"))
    settings = dict(cfg.model)
    if "data_preprocessor" in cfg:  # where mmpretrain's configs keep it
        settings.setdefault("data_preprocessor", cfg.data_preprocessor)
    with building(cfg):
        model = MODELS.build(settings)
    if checkpoint is not None:
        load_weights(model, load_checkpoint(checkpoint), checkpoint)
    return model.eval()


def initialize(model: nn.Module) -> None:
    """Give a model the weights that its training would begin with.

    MMEngine's log of a line for every parameter is left out. Some weights are drawn
    when the model is built: seed the random numbers before that.
    """
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        model.init_weights()
    finally:
        logger.setLevel(level)
