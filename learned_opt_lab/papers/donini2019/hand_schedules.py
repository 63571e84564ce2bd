"""Hand-made learning-rate schedules of Donini et al. 2019 (arXiv 1910.08525, section 6)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

NUM_EPOCHS = 200
"""The unit of the schedules is a two-hundredth of the run, whatever its length."""
HAND = ("exponential", "staircase", "SGDR")


def hand_schedule(name: str, first_rate: float, num_steps: int) -> Callable[[Any], jax.Array]:
    """`step -> rate`, in the paper's units of 200 epochs a run.

    "exponential" decays by .99 an epoch, "staircase" by ten every 60 epochs, "SGDR" restarts after
    10, 30, 70 and 150 epochs (T_0 = 10, T_mult = 2, arXiv 1608.03983).

    Raises:
      ValueError: an unknown name.
    """

    def epoch(step):
        return step.astype(jnp.float32) * (NUM_EPOCHS / num_steps)

    def sgdr(step):
        cycle = jnp.floor(jnp.log2(epoch(step) / 10 + 1))
        start, length = 10 * (2**cycle - 1), 10 * 2**cycle
        return first_rate * 0.5 * (1 + jnp.cos(jnp.pi * (epoch(step) - start) / length))

    schedules = {
        "constant": lambda step: jnp.float32(first_rate) + 0 * epoch(step),
        "exponential": lambda step: first_rate * 0.99 ** epoch(step),
        "staircase": lambda step: first_rate * 0.1 ** jnp.floor(epoch(step) / 60),
        "SGDR": sgdr,
    }
    if name not in schedules:
        raise ValueError(f"schedules are {', '.join(schedules)}, got {name!r}")
    return schedules[name]
