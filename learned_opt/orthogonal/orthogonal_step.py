"""Directions of matrices made orthogonal: as long as before, in all singular directions alike.

The polar factor of a direction has singular values of 1 (Muon, Jordan 2024). Here it keeps the
direction's root mean square too. In units of Adam's scale that is near 1 while gradients agree from
step to step and falls to a fourth where they are noise, so the step anneals itself.
"""

import jax.numpy as jnp
from jax import Array

from learned_opt.orthogonal.matrix_view import matrix_view
from learned_opt.orthogonal.newton_schulz import orthogonalised
from learned_opt.trees.spread import lying_as, whole


def orthogonal_step(direction: Array, layers: int = 0) -> Array:
    """The polar factor of a matrix of weights `[..., inputs, outputs]`, times the direction's root
    mean square and `sqrt(max(1, outputs / inputs))`: what it adds to a layer's outputs is then
    about as large at every width (arXiv 2310.17813).

    Args:
      direction: `[*shape]`; where it is exactly zero, a parameter rests, and so does it here.
      layers: leading axes that count layers, of which each is a matrix.

    Returns:
      `[*shape]`, the step at a rate of 1.
    """
    view = matrix_view(direction.shape, layers)
    scale = max(1.0, view.columns / max(view.rows, 1)) ** 0.5
    matrices = view.of(whole(direction))
    length = scale * _rms(matrices)
    step = lying_as((length * orthogonalised(matrices)).reshape(direction.shape), direction)
    return jnp.where(direction == 0, jnp.zeros_like(step), step)


def _rms(matrices: Array) -> Array:
    """`[..., 1, 1]`, the root mean square of each over what moves of it."""
    number = jnp.sum(matrices != 0, axis=(-2, -1), keepdims=True, dtype=matrices.dtype)
    square = jnp.sum(matrices * matrices, axis=(-2, -1), keepdims=True)
    return jnp.sqrt(_positive(square) / jnp.maximum(number, jnp.ones_like(number)))


def _positive(x: Array) -> Array:
    """x, and for 0 the least number: the root's derivative there is infinite."""
    return jnp.maximum(x, jnp.full_like(x, jnp.finfo(x.dtype).tiny))
