"""The step of theta that is only taken where its result is finite,
after gradients of any finite size are clipped.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from outer_train.checks import check_positive
from outer_train.trees import Tree, all_finite, in_units, none_lost, scaled_norm


def clip_by_global_norm(max_norm: float) -> optax.GradientTransformation:
    """`optax.clip_by_global_norm`, for gradients of any size that is finite:
    squares of 1e20 are infinite in float32.

    Args:
      max_norm: longest update that is let through; may be traced.

    Raises:
      ValueError: unless it is above 0 and finite.
    """
    if not isinstance(max_norm, jax.core.Tracer):
        check_positive(max_norm=max_norm)

    def update(updates, state, params=None):
        del params
        norm, unit = scaled_norm(updates)
        short = norm < max_norm / unit
        divisor = jnp.where(short, 1, norm)
        clipped = lambda x: (in_units(x, unit) / divisor * max_norm).astype(x.dtype)
        return jax.tree.map(lambda x: jnp.where(short, x, clipped(x)), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def guarded_update(
    optimizer: optax.GradientTransformation,
) -> Callable[[Tree, Any, Tree, Array], tuple[Tree, Any, Array]]:
    """Builds `(theta, opt_state, grad, known) -> (theta, opt_state, taken)`.

    The step is taken only if the gradient is known, and the gradient, the update, the new theta and
    every number of the optimizer's state that was finite before are finite: otherwise theta and the
    state come back as they went in. An infinite second moment would not show in theta, which could
    never move again.

    Args:
      optimizer: an Optax chain.
    """

    def step(theta, opt_state, grad, known):
        with jax.numpy_dtype_promotion("standard"):
            updates, new_state = optimizer.update(grad, opt_state, theta)
            new_theta = optax.apply_updates(theta, updates)
            taken = known & all_finite((grad, updates, new_theta)) & none_lost(opt_state, new_state)
            keep = lambda new, old: jnp.where(taken, new, old)
            return (
                jax.tree.map(keep, new_theta, theta),
                jax.tree.map(keep, new_state, opt_state),
                taken,
            )

    return step
