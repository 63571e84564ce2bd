"""Trees of parameters, gradients and averages:
what is trained, what mirrors what, what is packed.
"""

from learned_opt.trees.packing import at_least_float32

__all__ = [
    "at_least_float32",
]
