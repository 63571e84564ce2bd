"""A pendulum with too weak a motor: swing it up and hold it (as Gymnasium's Pendulum-v1, with
three torques to choose from).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tasks.base import Key
from tasks.control.environment import Environment

GRAVITY, SECONDS = 10.0, 0.05
MAX_TORQUE, MAX_SPIN = 2.0, 8.0
MAX_COST = np.pi**2 + 0.1 * MAX_SPIN**2 + 0.001 * MAX_TORQUE**2


def pendulum() -> Environment:
    """State: angle from upright (radians) and angular velocity, drawn from all angles and within
    plus and minus 1. Mass and length are 1; a step is .05 s. No episode ends early.

    The cost of a step is angle^2 + .1 spin^2 + .001 torque^2, at most 16.27; the reward is 1 less
    the share of that.
    """
    return Environment(_reset, _observe, _step, 3)


def _reset(key: Key) -> Array:
    return jax.random.uniform(key, (2,), jnp.float32, -1.0, 1.0) * jnp.array(
        [np.pi, 1.0], "float32"
    )


def _observe(state: Array) -> Array:
    angle, spin = state
    return jnp.stack([jnp.cos(angle), jnp.sin(angle), spin / MAX_SPIN])


def _step(state: Array, action: Array) -> tuple[Array, Array, Array]:
    angle, spin = state
    torque = (action - 1).astype(state.dtype) * MAX_TORQUE
    wrapped = jnp.arctan2(jnp.sin(angle), jnp.cos(angle))
    cost = wrapped**2 + 0.1 * spin**2 + 0.001 * torque**2
    spin = spin + (1.5 * GRAVITY * jnp.sin(angle) + 3.0 * torque) * SECONDS
    spin = jnp.clip(spin, -MAX_SPIN, MAX_SPIN)
    reward = 1.0 - cost / MAX_COST
    return jnp.stack([angle + spin * SECONDS, spin]), reward, jnp.ones((), bool)
