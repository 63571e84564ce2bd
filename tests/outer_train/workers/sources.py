"""Sources of gradients that are cheap and known: a parabola `|theta - target|^2 / 2`, one step an episode."""

import os
import time

import jax
import jax.numpy as jnp
import numpy as np

from outer_train.estimators.base import Estimate, GradientEstimator, Info
from outer_train.truncation import constant
from outer_train.workers.messages import Gradient, pack
from outer_train.workers.worker import Source, versions

SIZE = 5
NUM_SAMPLES = 4
NOISE = 0.1


def parabola(place, *, target=1.0, sick=None, num_families=1, seconds=0.0):
    """Noisy gradients of the parabola; the worker in place `sick` sends nan; a family's target is that many times."""
    family = place % num_families
    goal = target * (1 + family)

    def init(theta, key):
        del theta
        return jax.random.key_data(key)

    def estimate(theta, state, key, num_steps, data=()):
        del data
        noise = NOISE * jax.random.normal(key, (NUM_SAMPLES, SIZE))
        samples = theta - goal + noise
        grad = jnp.where(place == (-1 if sick is None else sick), jnp.nan, jnp.mean(samples, axis=0))
        live = jnp.int32(2 * NUM_SAMPLES) * num_steps
        variance = {"parabola": jnp.mean(jnp.var(samples, axis=0, ddof=1))}
        info = Info(jnp.int32(0), jnp.int32(0), live, num_steps, variance, {}, {})
        return Estimate(grad, jnp.sum(jnp.square(theta - goal)) / 2, info), state

    if seconds:
        time.sleep(seconds)
    return Source(GradientEstimator(init, estimate), constant(3), np.zeros(SIZE, np.float32), NUM_SAMPLES, family)


def dies_at_once(place):
    """A worker that cannot be built."""
    del place
    os._exit(13)


class NumpyWorker:
    """`Worker` on the parabola without JAX, which has nothing to compile."""

    def __init__(self, place, life, sick=None, num_families=1):
        self.place, self.life, self.sick, self.family = place, life, sick, place % num_families
        self.rng, self.sequence = np.random.default_rng(life), 0

    def describe(self):
        return {"host": "here", "pid": 1, "family": self.family, "size": SIZE, "versions": versions()}

    def gradient(self, theta, version):
        offset = np.frombuffer(theta, np.float32) - (1 + self.family)
        samples = offset + NOISE * self.rng.normal(size=(NUM_SAMPLES, SIZE)).astype(np.float32)
        mean = samples.mean(axis=0, keepdims=True) * (np.nan if self.place == self.sick else 1)
        variance = samples.var(axis=0, ddof=1).mean().reshape(1, 1)
        numbers = (
            self.place,
            self.life,
            self.sequence,
            self.family,
            version,
            NUM_SAMPLES,
            3,
            2 * NUM_SAMPLES * 3,
            0,
            0,
        )
        self.sequence += 1
        return pack(Gradient(*numbers, float(np.square(offset).sum() / 2), 0.01, 0.01, mean, variance))
