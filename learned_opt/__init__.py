"""How it is optimized: learned optimizers as Optax transformations."""

from learned_opt.base import LearnedOptimizer
from learned_opt.mlp import mlp
from learned_opt.serialization import load, load_theta, save

__all__ = ["LearnedOptimizer", "load", "load_theta", "mlp", "save"]
