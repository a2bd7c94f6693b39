"""Models outside of training: built, asked about image files, drawn, augmented."""

from .images import UnreadableImageError, find_images, read_image
from .model import build_model, initialize
from .predictor import Predictor

__all__ = [
    "Predictor",
    "UnreadableImageError",
    "build_model",
    "find_images",
    "initialize",
    "read_image",
]
