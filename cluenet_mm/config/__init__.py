"""What a config says: how it is read, what is refused, and what its parts are."""

from .parts import (
    PLACES,
    image_shape,
    inner_datasets,
    metrics_of,
    num_classes,
    preprocessor_of,
    resolve_type,
    tested_dataset,
    type_name,
    with_type_name,
)
from .reading import count_classes, default_work_dir, find_config, read_config

__all__ = [
    "PLACES",
    "count_classes",
    "default_work_dir",
    "find_config",
    "image_shape",
    "inner_datasets",
    "metrics_of",
    "num_classes",
    "preprocessor_of",
    "read_config",
    "resolve_type",
    "tested_dataset",
    "type_name",
    "with_type_name",
]
