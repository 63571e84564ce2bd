"""A worker: particles of one task family that live on between requests,
and their gradients at the thetas sent.
"""

import functools
import os
import platform
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from outer_train.estimators.base import GradientEstimator
from outer_train.run import made_with
from outer_train.truncation import TruncationSchedule
from outer_train.workers.messages import Gradient, pack
from tasks import Feed

COMPARED = ("python", *made_with.LIBRARIES, "git")


@functools.cache
def versions() -> dict[str, Any]:
    """What must be the same in workers and learner."""
    found = made_with.versions()
    return {name: found[name] for name in COMPARED}


class Source(NamedTuple):
    """What a worker's gradients come from.

    Attributes:
      estimator: on one device. Its gradient is shaped as theta, or with `parts` it is part ->
        `Moments`.
      truncation: gives each truncation's length; each worker draws its own.
      theta: a tree of theta's structure and shapes.
      num_samples: particles, or pairs.
      family: index of its task family.
      data: the family's data, on the device or as the feed of one family.
      parts: names of the parts that are merged by the learner; None for an estimator without.
    """

    estimator: GradientEstimator
    truncation: TruncationSchedule
    theta: Any
    num_samples: int
    family: int = 0
    data: Any = ()
    parts: tuple[str, ...] | None = None


MakeSource = Callable[[int], Source]
"""From the worker's place in the roster. It travels to the worker:
a module's function, or a partial of one."""


class Worker:
    """Answers each theta with a gradient."""

    def __init__(self, make_source: MakeSource, place: int, life: int, key_data: np.ndarray):
        """Builds the problem and starts new particles at the first theta that comes.

        Args:
          make_source: see `MakeSource`.
          place: in the roster.
          life: of this process; it decides over the particles.
          key_data: of the run's key.
        """
        self._source = make_source(place)
        data = self._source.data
        self._stream = (data if isinstance(data, Feed) else Feed((data,))).stream()
        self._place, self._life, self._sequence = place, life, 0
        self._key = jax.random.fold_in(jax.random.wrap_key_data(jnp.asarray(key_data)), life)
        self._vector, self._unravel = ravel_pytree(jax.tree.map(jnp.asarray, self._source.theta))
        self._state: Any = None
        self._estimate = jax.jit(self._traced, donate_argnums=1)
        self._waiting_since = time.perf_counter()

    def describe(self) -> dict[str, Any]:
        """Who this is and what it runs, for the learner to compare with itself."""
        return {
            "host": platform.node(),
            "pid": os.getpid(),
            "family": self._source.family,
            "size": int(self._vector.size),
            "versions": versions(),
        }

    def gradient(self, theta: bytes, version: int) -> bytes:
        """One truncation of all particles at theta,
        which is the learner's after `version` outer steps.
        """
        started = time.perf_counter()
        waited = started - self._waiting_since
        vector = jnp.asarray(np.frombuffer(theta, self._vector.dtype))
        key_init, key_steps = jax.random.split(self._key)
        if self._state is None:
            self._state = jax.jit(self._source.estimator.init)(self._unravel(vector), key_init)
        key = jax.random.fold_in(key_steps, self._sequence)
        (data,) = self._stream.next()
        result = self._estimate(vector, self._state, key, jnp.int32(version), data)
        means, variances, loss, numbers, self._state = result
        steps, live, bad, resets = (int(n) for n in numbers)
        head = (
            self._place,
            self._life,
            self._sequence,
            self._source.family,
            version,
            self._source.num_samples,
        )
        arrays = (np.asarray(means), np.asarray(variances))
        self._sequence += 1
        self._waiting_since = time.perf_counter()
        seconds = (self._waiting_since - started, waited)
        return pack(Gradient(*head, steps, live, bad, resets, float(loss), *seconds, *arrays))

    def _traced(self, vector, state, key, version, data):
        key_length, key_estimate = jax.random.split(key)
        num_steps = self._source.truncation.length(key_length, version)
        estimate, state = self._source.estimator.estimate(
            self._unravel(vector), state, key_estimate, num_steps, data
        )
        info, parts = estimate.info, self._source.parts
        if parts is None:
            means = ravel_pytree(estimate.grad)[0][None]
            (variance,) = info.variance.values()
            variances = variance.reshape(1, 1)
        else:
            means = jnp.stack([ravel_pytree(estimate.grad[name].mean)[0] for name in parts])
            variances = jnp.stack([ravel_pytree(estimate.grad[name].variance)[0] for name in parts])
        numbers = (info.num_steps, info.num_live_steps, info.num_non_finite, info.num_resets)
        return means, variances, estimate.loss, numbers, state
