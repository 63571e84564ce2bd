"""The hand-designed optimizers in one table, and what the tests over it share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt.hand_designed import hyperparameters, schedules
from learned_opt.hypergradient._marthe import hd, marthe, rtho
from learned_opt.rate_and_decay import with_hooks
from tests.support.quick import by_name

LEARNED = {
    "sgd": hyperparameters.sgd,
    "momentum": hyperparameters.momentum,
    "adam": hyperparameters.adam,
    "adam8": hyperparameters.adam8,
    "rmsprop8": hyperparameters.rmsprop8,
    "momentum6": hyperparameters.momentum6,
    "constant": schedules.constant_schedule,
    "inverse_time": functools.partial(schedules.inverse_time_schedule, time_constant=5.0),
    "exponential": functools.partial(schedules.exponential_schedule, decay_rate=0.1),
    "free": functools.partial(schedules.free_schedule, 3),
}
HYPERGRADIENTS = {
    "hd": lambda: hd(optax.sgd, 0.1, 1e-3),
    # 1e-8 is 0 in Optax's float16.
    "rtho": lambda: rtho(functools.partial(optax.adam, eps=1e-4), 0.01, 1e-4),
    "marthe": lambda: marthe(functools.partial(optax.sgd, momentum=0.9), 0.1, 1e-3),
}


def transformation(name):
    if name in HYPERGRADIENTS:
        return HYPERGRADIENTS[name]()
    if name == "hooks":
        return with_hooks(transformation("adam"), optax.linear_schedule(1.0, 0.1, 10))
    learned = LEARNED[name]()
    return learned.optimizer(learned.init(jax.random.key(0)))


NAMES = [*LEARNED, *HYPERGRADIENTS, "hooks"]
QUICK = ("adam8", "marthe")
"""One of each kind; the others share their code."""
by_kind = functools.partial(by_name, quick=QUICK)
every_optimizer = by_kind(NAMES)

PARAMS = {"live": [1.0, -2.0, 0.5], "dead": [[1.0, -1e-3], [0.0, 3.0]], "mixed": [0.7, 2.0, -1.0]}
MIXED = np.array([1.0, 0.0, 0.0])


def make_params(dtype=jnp.float32):
    return {name: jnp.array(value, dtype) for name, value in PARAMS.items()}


def loss(params):
    mixed = jnp.asarray(MIXED, params["mixed"].dtype) * params["mixed"]
    return (
        jnp.sum(jnp.square(params["live"]))
        + jnp.sum(jnp.square(mixed))
        + 0 * jnp.sum(params["dead"])
    )


def step(tx, params, state, grads=None):
    grads = jax.grad(loss)(params) if grads is None else grads
    updates, state = tx.update(grads, state, params, value_fn=loss)
    return updates, jax.tree.map(lambda p, u: p + u, params, updates), state


def finite(tree):
    return all(
        bool(jnp.all(jnp.isfinite(x)))
        for x in jax.tree.leaves(tree)
        if jnp.issubdtype(x.dtype, jnp.floating)
    )
