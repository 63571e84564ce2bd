"""Hand-designed optimizers and the search each one is entitled to:
one open table, name -> `Baseline`.

A name that has a grid of its own here is searched by it; the other names of
`learned_opt_lab.evaluation.rivals.table` by random draws from their search space.

A factory takes a dict of traced hyperparameters, so that one program serves every configuration of
the search. `learned_opt_lab.evaluation.regularized` has those with penalties and decaying rates.
"""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import optax
from jax import Array
from numpy.typing import NDArray

from learned_opt import catalog, ranges
from learned_opt.hypergradient import hd, marthe, rtho
from learned_opt_lab.evaluation import regularized
from learned_opt_lab.evaluation.rivals.rival import Rival
from learned_opt_lab.evaluation.rivals.table import RIVALS

LEARNING_RATES = tuple(float(rate) for rate in np.logspace(-4, 1, 11))
"""The minimum of honest tuning: 11 log-spaced rates from 1e-4 to 10."""
DEFAULT_RANDOM_BUDGET = 64
UNTUNED = 1e-3
"""What Adam is given by those who tune nothing."""

Configurations = dict[str, NDArray]
"""hyperparameter -> `[configurations]`."""

_RANGES = {
    "learning_rate": (0.0, ranges.LARGEST),
    "hyper_learning_rate": (0.0, ranges.LARGEST),
    "meta_step": (0.0, ranges.LARGEST),
    "one_minus_b1": (ranges.SMALLEST_COMPLEMENT, 1.0),
    "one_minus_b2": (ranges.SMALLEST_COMPLEMENT, 1.0),
    "one_minus_momentum": (ranges.SMALLEST_COMPLEMENT, 1.0),
    "one_minus_decay": (ranges.SMALLEST_COMPLEMENT, 1.0),
    "eps": (0.0, ranges.LARGEST),
    "exponential_decay": (0.0, ranges.LARGEST),
    "linear_decay": (0.0, ranges.LARGEST),
    "l1": (0.0, ranges.LARGEST),
    "l2": (0.0, ranges.LARGEST),
    "weight_decay": (0.0, ranges.LARGEST),
    "momentum": (0.0, 1.0 - ranges.SMALLEST_COMPLEMENT),
    "warmup": (0.0, 1.0 - ranges.SMALLEST_COMPLEMENT),
}
"""A hyperparameter of another name may be any finite number."""


class Baseline(NamedTuple):
    """An optimizer and its search space.

    Attributes:
      factory: `{hyperparameter: scalar, possibly traced} -> optax.GradientTransformation`.
      configurations: `(budget, seed) -> Configurations`; a grid ignores both, a random search draws
        `budget` points.
      search: "grid" or "random".
      extra_args: what its `update` is given, of `learned_opt_lab.evaluation.sweep.EXTRA_ARGS`.
      description: one line for reports.
      knows_horizon: whether the factory takes the number of steps of the run as well.
      words: of hyperparameters that are words, what their values are indices of.
    """

    factory: Callable[..., optax.GradientTransformation]
    configurations: Callable[[int, int], Configurations]
    search: str
    description: str
    extra_args: tuple[str, ...] = ()
    knows_horizon: bool = False
    words: Mapping[str, tuple[str, ...]] = {}

    def factory_for(
        self, num_steps: int
    ) -> Callable[[Mapping[str, Array]], optax.GradientTransformation]:
        """The factory of a run of `num_steps` inner steps."""
        if not self.knows_horizon:
            return self.factory
        return functools.partial(self.factory, num_steps=num_steps)

    def told(self, hyperparameters: Mapping[str, float]) -> dict[str, float | str]:
        """A configuration for reports: words in place of their indices."""
        return {
            name: self.words[name][int(value)] if name in self.words else float(value)
            for name, value in hyperparameters.items()
        }

    def search_space(self, budget: int, seed: int) -> Configurations:
        """The configurations, checked: a search over nan, or over a decay of 1,
        would choose among failures.

        Raises:
          ValueError: for no configuration, vectors of several lengths, or a value that is not
            finite or out of its hyperparameter's range.
        """
        space = {
            name: np.asarray(values) for name, values in self.configurations(budget, seed).items()
        }
        if len({values.shape for values in space.values()}) != 1 or any(
            values.ndim != 1 for values in space.values()
        ):
            shapes = {name: values.shape for name, values in space.items()}
            raise ValueError(
                "configurations are vectors of one length, one a hyperparameter; got shapes "
                f"{shapes}"
            )
        for name, values in space.items():
            low, high = _RANGES.get(name, (-ranges.LARGEST, ranges.LARGEST))
            bad = values[~((values >= low) & (values <= high))]
            if not values.size or bad.size:
                got = f"got {bad[0]}" if bad.size else "got none"
                raise ValueError(
                    f"configurations of {name} must be finite, from {low:g} to {high:g}; {got}"
                )
        return space

    def num_configurations(self, budget: int) -> int:
        """How many configurations a search with this budget tries."""
        return len(next(iter(self.search_space(budget, 0).values())))


def learning_rate_grid(budget: int, seed: int) -> Configurations:
    """All of `LEARNING_RATES`: 11 configurations, whatever the budget."""
    del budget, seed
    return {"learning_rate": np.asarray(LEARNING_RATES, np.float32)}


def _tuned_rate(
    optimizer: Callable[..., optax.GradientTransformation], description: str, **fixed
) -> Baseline:
    return Baseline(
        lambda h: optimizer(h["learning_rate"], **fixed), learning_rate_grid, "grid", description
    )


FIRST_RATES = (1e-3, 1e-2, 1e-1)


def _hypergradient(method: Callable, hyper_rates: tuple[float, ...], description: str) -> Baseline:
    """SGD whose rate adapts online: three first rates times four hyper-learning rates,
    12 configurations.
    """

    def grid(budget: int, seed: int) -> Configurations:
        del budget, seed
        first, hyper = np.meshgrid(FIRST_RATES, hyper_rates, indexing="ij")
        return {
            "learning_rate": first.ravel().astype(np.float32),
            "hyper_learning_rate": hyper.ravel().astype(np.float32),
        }

    def factory(h: Mapping[str, Array]) -> optax.GradientTransformation:
        return method(optax.sgd, h["learning_rate"], h["hyper_learning_rate"])

    return Baseline(factory, grid, "grid", description, extra_args=("value_fn", "objective_grad"))


def _marthe(
    inner: Callable, learning_rate: Array, meta_step: Array
) -> optax.GradientTransformation:
    return marthe(inner, learning_rate, meta_step=meta_step)


def searched(rival: Rival) -> Baseline:
    """A rival as a baseline: its default, then random draws, of which a larger budget keeps those
    of a smaller one.
    """
    return Baseline(
        rival.optimizer,
        rival.space.draw,
        "random",
        rival.description,
        rival.extra_args,
        knows_horizon=True,
        words=rival.space.words,
    )


_GRIDS: dict[str, Baseline] = {
    "sgd": _tuned_rate(optax.sgd, "SGD"),
    "momentum": _tuned_rate(optax.sgd, "SGD with momentum .9", momentum=0.9),
    "rmsprop": _tuned_rate(optax.rmsprop, "RMSProp, decay .9"),
    "adam": _tuned_rate(optax.adam, "Adam"),
    "adam_1e-3": _tuned_rate(optax.adam, "Adam at rate 1e-3, not tuned")._replace(
        configurations=lambda budget, seed: {"learning_rate": np.full(1, UNTUNED, np.float32)}
    ),
    "adamw": _tuned_rate(optax.adamw, "AdamW, weight decay 1e-4"),
    "nadamw": _tuned_rate(optax.nadamw, "Nesterov AdamW, weight decay 1e-4"),
    "adam8": Baseline(
        regularized.adam8,
        regularized.random_search(regularized.ADAM8_RANGES),
        "random",
        "Adam, eight hyperparameters by random search",
    ),
    "rmsprop8": Baseline(
        regularized.rmsprop8,
        regularized.random_search(regularized.RMSPROP8_RANGES),
        "random",
        "RMSProp with momentum, eight hyperparameters by random search",
    ),
    "momentum6": Baseline(
        regularized.momentum6,
        regularized.random_search(regularized.MOMENTUM6_RANGES),
        "random",
        "SGD with momentum, six hyperparameters by random search",
    ),
    "hd": _hypergradient(hd, (1e-5, 1e-4, 1e-3, 1e-2), "SGD, rate by hypergradient descent"),
    "rtho": _hypergradient(
        rtho, (1e-7, 1e-6, 1e-5, 1e-4), "SGD, rate by real-time hyperparameter optimization"
    ),
    "marthe": _hypergradient(
        _marthe, (1e-9, 1e-8, 1e-7, 1e-6), "SGD, rate by MARTHE; tuned: its meta step"
    ),
}
BASELINES = {name: searched(rival) for name, rival in RIVALS.items()} | _GRIDS
"""Open: a further entry is a baseline everywhere (`evaluate`, `tune`, tests)."""


def baseline(name: str) -> Baseline:
    """Looks a name up.

    Raises:
      ValueError: for an unknown name, with near ones.
    """
    if name not in BASELINES:
        raise ValueError(f"unknown baseline {name!r}; {catalog.near_names(name, list(BASELINES))}")
    return BASELINES[name]
