"""What one run of outer-training is:
frozen dataclasses, shown field by field by `learned-opt train CONFIG --help`.

Config files import everything from here. What comes in several kinds, chosen on the command line,
has a file a role; a class that is `register`ed there, or anywhere else, is a further kind, also
found here by its name. None of the files imports JAX, so that the help and bad input are answered
at once. `learned_opt_lab/runs/build.py` turns a `TrainConfig` into tasks, optimizer, estimator and
outer step; `learned_opt_lab/runs/config_json.py` writes and reads `config.json`.
"""

from configs.base.estimators import (
    Estimator,
    EvolutionStrategies,
    ForwardMode,
    FullES,
    Merged,
    NoiseReuseES,
    PairEstimator,
    PersistentES,
    Reparameterization,
    TruncatedBackprop,
)
from configs.base.kinds import Kind, kinds_of, name_of, register, registered
from configs.base.optimizers import Mlp, NamedOptimizer, Optimizer, OrthogonalMlp, StartAsAdam
from configs.base.run import HeldOut, InnerProblem, OuterOptimizer, TrainConfig
from configs.base.searches import CrossEntropy, Search, StartSearch, StepSearch
from configs.base.tasks import ClassSubset, CustomFamily, Family, RandomQuadratic
from configs.base.truncations import Constant, Linear, LogUniform, Truncation

__all__ = [
    "ClassSubset",
    "Constant",
    "CrossEntropy",
    "CustomFamily",
    "Estimator",
    "EvolutionStrategies",
    "Family",
    "ForwardMode",
    "FullES",
    "HeldOut",
    "InnerProblem",
    "Kind",
    "Linear",
    "LogUniform",
    "Merged",
    "Mlp",
    "NamedOptimizer",
    "NoiseReuseES",
    "Optimizer",
    "OrthogonalMlp",
    "OuterOptimizer",
    "PairEstimator",
    "PersistentES",
    "RandomQuadratic",
    "Reparameterization",
    "Search",
    "StartAsAdam",
    "StartSearch",
    "StepSearch",
    "TrainConfig",
    "TruncatedBackprop",
    "Truncation",
    "kinds_of",
    "name_of",
    "register",
    "registered",
]


def __getattr__(name: str) -> type[Kind]:
    """A kind that is registered and not listed above:
    one more class in a role's file is all it takes.
    """
    if name in registered():
        return registered()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
