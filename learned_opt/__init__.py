"""How it is optimized: learned optimizers as Optax transformations."""

from learned_opt import catalog, ranges
from learned_opt._push import push
from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.hypergradient._marthe import hd, marthe, rtho
from learned_opt.hypergradient.search import find_hyper_learning_rate
from learned_opt.kinds import matrices, of_kind, tensor_kinds
from learned_opt.orthogonal._orthogonal_mlp import orthogonal_mlp
from learned_opt.per_parameter._adafactor_mlp import adafactor_mlp
from learned_opt.per_parameter._mlp import mlp
from learned_opt.per_parameter.adam_start import AdamStart
from learned_opt.saving import load, load_theta, pretrained_names, save
from learned_opt.version import __version__

__all__ = [
    "AdamStart",
    "LearnedOptimizer",
    "Theta",
    "__version__",
    "adafactor_mlp",
    "catalog",
    "find_hyper_learning_rate",
    "hd",
    "load",
    "load_theta",
    "marthe",
    "matrices",
    "mlp",
    "of_kind",
    "orthogonal_mlp",
    "pretrained_names",
    "push",
    "ranges",
    "rtho",
    "save",
    "tensor_kinds",
]
