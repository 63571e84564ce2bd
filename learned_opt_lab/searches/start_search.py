"""Where outer-training of a config had best start:
a search over the fresh theta's Adam (`learned_opt.AdamStart`).

The cross-entropy method (`learned_opt_lab/searches/cross_entropy.py`) over rate, exponents of
tensor and time, and weight decay, around the config's own. What it finds belongs into the config;
the theta it leaves is a fresh one of that start.
"""

import dataclasses

import jax
import numpy as np
from numpy.typing import NDArray

from configs import base
from learned_opt_lab.runs.optimizer import build_optimizer
from learned_opt_lab.searches.candidates import Candidates, Distribution


def start_search(config: base.TrainConfig, *, trust: bool = False) -> Candidates:
    """The starts that `config.search`, a `StartSearch`, moves;
    fresh thetas all, so that no file has a say.

    Raises:
      ValueError: for an optimizer without rate, exponents and time exponents.
    """
    del trust
    key = jax.random.key(config.seed)

    def to_theta(numbers):
        return build_optimizer(started_at(config.optimizer, numbers))[0].init(key)

    return Candidates(
        around_the_start(config.optimizer, config.search),
        to_theta,
        build_optimizer(config.optimizer)[0],
        lambda numbers: build_optimizer(started_at(config.optimizer, numbers))[1:],
        lambda numbers: {"start": dataclasses.asdict(started_at(config.optimizer, numbers).start)},
    )


def around_the_start(optimizer: base.Optimizer, search: base.StartSearch) -> Distribution:
    """Around the config's own start, as wide as the search says; raises as `start_search`."""
    own = optimizer.start if isinstance(optimizer, base.Mlp) else base.StartAsAdam()
    exponents, times = own.exponents, own.time_exponents
    if own.learning_rate is None or not exponents or not times:
        raise ValueError(
            "StartSearch needs an optimizer whose start has learning_rate, exponents, "
            "time_exponents"
        )
    mean = [np.log(own.learning_rate), *exponents, *times, own.weight_decay]
    std = [search.log_learning_rate_std] + [search.exponent_std] * len(exponents)
    std += [search.time_exponent_std] * len(times) + [search.weight_decay_std]
    return Distribution(np.asarray(mean), np.asarray(std))


def started_at(optimizer: base.Mlp, candidate: NDArray) -> base.Mlp:
    """The optimizer with a candidate's start in place of its own."""
    cut = 1 + len(optimizer.start.exponents)
    found = base.StartAsAdam(
        learning_rate=float(np.exp(candidate[0])),
        exponents=tuple(candidate[1:cut].tolist()),
        time_exponents=tuple(candidate[cut:-1].tolist()),
        weight_decay=float(candidate[-1]),
    )
    return dataclasses.replace(optimizer, start=found)
