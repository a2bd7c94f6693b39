"""Tables of what tools/analysis/cluster_quality.py measured, in Markdown."""

from collections.abc import Sequence

from .markdown import head, row

EMERGENCE = {
    "accuracy": "ASA ↑",
    "undersegmentation": "UE ↓",
    "boundary_recall": "BR ↑",
    "best_iou": "best IoU ↑",
}
FAITHFULNESS = {
    "insertion": "insertion ↑",
    "random_insertion": "random order",
    "deletion": "deletion ↓",
    "random_deletion": "random order",
}
OTHERS = ("SLIC", "grid")


def emergence_table(results: Sequence[dict]) -> str:
    """How well clusters match objects; in brackets SLIC and grid.

    Args:
        results: Contents of files that the tool wrote.
    """
    return _table(results, "emergence", EMERGENCE, "clusters", "count")


def faithfulness_table(results: Sequence[dict]) -> str:
    """Areas under insertion and deletion curves; in brackets SLIC and grid.

    Args:
        results: Contents of files that the tool wrote.
    """
    return _table(results, "faithfulness", FAITHFULNESS, "regions", "regions")


def _table(
    results: Sequence[dict], part: str, columns: dict[str, str], what: str, count: str
) -> str:
    lines = head(["config", "images", "stage", what, *columns.values()])
    for result in results:
        if part not in result:
            continue
        images = f"{result[part]['images']}"
        if part == "emergence":
            images += f" of {result['dataset']}"
        by_kind: dict[int, dict[str, dict]] = {}
        for entry in result[part]["rows"]:
            by_kind.setdefault(entry["stage"], {})[entry["segments"]] = entry
        for stage, kinds in by_kind.items():
            own = kinds["clusters"]
            cells = [f"`{result['config']}`", images, str(stage), f"{own[count]:.1f}"]
            for name in columns:
                beside = ", ".join(f"{kinds[other][name]:.3f}" for other in OTHERS)
                cells.append(f"{own[name]:.3f} ({beside})")
            lines.append(row(cells))
    return "\n".join(lines) + "\n"
