"""Where truncated gradients of a learning rate vanish on the noisy quadratic, from exact moments.

An analogue of Fig 3 of Metz et al. 2019 (arXiv 1810.10180) on the problem of Wu et al. (arXiv
1803.02021, section 2) without sampling noise: plain SGD over T steps, one fixed rate, the mean
expected loss after each step.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from scipy.optimize import brentq

from tasks.analytic import NoisyQuadratic, expected_loss, initial_moments, moments_step


@partial(jax.jit, static_argnames="num_steps")
def truncated_gradient(
    problem: NoisyQuadratic, rate: Array, num_steps: int, truncation: Array
) -> Array:
    """Derivative of the mean loss in the rate,
    summed over windows whose starting moments are held constant.

    Forward mode: the tangent of the moments is carried along and dropped at each window's start.

    Args:
      problem: the quadratic.
      rate: in units of 1 / h_max.
      num_steps: T.
      truncation: K, int32 steps of a window; at K = T this is the exact derivative.

    Returns:
      The gradient, a scalar.
    """

    def after_step(rate, moments):
        moments = moments_step(
            problem, moments, rate / jnp.max(problem.curvatures), jnp.zeros_like(rate)
        )
        return moments, expected_loss(moments)

    def step(carry, i):
        moments, tangents = carry
        tangents = jax.tree.map(
            lambda t: jnp.where(i % truncation == 0, jnp.zeros_like(t), t), tangents
        )
        step_of = (rate, moments), (jnp.ones_like(rate), tangents)
        (moments, _), (tangents, slope) = jax.jvp(after_step, *step_of)
        return (moments, tangents), slope

    moments = initial_moments(problem)
    zeros = jax.tree.map(jnp.zeros_like, moments)
    return jnp.mean(lax.scan(step, (moments, zeros), jnp.arange(num_steps, dtype=jnp.int32))[1])


def stationary_rate(problem: NoisyQuadratic, num_steps: int, truncation: int) -> float:
    """The rate, in units of 1 / h_max, at which descent on the truncated gradient comes to rest.

    Raises:
      ValueError: if the gradient has one sign on [0.01, 1.9].
    """

    def slope(rate):
        return float(
            truncated_gradient(problem, jnp.float32(rate), num_steps, jnp.int32(truncation))
        )

    return float(brentq(slope, 0.01, 1.9, xtol=1e-4))


def gradient_curves(
    problem: NoisyQuadratic, num_steps: int, truncations: tuple[int, ...], rates: np.ndarray
) -> np.ndarray:
    """Truncated gradients, `[truncations, rates]`."""
    over_rates = jax.vmap(truncated_gradient, in_axes=(None, 0, None, None))
    rows = [
        over_rates(problem, jnp.asarray(rates, jnp.float32), num_steps, jnp.int32(k))
        for k in truncations
    ]
    return np.asarray(jnp.stack(rows))
