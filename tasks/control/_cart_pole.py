"""Cart-pole: keep a pole upright by pushing its cart left or right (Barto, Sutton and Anderson,
IEEE Transactions SMC 13, 1983).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tasks.base import Key
from tasks.control.environment import Environment

GRAVITY, CART_MASS, POLE_MASS, HALF_LENGTH = 9.8, 1.0, 0.1, 0.5
FORCE, SECONDS = 10.0, 0.02
MAX_POSITION, MAX_ANGLE = 2.4, 12 * np.pi / 180


def cart_pole() -> Environment:
    """State: position, velocity, angle, angular velocity (SI units, radians), each within plus and
    minus .05 at first. A step is Euler's, of .02 s; the episode ends beyond 2.4 m or 12 degrees.
    The reward is 1 for each step.
    """
    return Environment(_reset, lambda state: state, _step, 2)


def _reset(key: Key) -> Array:
    return jax.random.uniform(key, (4,), jnp.float32, -0.05, 0.05)


def _step(state: Array, action: Array) -> tuple[Array, Array, Array]:
    _, velocity, angle, spin = state
    force = jnp.where(action == 1, FORCE, -FORCE).astype(state.dtype)
    mass = CART_MASS + POLE_MASS
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    pushed = (force + POLE_MASS * HALF_LENGTH * spin**2 * sin) / mass
    inertia = HALF_LENGTH * (4.0 / 3.0 - POLE_MASS * cos**2 / mass)
    turning = (GRAVITY * sin - cos * pushed) / inertia
    speeding = pushed - POLE_MASS * HALF_LENGTH * turning * cos / mass
    moved = jnp.stack([velocity, speeding, spin, turning])
    state = state + jnp.asarray(SECONDS, state.dtype) * moved
    alive = (jnp.abs(state[0]) <= MAX_POSITION) & (jnp.abs(state[2]) <= MAX_ANGLE)
    return state, jnp.ones((), state.dtype), alive
