"""Where outer-training of a config had best start: a search over the fresh theta's Adam (`adam_start`).

The cross-entropy method (`learned_opt_lab/searches/cross_entropy.py`) over rate, exponents of tensor and time, and
weight decay, around the config's own. What it finds belongs into the config; the theta it leaves is a fresh one of
that start.
"""

import dataclasses

import jax
import numpy as np
from numpy.typing import NDArray

from configs import base
from learned_opt_lab.runs.build import build_optimizer
from learned_opt_lab.searches.candidates import Candidates, Distribution

FOUND = ("adam_learning_rate", "adam_exponents", "adam_time_exponents", "adam_weight_decay")


def start_search(config: base.TrainConfig, *, trust: bool = False) -> Candidates:
    """The starts that `config.search`, a `StartSearch`, moves; fresh thetas all, so that no file has a say.

    Raises:
      ValueError: for an optimizer without rate, exponents and time exponents.
    """
    del trust
    key = jax.random.key(config.seed)

    def to_theta(numbers):
        return build_optimizer(started_at(config.optimizer, numbers))[0].init(key)

    def describe(numbers):
        found = started_at(config.optimizer, numbers)
        return {name: getattr(found, name) for name in FOUND}

    return Candidates(
        around_the_start(config.optimizer, config.search),
        to_theta,
        build_optimizer(config.optimizer)[0],
        lambda numbers: build_optimizer(started_at(config.optimizer, numbers))[1:],
        describe,
    )


def around_the_start(optimizer: base.Optimizer, search: base.StartSearch) -> Distribution:
    """Around the config's own start, as wide as the search says; raises as `start_search`."""
    if not isinstance(optimizer, base.Mlp) or None in (
        optimizer.adam_learning_rate,
        optimizer.adam_exponents,
        optimizer.adam_time_exponents,
    ):
        raise ValueError("StartSearch needs an optimizer with adam_learning_rate, adam_exponents, adam_time_exponents")
    exponents, times = optimizer.adam_exponents, optimizer.adam_time_exponents
    mean = [np.log(optimizer.adam_learning_rate), *exponents, *times, optimizer.adam_weight_decay or 0.0]
    std = [search.log_learning_rate_std] + [search.exponent_std] * len(exponents)
    std += [search.time_exponent_std] * len(times) + [search.weight_decay_std]
    return Distribution(np.asarray(mean), np.asarray(std))


def started_at(optimizer: base.Mlp, candidate: NDArray) -> base.Mlp:
    """The optimizer with a candidate's start in place of its own."""
    cut = 1 + len(optimizer.adam_exponents)
    return dataclasses.replace(
        optimizer,
        adam_learning_rate=float(np.exp(candidate[0])),
        adam_exponents=tuple(candidate[1:cut].tolist()),
        adam_time_exponents=tuple(candidate[cut:-1].tolist()),
        adam_weight_decay=float(candidate[-1]),
    )
