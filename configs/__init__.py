"""One outer-training run a file: frozen dataclasses, no logic."""

from configs import base

__all__ = ["base"]
