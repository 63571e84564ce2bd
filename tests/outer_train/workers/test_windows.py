"""A worker that is fed from the host has the next window for each gradient."""

import jax
import jax.numpy as jnp
import numpy as np

from outer_train.workers.messages import unpack
from outer_train.workers.worker import Worker
from tasks import Feed
from tests.support.outer_train.sources import SIZE, parabola
from tests.support.windows import windowed_family


def source_of(place):
    """The parabola's, with the data's mean for a loss."""
    source = parabola(place)

    def estimate(theta, state, key, num_steps, data=()):
        found, state = source.estimator.estimate(theta, state, key, num_steps)
        return found._replace(loss=jnp.mean(data)), state

    feed = Feed.of((windowed_family(),), f"0/{place}")
    return source._replace(estimator=source.estimator._replace(estimate=estimate), data=feed)


def test_each_gradient_has_the_next_window():
    key_data = np.asarray(jax.random.key_data(jax.random.key(0)))
    theta = np.zeros(SIZE, np.float32).tobytes()
    losses = {}
    for place, life in ((0, 0), (0, 1), (1, 2)):
        worker = Worker(source_of, place, life, key_data)
        losses[life] = [unpack(worker.gradient(theta, i), SIZE).loss for i in range(3)]
    np.testing.assert_allclose(np.diff(losses[0]), 1, rtol=1e-6)
    # A worker that is started again begins with its first window; another's order is its own.
    assert losses[1] == losses[0]
    assert losses[2] != losses[0]
