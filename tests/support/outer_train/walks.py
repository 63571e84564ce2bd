"""A random walk in an outer step's place, so that the loop is tried without compiling one."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from outer_train.run import QUIET, STRICT, LoopSettings, loop, metrics


class FakeState(NamedTuple):
    theta: jax.Array
    step: jax.Array


class FakeStep(NamedTuple):
    """A random walk with the interface of `OuterStep`.

    `before` is called with each step's number.
    """

    before: object = lambda step: None

    def init(self, theta, key):
        return FakeState(theta + jax.random.normal(key, ()), jnp.int32(0))

    def step(self, state, key, datas):
        self.before(int(state.step))
        return walk(state, key)


@jax.jit
def walk(state, key):
    theta = state.theta + jax.random.normal(jax.random.fold_in(key, state.step), ())
    row = {
        "outer_loss": theta**2,
        "truncation_length": jnp.int32(10),
        "num_non_finite": jnp.int32(0),
        "num_live_inner_steps": jnp.int32(320),
    }
    return FakeState(theta, state.step + 1), row


def train(run, step=None, show=QUIET, allowed=STRICT, **settings):
    settings = LoopSettings(**{"num_outer_steps": 23, "checkpoint_every": 5} | settings)
    return loop.train(
        step or FakeStep(), jnp.float32(0), jax.random.key(7), (), run, settings, show, allowed
    )


def without_timings(run):
    return [
        {k: v for k, v in row.items() if k != "seconds"} for row in metrics.read_rows(run.metrics)
    ]
