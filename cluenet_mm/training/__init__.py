"""What a training run is made of beside networks and data; registered on import."""

from .schedulers import WarmupLR

__all__ = ["WarmupLR"]
