"""Hyperparameters out of their range are refused at construction: one table."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.hand_designed import hyperparameters, schedules
from learned_opt.hypergradient._marthe import hd, marthe, rtho
from learned_opt.hypergradient.search import find_hyper_learning_rate, loss_diverged
from learned_opt.rate_and_decay import with_hooks

NOT_FINITE = (
    math.nan,
    math.inf,
    -math.inf,
    np.float32(math.nan),
    np.array(math.inf),
    jnp.float32(math.nan),
)


class Bad(NamedTuple):
    """An argument, and values that it must not have."""

    factory: Callable
    name: str
    values: tuple = (*NOT_FINITE, -1.0, "0.1", None, 1j, 1e-50, 1e300, 10**400, [0.1, 0.2], True)
    match: str = ""


DECAYS = (*NOT_FINITE, -0.1, 1.0, 1.5, "0.9", None, 1 - 1e-16)
H, S, SGD, part = hyperparameters, schedules, optax.sgd, functools.partial
MANY = (H.adam8, H.rmsprop8, H.momentum6)
SEARCH = part(find_hyper_learning_rate, lambda value: [1.0])
BAD = [
    *(Bad(f, "learning_rate") for f in (H.sgd, H.momentum, H.adam, *MANY, S.constant_schedule)),
    *(Bad(f, "eps") for f in (H.adam, H.adam8, H.rmsprop8)),
    *(Bad(f, name) for f in MANY for name in ("exponential_decay", "linear_decay")),
    *(Bad(f, name, (*NOT_FINITE, -1.0, 0.0, "0.1", 1e-50)) for f in MANY for name in ("l1", "l2")),
    *(Bad(f, name, DECAYS) for f in (H.adam, H.adam8) for name in ("b1", "b2")),
    *(Bad(f, "decay", DECAYS) for f in (H.momentum, H.momentum6, H.rmsprop8)),
    Bad(H.rmsprop8, "momentum", DECAYS),
    *(
        Bad(f, "momentum", DECAYS)
        for f in (S.constant_schedule, S.inverse_time_schedule, S.exponential_schedule)
    ),
    Bad(part(S.free_schedule, 3), "momentum", DECAYS),
    Bad(S.free_schedule, "num_steps", (*NOT_FINITE, 0, -1, 2.5, "3", None, 2**31, 10**400)),
    *(
        Bad(S.inverse_time_schedule, name)
        for name in ("learning_rate", "decay_exponent", "time_constant")
    ),
    Bad(S.exponential_schedule, "decay_rate"),
    Bad(
        part(S.encode_pair, momentum=0.9),
        "learning_rate",
        (*NOT_FINITE, 0.0, "a", 1e-50, [0.1, math.nan]),
    ),
    Bad(part(S.encode_pair, 0.1), "momentum", (*NOT_FINITE, 1.0, -0.1, [0.1, 1.0])),
    Bad(part(marthe, SGD), "learning_rate"),
    *(Bad(part(marthe, SGD, 0.1), name) for name in ("hyper_learning_rate", "meta_step")),
    Bad(part(marthe, SGD, 0.1), "mu", (*NOT_FINITE, -0.1, 1.1, None, "adaptiv", 1j)),
    *(Bad(part(f, SGD, hyper_learning_rate=0.1), "learning_rate") for f in (hd, rtho)),
    *(Bad(part(f, SGD, 0.1), "hyper_learning_rate") for f in (hd, rtho)),
    Bad(part(marthe, learning_rate=0.1), "inner", (None, SGD(0.1), 0.1)),
    Bad(part(with_hooks, SGD(0.1)), "learning_rate", (*NOT_FINITE, -1.0, "1", 1e300, 1e-50, 1j)),
    Bad(part(with_hooks, SGD(0.1)), "weight_decay", (*NOT_FINITE, -1.0, "1", 1e300, 1e-50, None)),
    *(Bad(SEARCH, name, (*NOT_FINITE, -1.0, "1", 0)) for name in ("start", "factor", "max_trials")),
    Bad(SEARCH, "factor", (1.0, 1e20), "factor|trials"),
    Bad(SEARCH, "max_trials", (1.5, 100), "trials"),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_hyperparameters_out_of_range_are_refused_at_construction(bad):
    for value in bad.values:
        with pytest.raises(ValueError, match=bad.match or bad.name):
            bad.factory(**{bad.name: value})


def test_losses_of_no_step_have_no_verdict():
    with pytest.raises(ValueError, match=r"got shape \(0,\)"):
        loss_diverged(np.array([]))
