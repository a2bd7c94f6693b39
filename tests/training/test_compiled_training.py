"""A compiled run of the runner learns what an eager one does."""

from pathlib import Path

import pytest
import torch
from mmengine.runner import Runner

from cluenet_mm.config import read_config

SMALL = {
    "depths": (1, 1),
    "embed_dims": (8, 16),
    "mlp_ratios": (1, 1),
    "num_heads": (1, 2),
    "patch": (4, 4, 0),
}
ARCHS = {
    "cluenet": {**SMALL, "head_dims": 8, "pool_norm": True},
    "clusterformer": SMALL,
}


def train(folder: Path, family: str, compiled: bool) -> tuple[dict, dict]:
    """Parameters of a small network before and after three iterations."""
    cfg = read_config(f"{family}/cls_digits.py")
    cfg.model.backbone.update(arch=ARCHS[family], cluster_grids=2, out_indices=1)
    cfg.model.head.in_channels = 16
    cfg.train_dataloader.update(batch_size=8)
    cfg.train_dataloader.dataset.indices = 24
    cfg.optim_wrapper.optimizer.update(lr=1e-2, weight_decay=0.0)
    cfg.train_cfg.max_epochs = 1
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.work_dir, cfg.experiment_name = str(folder), f"{family}_{compiled}"
    if compiled:
        cfg.compile = {"backend": "aot_eager"}
    torch._dynamo.reset()
    runner = Runner.from_cfg(cfg)
    runner.model.init_weights()
    before = {k: p.detach().clone() for k, p in runner.model.named_parameters()}
    runner.train()
    assert runner.iter == 3
    return before, dict(runner.model.named_parameters())


@pytest.mark.parametrize("family", ARCHS)
def test_compiled_training_is_the_eager_one(tmp_path, family):
    before, eager = train(tmp_path, family, compiled=False)
    same, compiled = train(tmp_path, family, compiled=True)
    for name, start in before.items():
        assert torch.equal(same[name], start)
        moved = (eager[name] - start).abs().max()
        assert moved > 1e-5 or name.endswith("bias"), name
        error = (compiled[name] - eager[name]).abs().max()
        assert error < 0.01 * moved + 1e-6, name
