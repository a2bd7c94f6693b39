r"""Write one HTML file in which the clusters of a network can be explored.

Pointing at the photo lights up the pixel's cluster at every stage and head. Works for
classifiers, detectors and segmentors; clusters are ranked by their importance for the
predicted class in classifiers. The file needs no server, no network and no library.

Examples:
    python tools/visualize/explore.py photo.jpg CONFIG CHECKPOINT --out report.html
    python tools/visualize/explore.py val CONFIG CHECKPOINT --out report.html --limit 4
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS
from mmengine.structures import BaseDataElement
from mmengine.utils import track_iter_progress
from torch import Tensor

from cluenet_mm.checkpoint import CheckpointError
from cluenet_mm.engine.cli import (
    device,
    fail,
    output_file,
    parse_arguments,
    positive,
    read_config,
)
from cluenet_mm.engine.draw import read_image
from cluenet_mm.engine.inference import IMAGE_SUFFIXES, Predictor
from cluenet_mm.interpret import (
    Trace,
    class_probabilities,
    find_backbone,
    to_input,
    to_picture,
    tracing,
)
from cluenet_mm.interpret.report import (
    Exhibit,
    Finding,
    Ranking,
    rank_clusters,
    write_report,
)

FINDINGS = 5
INSTANCES = 20
# Pixels of a forward pass when importance is computed: 32 images of 224 x 224.
BATCH_PIXELS = 32 * 224 * 224
# Data sets are sorted by class: a stride over all of them shows many.
STRIDE = 37
TITLES = {
    "mmpretrain": "Prediction",
    "mmdet": "Instances found",
    "mmseg": "Classes found, by area",
}
NO_CLASS = "Importance is for classifiers: it needs one class for the whole image."


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "images",
        nargs="+",
        help="files, folders, or `val` for samples of the config's data set",
    )
    parser.add_argument("config", help="path or name of a config")
    parser.add_argument("checkpoint", help="weights of that config")
    parser.add_argument("--out", type=output_file, required=True, help="the HTML file")
    parser.add_argument(
        "--limit", type=positive, default=8, help="at most so many images (default: 8)"
    )
    parser.add_argument(
        "--importance",
        choices=["last", "all", "none"],
        default="last",
        help="stages whose clusters are ranked: two forward passes a cluster "
        "(default: the last stage)",
    )
    parser.add_argument(
        "--size",
        type=positive,
        metavar="PIXELS",
        help="show whole images with this shorter side to a classifier, instead of "
        "what the config's test pipeline makes of them",
    )
    parser.add_argument("--note", help="a remark on the model, such as its training")
    parser.add_argument(
        "--score-thr",
        type=float,
        default=0.3,
        help="list instances from this score on (default: 0.3)",
    )
    parser.add_argument(
        "--device", type=device, help="such as cpu or cuda:1 (default: a free GPU)"
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        default={},
        metavar="KEY=VALUE",
        help="override settings of the config",
    )
    return parse_arguments(parser)


@dataclass(frozen=True)
class Source:
    """An image: its name, and how the model predicts for it."""

    name: str
    predict: Callable[[], BaseDataElement]


def find_files(images: str) -> list[Path]:
    """The images of a path.

    Raises:
        FileNotFoundError: It is no file, and no folder that holds an image.
    """
    source = Path(images)
    if source.is_file():
        return [source]
    found = sorted(source.iterdir()) if source.is_dir() else []
    found = [f for f in found if f.is_file() and f.suffix.lower() in IMAGE_SUFFIXES]
    if not found:
        raise FileNotFoundError(f"{images} is no image and no folder that holds one")
    return found


def sources(
    images: str, cfg: Config, predictor: Predictor, size: int | None
) -> Iterator[Source]:
    """The images that one word of the command line stands for."""
    if images == "val":
        dataset = DATASETS.build(cfg.val_dataloader.dataset)
        for i in range(len(dataset)):
            number = i * STRIDE % len(dataset)
            batch = pseudo_collate([dataset[number]])
            yield Source(f"val {number}", lambda b=batch: step(predictor, b))
        return
    for file in find_files(images):
        if size is None:
            yield Source(file.name, lambda f=file: predictor(f)[0])
        else:
            yield Source(file.name, lambda f=file: resized(predictor, f, size))


@torch.no_grad()
def step(predictor: Predictor, batch: dict) -> BaseDataElement:
    """Predict for a sample of a data set."""
    return predictor.model.test_step(batch)[0].cpu()


@torch.no_grad()
def resized(predictor: Predictor, file: Path, size: int) -> BaseDataElement:
    """Predict for a whole image of another size."""
    image = read_image(file)
    scale = size / min(image.shape[:2])
    shape = [max(1, round(scale * n)) for n in image.shape[1::-1]]  # width, height
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    inputs = to_input(predictor.model, cv2.resize(image, shape, interpolation=smooth))
    return predictor.model(inputs, mode="predict")[0].cpu()


def look(source: Source, predictor: Predictor) -> tuple[BaseDataElement, Tensor, Trace]:
    """Predict once, and keep what the backbone got and clustered.

    Raises:
        ValueError: The model looks at an image more than once.
    """
    seen = []
    backbone = find_backbone(predictor.model)
    handle = backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        with tracing(backbone) as traces:
            sample = source.predict()
    finally:
        handle.remove()
    if len(traces) != 1:
        raise ValueError(
            f"the model looked at {source.name} {len(traces)} times, and a report "
            "shows one forward pass; of a segmentor with sliding windows, set "
            "--cfg-options model.test_cfg.mode=whole"
        )
    return sample, seen[0], traces[0].to("cpu")


def exhibit(source: Source, predictor: Predictor, ranked: str, score: float) -> Exhibit:
    """Everything that the report shows of one image."""
    sample, inputs, maps = look(source, predictor)
    picture = to_picture(predictor.model, inputs)
    # What lies behind is padding.
    height, width = sample.get("img_shape", picture.shape)[:2]
    record = predictor.record(sample)
    ranking = None
    if predictor.scope == "mmpretrain" and ranked != "none":
        ranking = rank(predictor, inputs[0], maps, record, ranked)
    label = sample.get("gt_label")
    return Exhibit(
        name=source.name,
        picture=np.ascontiguousarray(picture[:height, :width]),
        maps=maps,
        findings=findings(sample, predictor, record, score),
        truth=None if label is None else predictor.class_name(int(label[0])),
        ranking=ranking,
    )


def rank(
    predictor: Predictor, image: Tensor, maps: Trace, record: dict, ranked: str
) -> Ranking:
    """Importance for the predicted class."""
    last = len(maps.layers()) - 1
    return rank_clusters(
        class_probabilities(predictor.model),
        image,
        maps,
        record["label"],
        record["class"],
        range(last + 1) if ranked == "all" else [last],
        batch_size=min(32, max(1, BATCH_PIXELS // image[0].numel())),
    )


def findings(
    sample: BaseDataElement, predictor: Predictor, record: dict, score: float
) -> list[Finding]:
    """The prediction as lines."""
    if predictor.scope == "mmpretrain":
        best = np.argsort(record["scores"])[::-1][:FINDINGS]
        return [
            Finding(predictor.class_name(int(i)), record["scores"][i]) for i in best
        ]
    height, width = record["size"]
    if predictor.scope == "mmseg":
        found = [
            Finding(c["class"], c["pixels"] / (height * width))
            for c in record["classes"]
        ]
        return sorted(found, key=lambda f: -f.score)
    rows, columns = sample.img_shape[:2]
    scale = np.array([columns / width, rows / height] * 2)
    found = [
        Finding(i["class"], i["score"], tuple((scale * i["bbox"]).tolist()))
        for i in record["instances"]
        if i["score"] >= score
    ]
    return sorted(found, key=lambda f: -f.score)[:INSTANCES]


def describe(cfg: Config, args: argparse.Namespace, predictor: Predictor) -> str:
    """One line about the model."""
    backbone = find_backbone(predictor.model)
    arch = cfg.model.backbone.get("arch", "")
    arch = f" {arch}" if isinstance(arch, str) else ""
    line = f"{type(backbone).__name__}{arch} in {type(predictor.model).__name__}"
    line += f" · {Path(args.config).stem} · {Path(args.checkpoint).name}"
    return f"{line} · {args.note}" if args.note else line


def main() -> None:
    """Run the command line."""
    args = parse_args()
    try:
        for word in args.images:
            if word != "val":
                find_files(word)  # before the model is built
        cfg = read_config(args.config, args.cfg_options)
        predictor = Predictor(cfg, args.checkpoint, args.device)
        find_backbone(predictor.model)
        if args.size is not None and predictor.scope != "mmpretrain":
            raise ValueError(
                "--size is for classifiers; of other models change the pipeline's "
                "Resize with --cfg-options"
            )
        listed = chain.from_iterable(
            sources(word, cfg, predictor, args.size) for word in args.images
        )
        exhibits = [
            exhibit(source, predictor, args.importance, args.score_thr)
            for source in track_iter_progress(list(islice(listed, args.limit)))
        ]
        unranked = {
            "last": "Importance was computed for the last stage; "
            "--importance all does all.",
            "all": "",
            "none": "Importance was left out (--importance none).",
        }[args.importance]
        write_report(
            args.out,
            exhibits,
            describe(cfg, args, predictor),
            findings_title=TITLES[predictor.scope],
            unranked=unranked if predictor.scope == "mmpretrain" else NO_CLASS,
        )
    except (CheckpointError, OSError, ValueError) as error:
        fail(error)
    size = args.out.stat().st_size / 1e6
    print(f"\n{args.out}: {len(exhibits)} images, {size:.1f} MB; open it in a browser")


if __name__ == "__main__":
    main()
