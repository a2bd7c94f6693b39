"""What the READMEs and metafiles say is what the results files hold."""

import json
import re
from pathlib import Path

import docs_tables
import pytest
import yaml
from mmengine.config import Config
from modelindex.load_model_index import load

from cluenet_mm.checkpoint import load_checkpoint
from cluenet_mm.weights import published

ROOT = Path(__file__).parents[1]
FAMILIES = sorted(path.parent.name for path in ROOT.glob("configs/*/metafile.yml"))
SIZES = {
    model["config"]: model
    for model in json.loads((ROOT / "docs/results/models.json").read_text())["models"]
}


def test_the_index_names_every_metafile():
    index = yaml.safe_load((ROOT / "model-index.yml").read_text())
    assert index["Import"] == [f"configs/{name}/metafile.yml" for name in FAMILIES]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_metafile_describes_its_configs(family):
    metafile = yaml.safe_load((ROOT / f"configs/{family}/metafile.yml").read_text())
    collection = metafile["Collections"][0]
    assert (ROOT / collection["README"]).is_file()
    names = [model["Name"] for model in metafile["Models"]]
    assert len(set(names)) == len(names)
    for model in metafile["Models"]:
        assert model["In Collection"] == collection["Name"]
        Config.fromfile(ROOT / model["Config"])
        size = SIZES[model["Config"]]
        assert model["Metadata"]["Parameters"] == size["parameters"], model["Name"]
        assert model["Metadata"]["FLOPs"] == size["published"], model["Name"]
        ours = ()
        if "Weights" in model:  # of ours, and tested as published
            name = model["Weights"].removeprefix("cluenet_mm://")
            assert model["Config"] == f"configs/{published()[name].config}"
            loaded = load_checkpoint(model["Weights"])
            ours = loaded["meta"]["published"]["metrics"].values()
        for result in model.get("Results", ()):
            for metric, value in result["Metrics"].items():
                assert "paper)" in metric or value in [round(x, 2) for x in ours]


def test_mim_can_read_the_index():
    """With the reader that mim has, from the root as in an installed copy."""
    index = load(str(ROOT / "model-index.yml"))
    faults = index.check(silent=True)
    # OpenMMLab names a README from the root, and the reader looks beside the metafile.
    assert [fault for fault in faults if "Path to README file" not in fault] == []
    collections = {collection.name for collection in index.collections}
    assert len(collections) == len(FAMILIES)
    names = [model.name for model in index.models]
    assert len(set(names)) == len(names) > len(collections)
    for model in index.models:
        assert model.in_collection in collections
        assert (ROOT / model.config).is_file()
        for result in model.results or ():
            assert all(isinstance(value, float) for value in result.metrics.values())
    assert {model.in_collection for model in index.models} == collections
    index.build_models_with_collections()
    assert all(
        model.full_model.data["Paper"]["URL"].startswith("https://")
        for model in index.models
    )


def test_every_classifier_is_measured():
    """All but those whose classes are counted in a folder of the user."""
    paths = set(ROOT.glob("configs/*/cls_*.py"))
    paths -= set(ROOT.glob("configs/*/cls_folder*.py"))
    configs = {path.relative_to(ROOT).as_posix() for path in paths}
    assert configs == {name for name in SIZES if "/cls_" in name}


def test_the_pages_hold_the_measured_tables():
    tables = 0
    for page in [*ROOT.glob("docs/*.md"), *ROOT.glob("configs/*/README.md")]:
        text = page.read_text()
        filled, count = docs_tables.fill(text, ROOT / "docs/results")
        assert filled == text, page
        tables += count
    assert tables > 20


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_s_readme_names_every_classifier(family):
    text = (ROOT / f"configs/{family}/README.md").read_text()
    table = text.split("<!--")[0]
    named = set()
    for cell in re.findall(r"`(cls_[^`]*)\.py`", table):
        prefix, braces, suffix = re.fullmatch(
            r"([^{]*)(?:\{(.*)\})?(.*)", cell
        ).groups()
        named |= {f"{prefix}{x}{suffix}" for x in (braces or "").split(",")}
    assert named == {path.stem for path in ROOT.glob(f"configs/{family}/cls_*.py")}
