"""Online learning rates by hypergradients."""

from learned_opt.hypergradient._marthe import hd, marthe, rtho
from learned_opt.hypergradient.search import (
    HyperLearningRateSearch,
    find_hyper_learning_rate,
    loss_diverged,
)

__all__ = [
    "HyperLearningRateSearch",
    "find_hyper_learning_rate",
    "hd",
    "loss_diverged",
    "marthe",
    "rtho",
]
