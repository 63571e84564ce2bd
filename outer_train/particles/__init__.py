"""What estimators stand on: particles, their noise and unrolls, and moments over all devices."""

from outer_train.particles.particles import vary

__all__ = [
    "vary",
]
