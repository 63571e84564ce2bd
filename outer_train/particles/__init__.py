"""What estimators stand on: particles, copies of an inner problem that live on across truncations.

Everything here is per device: arrays lead with the particles this device holds, and sums over them
are summed over the devices of a mesh axis where there is one.
"""

from outer_train.particles.collectives import vary

__all__ = [
    "vary",
]
