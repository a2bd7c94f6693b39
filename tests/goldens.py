"""What the official code computes, rebuilt from names, shapes and seeds."""

import json
from pathlib import Path

import numpy as np
import torch
from seeded_weights import seeded_images, seeded_state_dict

FOLDER = Path(__file__).parent / "data" / "goldens"


def load(case):
    """Configuration, official weights, input and expected outputs of a case."""
    spec = json.loads((FOLDER / f"{case}.json").read_text())
    shapes = spec["parameters"]
    weights = {k: torch.as_tensor(v) for k, v in seeded_state_dict(shapes).items()}
    images = torch.from_numpy(seeded_images(*spec["input"]))
    with np.load(FOLDER / f"{case}.npz") as arrays:
        expected = {
            name: torch.from_numpy(arrays[name])
            for name in ("stage0", "stage1", "stage2", "stage3", "logits")
        }
    return spec["config"], weights, images, expected


def arch(config):
    """The ``arch`` of our backbone for a configuration."""
    found = {
        "depths": tuple(config["layers"]),
        "embed_dims": tuple(config["embed_dims"]),
        "mlp_ratios": tuple(config["mlp_ratios"]),
        "num_heads": tuple(config["heads"]),
        "head_dims": config["head_dim"][0],
        "patch": (4, 4, 0),
    }
    if "pool_norm2" in config:
        found["patch"] = (
            config["in_patch_size"],
            config["in_stride"],
            config["in_pad"],
        )
        found["pool_norm"] = config["pool_norm2"]
    return found


def relative_error(actual, expected):
    """Largest absolute error over the largest absolute value."""
    return ((actual - expected).abs().max() / expected.abs().max()).item()
