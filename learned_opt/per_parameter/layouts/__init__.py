"""How an update goes over a tree:
averages mirror the parameters, or stay packed from step to step.
"""

from learned_opt.per_parameter.layouts._mirrored import mirrored
from learned_opt.per_parameter.layouts._packed import packed

__all__ = [
    "mirrored",
    "packed",
]
