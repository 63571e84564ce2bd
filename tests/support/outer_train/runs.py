"""A run that costs nothing: a random walk with the interface of `OuterStep`."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from outer_train.run import QUIET, LoopSettings, directory, loop, metrics


class WalkState(NamedTuple):
    theta: jax.Array
    step: jax.Array


class WalkStep(NamedTuple):
    """`before` is called with each step's number; a state holds `size` numbers."""

    before: object = lambda step: None
    size: int = 1

    def init(self, theta, key):
        return WalkState(theta + jax.random.normal(key, (self.size,)), jnp.int32(0))

    def step(self, state, key, datas):
        self.before(int(state.step))
        return walk(state, key)


@jax.jit
def walk(state, key):
    theta = state.theta + jax.random.normal(jax.random.fold_in(key, state.step), ())
    row = {
        "outer_loss": theta[0] ** 2,
        "truncation_length": jnp.int32(10),
        "num_non_finite": jnp.int32(0),
        "num_live_inner_steps": jnp.int32(320),
    }
    return WalkState(theta, state.step + 1), row


def new_run(path, config=None):
    return directory.create(path, config or {"type": "test"}, config_file=None, overwrite=False)


def train(run, step=None, **settings):
    settings = LoopSettings(**{"num_outer_steps": 23, "checkpoint_every": 5} | settings)
    show = QUIET._replace(warn=lambda line: None)
    return loop.train(
        step or WalkStep(), jnp.float32(0), jax.random.key(7), (), run, settings, show
    )


def without_timings(run):
    return [
        {k: v for k, v in row.items() if k != "seconds"} for row in metrics.read_rows(run.metrics)
    ]
