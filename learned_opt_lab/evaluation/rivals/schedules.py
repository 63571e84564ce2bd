"""Learning-rate schedules that know the horizon: which one, and its warm-up, may be traced."""

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

SCHEDULES = ("constant", "linear", "cosine")
"""Without end; to zero in a straight line; to zero along half a cosine (arXiv 1608.03983)."""


def scheduled(
    peak: ArrayLike, kind: ArrayLike, warmup: ArrayLike, num_steps: int
) -> optax.Schedule:
    """A rate that rises to `peak` over the warm-up and then goes as its kind says.

    With `w = round(warmup * num_steps)` the rate of step `t < w` is `peak (t + 1) / (w + 1)`: the
    first step is made, at more than zero, by which D-Adaptation and Prodigy divide. These are
    `optax.warmup_cosine_decay_schedule(peak / (w + 1), peak, w, num_steps)` and its like.

    Args:
      peak: the largest rate; may be traced, as the next two.
      kind: index into `SCHEDULES`.
      warmup: share of the steps, in [0, 1).
      num_steps: of the run.

    Example:
      >>> rate = scheduled(1.0, SCHEDULES.index("linear"), 0.2, num_steps=10)
      >>> [round(float(rate(step)), 2) for step in (0, 1, 2, 6)]
      [0.33, 0.67, 1.0, 0.5]
    """

    def schedule(count: ArrayLike) -> ArrayLike:
        step = jnp.asarray(count, jnp.float32)
        warm = jnp.round(jnp.float32(num_steps) * jnp.asarray(warmup, jnp.float32))
        done = jnp.clip((step - warm) / jnp.maximum(num_steps - warm, 1.0), 0.0, 1.0)
        shares = jnp.stack([jnp.ones_like(done), 1.0 - done, 0.5 * (1.0 + jnp.cos(jnp.pi * done))])
        share = shares[jnp.asarray(kind, jnp.int32)]
        return peak * jnp.where(step < warm, (step + 1.0) / (warm + 1.0), share)

    return schedule
