"""What a network clustered: traces, pictures, importance and quality of its clusters.

docs/interpretability.md is the guide. ``quality`` and ``measure`` import scikit-image,
``report_images`` the inferencers; they are left to those who ask for them.
"""

from .figures import (
    cluster_figure,
    cluster_panel,
    decision_figure,
    feature_colors,
    mean_colors,
    merge_clusters,
)
from .hook import ClusterVisualizationHook
from .importance import (
    Importance,
    ReceptiveFields,
    StageInput,
    class_probabilities,
    grad_cam,
    importance,
    importances,
    receptive_fields,
    stage_input,
)
from .insertion_deletion import curves, faithfulness
from .pixels import from_sample, to_input, to_picture
from .segments import MergeTree, merge_tree, segments
from .trace import Clustering, Trace, find_backbone, trace, tracing

__all__ = [
    "ClusterVisualizationHook",
    "Clustering",
    "Importance",
    "MergeTree",
    "ReceptiveFields",
    "StageInput",
    "Trace",
    "class_probabilities",
    "cluster_figure",
    "cluster_panel",
    "curves",
    "decision_figure",
    "faithfulness",
    "feature_colors",
    "find_backbone",
    "from_sample",
    "grad_cam",
    "importance",
    "importances",
    "mean_colors",
    "merge_clusters",
    "merge_tree",
    "receptive_fields",
    "segments",
    "stage_input",
    "to_input",
    "to_picture",
    "trace",
    "tracing",
]
