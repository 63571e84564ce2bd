"""Surfaces in one and two dimensions on which optimizers fail in ways one can see.

| surface | start of the papers' figures | minimum |
|---|---|---|
| Beale | (1, 1) | 0 at (3, 1/2) |
| smoothed Bukin N. 6 | (-8, -0.4) | sqrt(sqrt(eps) + eps) along y = x / 100 |
| double well | -1.2 | -3.1238 at 3.5687; a local one, 0, at 0 |
"""

import functools
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array

from tasks.base import Task


def beale_loss(position: Array) -> Array:
    """Beale's function of `[2]`: sharp peaks
    and wide plateaus (MARTHE, arXiv 1910.08525, footnote 5).
    """
    x, y = position[0], position[1]
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def smoothed_bukin_loss(position: Array, epsilon: float = 1e-3) -> Array:
    """Bukin's function N. 6, simplified and smoothed (MARTHE, footnote 5):
    a steep valley along y = x / 100.
    """
    x, y = position[0], position[1]
    return jnp.sqrt(jnp.sqrt((y - 0.01 * x) ** 2 + epsilon) + epsilon)


def double_well_loss(position: Array) -> Array:
    """l(w) = (w - 4)(w - 3) w^2 of a scalar (Metz et al., arXiv 1810.10180, Fig 2):
    two minima, a barrier at 1.6813.
    """
    return (position - 4) * (position - 3) * position**2


def beale(start: Sequence[float] = (1.0, 1.0)) -> Task:
    """Descent on Beale's function from `start`, `[2]`. Raises `ValueError` on any other shape."""
    return _surface(beale_loss, start, (2,))


def smoothed_bukin(start: Sequence[float] = (-8.0, -0.4), epsilon: float = 1e-3) -> Task:
    """Descent on the smoothed Bukin N. 6 from `start`, `[2]`;
    `epsilon` > 0 rounds the valley's floor.

    Raises:
      ValueError: `start` is not `[2]`, or `epsilon` is not positive.
    """
    if not 0 < epsilon < float("inf"):
        raise ValueError(f"epsilon must be > 0 and finite, got {epsilon!r}")
    return _surface(functools.partial(smoothed_bukin_loss, epsilon=epsilon), start, (2,))


def double_well(start: float = -1.2) -> Task:
    """Descent in the double well from the scalar `start`.

    Raises `ValueError` on any other shape.
    """
    return _surface(double_well_loss, start, ())


def _surface(loss: Callable[[Array], Array], start, shape: tuple[int, ...]) -> Task:
    """A task without data: every batch is empty, every start the same."""
    start = np.asarray(start, np.float64)
    if start.shape != shape:
        raise ValueError(f"start must have shape {shape}, got {start.shape}")
    if not np.isfinite(start).all():
        raise ValueError(f"start must be finite, got {start}")

    def init(key):
        del key
        return jnp.asarray(start, jnp.result_type(float))

    def task_loss(params, key, batch):
        del key, batch
        return loss(params), {}

    def sample_batch(data, key, split):
        del data, key, split
        return ()

    return Task(init, task_loss, sample_batch)
