"""How it is optimized: learned optimizers as Optax transformations."""

from learned_opt.base import LearnedOptimizer
from learned_opt.hypergradient._marthe import hd, marthe, rtho
from learned_opt.hypergradient.search import find_hyper_learning_rate
from learned_opt.per_parameter._adafactor_mlp import adafactor_mlp
from learned_opt.per_parameter._mlp import mlp
from learned_opt.saving import load, load_theta, save

__all__ = [
    "LearnedOptimizer",
    "adafactor_mlp",
    "find_hyper_learning_rate",
    "hd",
    "load",
    "load_theta",
    "marthe",
    "mlp",
    "rtho",
    "save",
]
