"""A validation that was cut off is made up for, as if nothing had happened."""

from pathlib import Path

import pytest
import toy

from cluenet_mm.checkpoint import load_checkpoint

WORK = "work_dirs/toy_config"
EPOCHS = """
custom_hooks.append(dict(type='DieInValidation', number=None))
default_hooks['checkpoint'].update(save_best='accuracy', rule='greater')
train_cfg = dict(by_epoch=True, max_epochs=3)
optim_wrapper['optimizer']['lr'] = 0.1
"""
ITERATIONS = f"""
{EPOCHS}
train_cfg = dict(by_epoch=False, max_iters=18, val_interval=6)
train_dataloader.update(sampler=dict(type='InfiniteSampler', shuffle=True))
default_hooks['checkpoint'].update(interval=6, by_epoch=False)
log_processor = dict(window_size=1, by_epoch=False)
param_scheduler = [dict(type='PolyLR', power=0.9, by_epoch=False, end=18)]
"""


def accuracies(work: Path) -> list[str]:
    """What all runs in a folder logged at the end of their validations."""
    logs = "".join(path.read_text() for path in sorted(work.glob("*/*.log")))
    return [line.split()[-5] for line in logs.splitlines() if "accuracy: " in line]


@pytest.mark.parametrize("extra", [EPOCHS, ITERATIONS], ids=["epochs", "iterations"])
def test_a_validation_that_was_cut_off_comes_first(tmp_path, extra):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
        toy.write_config(folder, extra, workers=1)
    toy.run(whole, "train.py", "toy_config.py")
    command = ("train.py", "toy_config.py", "--resume", "--cfg-options")
    # The second of three validations, and then the last one.
    for _ in range(2):
        toy.run(cut, *command, "custom_hooks.1.number=2", status=9)
    assert len(accuracies(cut / WORK)) == 2
    output = toy.run(cut, *command[:3])
    assert "was cut off: it comes first" in output
    assert "Already finished" in toy.run(cut, *command[:3])

    assert accuracies(cut / WORK) == accuracies(whole / WORK)
    names = [{p.name for p in f.glob("*.pth")} for f in (whole / WORK, cut / WORK)]
    assert names[0] == names[1]
    assert sum("best" in name for name in names[0]) == 1
    for name in names[0]:
        ends = [load_checkpoint(f / WORK / name) for f in (whole, cut)]
        hubs = [end["message_hub"]["runtime_info"] for end in ends]
        assert hubs[0].get("best_score") == hubs[1].get("best_score")
        for key, value in ends[0]["state_dict"].items():
            assert (value == ends[1]["state_dict"][key]).all()
