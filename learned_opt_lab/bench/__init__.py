"""How fast it is, against the limits of the machine at hand."""

from learned_opt_lab.bench.outer_training import throughput, w1_family

__all__ = [
    "throughput",
    "w1_family",
]
