"""Names of learned optimizers: what a saved theta is loaded with."""

import difflib
import importlib
from collections.abc import Callable

from learned_opt import hyperparameters
from learned_opt.adafactor_mlp import adafactor_mlp
from learned_opt.base import LearnedOptimizer
from learned_opt.mlp import mlp

Factory = Callable[..., LearnedOptimizer]

OPTIMIZERS: dict[str, Factory] = {
    "mlp": mlp,
    "adafactor_mlp": adafactor_mlp,
    "sgd": hyperparameters.sgd,
    "momentum": hyperparameters.momentum,
    "adam": hyperparameters.adam,
    "adam8": hyperparameters.adam8,
}


def near_names(name: str, names: list[str]) -> str:
    """A hint for a mistyped name: the near ones, or all of them when none is near."""
    near = difflib.get_close_matches(name, names, n=3)
    return f"did you mean {' or '.join(near)}?" if near else f"known are: {', '.join(names) or 'none'}"


def optimizer_factory(name: str) -> Factory:
    """The factory of a name in `OPTIMIZERS`, or of the user's own `"module:name"`.

    Raises:
      ValueError: if there is no such optimizer.
    """
    module_name, colon, attribute = name.partition(":")
    if not colon:
        if name not in OPTIMIZERS:
            raise ValueError(f"unknown optimizer {name!r}; {near_names(name, list(OPTIMIZERS))}")
        return OPTIMIZERS[name]
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"unknown optimizer {name!r}: {error}") from error


def make_optimizer(name: str, kwargs: dict) -> LearnedOptimizer:
    """Builds an optimizer by name.

    Raises:
      ValueError: if there is no such optimizer or it does not take these arguments.
    """
    factory = optimizer_factory(name)
    try:
        return factory(**kwargs)
    except TypeError as error:
        raise ValueError(f"optimizer {name!r} does not take these arguments: {error}") from error
