"""Random quadratics: the family in which everything has a closed form."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from tasks.base import Batch, Data, Key, Metrics, Task, TaskFamily
from tasks.numerics.rotation import haar_rotation


class Quadratic(NamedTuple):
    """Task parameters of `random_quadratic_family`.

    Attributes:
      hessian: `[dim, dim]` float32, symmetric positive definite.
      minimum: `[dim]` float32.
    """

    hessian: Float[Array, "dim dim"]
    minimum: Float[Array, " dim"]


def random_quadratic_family(
    dim: int,
    min_curvature: float = 0.01,
    max_curvature: float = 1.0,
    noise_std: float = 0.0,
    init_std: float = 1.0,
) -> TaskFamily:
    """`loss(w) = 1/2 (w - w*)^T H (w - w*) + xi^T (w - w*)`, with `H = Q diag(h) Q^T`.

    log h is uniform, Q is a uniform (Haar) rotation, w* is standard normal, the batch is
    `xi ~ N(0, noise_std^2 I)`. The gradient is `H (w - w*) + xi`: unbiased, with variance
    noise_std^2 in every coordinate at every w.

    Args:
      dim: number of parameters.
      min_curvature: lower end of the spectrum.
      max_curvature: upper end of the spectrum.
      noise_std: standard deviation of each coordinate of the gradient; the same in all splits.
      init_std: `w_0 ~ N(0, init_std^2 I)`.

    Returns:
      The family; task parameters are a `Quadratic`, inner parameters an array `[dim]`, data is
      `()`.

    Raises:
      ValueError: for a dimension below 1, curvatures that are not `0 < min <= max`, or a deviation
        that is negative or not finite.
    """
    if dim < 1:
        raise ValueError(f"dim must be 1 or more; got {dim}")
    limits = np.finfo(np.float32)
    if not limits.tiny <= min_curvature <= max_curvature <= limits.max:
        raise ValueError(
            f"curvatures must satisfy 0 < min <= max, in float32 too; got {min_curvature} and "
            f"{max_curvature}"
        )  # fmt: skip
    if not (0 <= noise_std <= limits.max and 0 <= init_std <= limits.max):
        raise ValueError(
            f"standard deviations must not be negative, nor infinite; got noise_std={noise_std}, "
            f"init_std={init_std}"
        )  # fmt: skip
    low, high = math.log(min_curvature), math.log(max_curvature)

    def sample(key: Key) -> Quadratic:
        spectrum_key, rotation_key, minimum_key = jax.random.split(key, 3)
        curvature = jnp.exp(jax.random.uniform(spectrum_key, (dim,), jnp.float32, low, high))
        rotation = haar_rotation(rotation_key, dim)
        return Quadratic(
            (rotation * curvature[None]) @ rotation.T,
            jax.random.normal(minimum_key, (dim,), jnp.float32),
        )

    def init(key: Key) -> Array:
        return init_std * jax.random.normal(key, (dim,), jnp.float32)

    def sample_batch(data: Data, key: Key, split: str) -> Batch:
        return noise_std * jax.random.normal(key, (dim,), jnp.float32)

    def task(quadratic: Quadratic) -> Task:
        def loss(params: Array, key: Key, batch: Batch) -> tuple[Array, Metrics]:
            distance = params - quadratic.minimum
            return 0.5 * distance @ quadratic.hessian @ distance + batch @ distance, {}

        return Task(init, loss, sample_batch)

    return TaskFamily(sample, task)
