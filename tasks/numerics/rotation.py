"""Uniformly random rotations, without a matrix decomposition.

A decomposition would be a LAPACK call. jaxlib spreads a batch of those over the threads that its
CPU devices run on, and two devices that decompose at once may wait for each other for ever.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from tasks.base import Key


def haar_rotation(key: Key, dim: int) -> Float[Array, "dim dim"]:
    """An orthogonal matrix drawn uniformly (from the Haar measure),
    as a product of Householder reflections.

    Reflection k sends a standard normal vector of the last dim - k coordinates onto its first axis;
    with the signs of the vectors' leading entries this is the Q of a Gaussian matrix (Stewart 1980,
    The efficient generation of random orthogonal matrices, doi:10.1137/0717034).
    """
    normals = jax.random.normal(key, (dim, dim), jnp.float32)
    index = jnp.arange(dim)

    def reflect(step: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        matrix, signs = carry
        k = dim - 1 - step
        x = jnp.where(index >= k, normals[k], 0.0)
        leading = jnp.where(x[k] < 0.0, -1.0, 1.0)
        # Adding what has the leading entry's own sign cancels no digits.
        v = x + jnp.where(index == k, leading * jnp.sqrt(x @ x), 0.0)
        matrix = matrix - jnp.outer(v * (2.0 / (v @ v)), v @ matrix)
        return matrix, jnp.where(index == k, -leading, signs)

    # The carry starts from the drawn numbers, not from constants,
    # so that it varies over devices as what follows does.
    start = jnp.where(index[:, None] == index[None], 1.0, 0.0 * normals), 0.0 * normals[0]
    matrix, signs = jax.lax.fori_loop(0, dim, reflect, start)
    return matrix * signs[None]
