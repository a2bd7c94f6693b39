"""A compiled run of the runner learns what an eager one does.

tests/backbones/test_contract.py compiles every family; this is about the runner.
"""

from pathlib import Path

import torch
from mmengine.runner import Runner

from cluenet_mm.config import read_config

ARCH = {
    "depths": (1, 1),
    "embed_dims": (8, 16),
    "mlp_ratios": (1, 1),
    "num_heads": (1, 2),
    "patch": (4, 4, 0),
}


def train(folder: Path, compiled: bool) -> tuple[dict, dict]:
    """Parameters of a small network before and after three iterations."""
    cfg = read_config("clusterformer/cls_digits.py")
    cfg.model.backbone.update(arch=ARCH, cluster_grids=2, out_indices=1)
    cfg.model.head.in_channels = 16
    cfg.train_dataloader.update(batch_size=8)
    cfg.train_dataloader.dataset.indices = 24
    cfg.optim_wrapper.optimizer.update(lr=1e-2, weight_decay=0.0)
    cfg.train_cfg.max_epochs = 1
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.work_dir, cfg.experiment_name = str(folder), f"compiled_{compiled}"
    if compiled:
        cfg.compile = {"backend": "aot_eager"}
    torch._dynamo.reset()
    runner = Runner.from_cfg(cfg)
    runner.model.init_weights()
    before = {k: p.detach().clone() for k, p in runner.model.named_parameters()}
    runner.train()
    assert runner.iter == 3
    return before, dict(runner.model.named_parameters())


def test_compiled_training_is_the_eager_one(tmp_path):
    before, eager = train(tmp_path, compiled=False)
    same, compiled = train(tmp_path, compiled=True)
    for name, start in before.items():
        assert torch.equal(same[name], start)
        moved = (eager[name] - start).abs().max()
        assert moved > 1e-5 or name.endswith("bias"), name
        error = (compiled[name] - eager[name]).abs().max()
        assert error < 0.01 * moved + 1e-6, name
