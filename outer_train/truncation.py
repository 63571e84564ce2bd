"""How many inner steps an outer step unrolls: truncation schedules."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from outer_train.checks import check_count


class TruncationSchedule(NamedTuple):
    """A rule for truncation lengths.

    Attributes:
      length: `(key, outer_step) -> int32` scalar in `[1, max_num_steps]`; both arguments may be
        traced.
      max_num_steps: the longest length it ever gives; sets the memory of differentiated unrolls.
    """

    length: Callable[[Array, Array], Array]
    max_num_steps: int


def constant(num_steps: int) -> TruncationSchedule:
    """Always `num_steps`.

    Raises:
      ValueError: if it is no whole number from 1 on.
    """
    check_count(num_steps=num_steps)
    return TruncationSchedule(lambda key, outer_step: jnp.int32(num_steps), num_steps)


def linear(
    start: int = 50, end: int = 10_000, num_outer_steps: int = 5_000, jitter: float = 0.2
) -> TruncationSchedule:
    """From `start` to `end` over `num_outer_steps`,
    times a uniform draw from `[1 - jitter, 1 + jitter]`.

    The defaults are those of Metz et al. 2019 (arXiv 1810.10180, section 4.3). No length exceeds
    `end` by the jitter's share; particles stop at their episode's end anyway.

    Raises:
      ValueError: for lengths below 1, a start above the end, or a jitter outside `[0, 1)`.
    """
    check_count(start=start, end=end, num_outer_steps=num_outer_steps)
    if start > end:
        raise ValueError(f"start must not be above end, got start={start} and end={end}")
    if not 0 <= jitter < 1:
        raise ValueError(f"jitter must lie in [0, 1), got {jitter}")
    max_num_steps = round(end * (1 + jitter))
    check_count(**{"the longest length, end times 1 + jitter,": max_num_steps})

    def length(key, outer_step):
        progress = jnp.minimum(jnp.asarray(outer_step, jnp.float32) / num_outer_steps, 1)
        scale = jax.random.uniform(key, (), jnp.float32, 1 - jitter, 1 + jitter)
        return _whole(jnp.round((start + (end - start) * progress) * scale), 1, max_num_steps)

    return TruncationSchedule(length, max_num_steps)


def log_uniform(low: int, high: int) -> TruncationSchedule:
    """A fresh draw each outer step, uniform in log between `low` and `high`, both included.

    Raises:
      ValueError: for lengths below 1, or `low` above `high`.
    """
    check_count(low=low, high=high)
    if low > high:
        raise ValueError(f"low must not be above high, got low={low} and high={high}")

    def length(key, outer_step):
        del outer_step
        draw = jax.random.uniform(
            key, (), jnp.float32, jnp.log(jnp.float32(low)), jnp.log(jnp.float32(high + 1))
        )
        return _whole(jnp.exp(draw), low, high)

    return TruncationSchedule(length, high)


def _whole(steps, low, high):
    """As int32, cut to `[low, high]`:
    as a float first, since beyond int32 a conversion may give anything.
    """
    largest = (
        np.float32(high)
        if np.float32(high) <= high
        else np.nextafter(np.float32(high), np.float32(0))
    )
    return jnp.clip(jnp.minimum(steps, largest).astype(jnp.int32), low, high)
