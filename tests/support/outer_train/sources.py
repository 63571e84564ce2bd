"""Sources of gradients that are cheap and known:
a parabola `|theta - target|^2 / 2`, one step an episode.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np

from outer_train.estimators.base import Estimate, GradientEstimator, Info
from outer_train.particles._moments import moments
from outer_train.truncation import constant
from outer_train.workers.messages import Gradient, pack
from outer_train.workers.worker import Source, versions

SIZE = 5
NUM_SAMPLES = 4
NOISE = 0.1


def parabola(place, *, sick=None, num_families=1, seconds=0.0, size=SIZE, parts=None):
    """Noisy gradients of the parabola at 1.

    The worker in place `sick` sends nan; the next family's is at 2.

    A gradient takes at least `seconds`. With `parts` it is the moments of so many estimators that
    all say the same.
    """
    family = place % num_families

    def init(theta, key):
        del theta
        return jax.random.key_data(key)

    def estimate(theta, state, key, num_steps, data=()):
        del data
        offset = theta - (1 + family)
        if seconds:
            offset = jax.pure_callback(
                _slowly(seconds), jax.ShapeDtypeStruct((size,), jnp.float32), offset
            )
        samples = offset + NOISE * jax.random.normal(key, (NUM_SAMPLES, size))
        grad = jnp.full(size, jnp.nan) if place == sick else jnp.mean(samples, axis=0)
        if parts:
            grad = dict.fromkeys(parts, moments(samples, None))
        live = jnp.int32(2 * NUM_SAMPLES) * num_steps
        variance = {"parabola": jnp.mean(jnp.var(samples, axis=0, ddof=1))}
        info = Info(jnp.int32(0), jnp.int32(0), live, num_steps, variance, {}, {})
        return Estimate(grad, jnp.sum(jnp.square(offset)) / 2, info), state

    estimator = GradientEstimator(init, estimate)
    return Source(
        estimator, constant(3), np.zeros(size, np.float32), NUM_SAMPLES, family, parts=parts
    )


def _slowly(seconds):
    def passed_on(value):
        time.sleep(seconds)
        return value

    return passed_on


class NumpyWorker:
    """`Worker` on the parabola without JAX, which has nothing to compile."""

    def __init__(self, place, life, sick=None, num_families=1):
        self.place, self.life, self.sick, self.family = place, life, sick, place % num_families
        self.rng, self.sequence = np.random.default_rng(life), 0

    def describe(self):
        return {
            "host": "here",
            "pid": 1,
            "family": self.family,
            "size": SIZE,
            "versions": versions(),
        }

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
        return pack(
            Gradient(*numbers, float(np.square(offset).sum() / 2), 0.01, 0.01, mean, variance)
        )
