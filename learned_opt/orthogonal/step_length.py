"""Directions of any length made steps of the length that is asked for.

A matrix's step is the polar factor of its direction (Muon, Jordan 2024), which has singular values
of 1; any other tensor's is its direction over its root mean square. So neither the unit of the loss
nor how far the weights have been trained changes how long a step is.
"""

import jax.numpy as jnp
from jax import Array

from learned_opt.orthogonal.matrix_view import matrix_view
from learned_opt.orthogonal.newton_schulz import orthogonalised
from learned_opt.trees.spread import lying_as, whole


def orthogonal_step(direction: Array, layers: int = 0) -> Array:
    """The polar factor of a matrix of weights `[..., inputs, outputs]`, times
    `sqrt(max(1, outputs / inputs))`: what it adds to a layer's outputs is then about as large at
    every width (arXiv 2310.17813).

    Args:
      direction: `[*shape]`; where it is exactly zero, a parameter rests, and so does it here.
      layers: leading axes that count layers, of which each is a matrix.

    Returns:
      `[*shape]`, the step at a rate of 1.
    """
    view = matrix_view(direction.shape, layers)
    scale = max(1.0, view.columns / max(view.rows, 1)) ** 0.5
    step = scale * orthogonalised(view.of(whole(direction))).reshape(direction.shape)
    step = lying_as(step, direction)
    return jnp.where(direction == 0, jnp.zeros_like(step), step)


def unit_step(direction: Array, layers: int = 0) -> Array:
    """A direction over its root mean square over what moves of the tensor.

    Args:
      direction: `[*shape]`; what is exactly zero rests.
      layers: leading axes that count layers, of which each has a mean square of its own.

    Returns:
      `[*shape]`, the step at a rate of 1.
    """
    axes = tuple(range(layers, direction.ndim))
    largest = jnp.max(jnp.abs(direction), axis=axes, keepdims=True)
    scaled = _over(direction, largest)
    number = jnp.sum(direction != 0, axis=axes, keepdims=True, dtype=direction.dtype)
    square = jnp.sum(scaled * scaled, axis=axes, keepdims=True)
    return scaled * jnp.sqrt(_over(number, square))


def _over(x: Array, divisor: Array) -> Array:
    """`x / divisor`, and 0 where the divisor is 0."""
    is_zero = divisor == 0
    return jnp.where(is_zero, jnp.zeros_like(x), x / jnp.where(is_zero, 1, divisor).astype(x.dtype))
