"""Running averages of gradients: how they go on by a step,
and what the inputs of an update see of them.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax


class Decays(NamedTuple):
    """Decays of the kinds of running averages."""

    momenta: tuple[float, ...]
    second_moments: tuple[float, ...]
    factored: tuple[float, ...] = ()


class Debias(NamedTuple):
    """What each average is to be multiplied by so that its weights sum to one;
    scalars, one a decay.
    """

    momenta: Sequence[Array]
    second_moments: Sequence[Array]
    factored: Sequence[Array] = ()


class FactoredMoments(NamedTuple):
    """Factored second moments as each of `n` parameters sees them, `[n]` a factored decay;
    none are kept by default.

    Attributes:
      estimates: `r_i c_j / mean(r)`.
      rows: r_i.
      columns: c_j.
    """

    estimates: Sequence[Array] = ()
    rows: Sequence[Array] = ()
    columns: Sequence[Array] = ()


class Averages(NamedTuple):
    """What the inputs of `n` parameters are made of.

    Attributes:
      gradient: `[n]`.
      parameter: `[n]`.
      momenta: `[n]` a decay, running averages of the gradient, this step's included.
      second_moments: `[n]` a decay, running averages of the squared gradient.
      factored: the same of the means over rows and over columns.
    """

    gradient: Array
    parameter: Array
    momenta: Sequence[Array]
    second_moments: Sequence[Array]
    factored: FactoredMoments = FactoredMoments()


def running_averages(averages: Array, value: Array, decays: Sequence[float]) -> Array:
    """Running averages `[decays, *shape]`, one step on with `value` `[*shape]`, in its type.

    Averages that mirror a parameter are to come in its shape: XLA writes them where the old ones
    were only if nothing reshapes them in between.
    """
    column = (-1, *(1,) * value.ndim)
    decay = jnp.asarray(decays, value.dtype).reshape(column)
    # In Python's precision: 1 - .9999 has only three digits left in float32.
    rest = jnp.asarray([1.0 - d for d in decays], value.dtype).reshape(column)
    return decay * averages.astype(value.dtype) + rest * value[None]


def accumulate(
    kept: Decays, gradient: Array, momenta: Array, second_moments: Array
) -> tuple[Array, Array]:
    """Momenta and second moments `[decays, *shape]`,
    one step on with a gradient `[*shape]`, in its type.
    """
    momenta = running_averages(momenta, gradient, kept.momenta)
    return momenta, running_averages(second_moments, gradient * gradient, kept.second_moments)


def split_rows(matrix: Array) -> list[Array]:
    """The rows of `[a, n]`; unlike a slice each, whose gradient is a sum of a padded matrices."""
    if not matrix.shape[0]:
        return []
    return [lax.squeeze(row, (0,)) for row in lax.split(matrix, (1,) * matrix.shape[0])]


def debias_factor(decay: float, num_updates: Array) -> Array:
    """`1 / (1 - decay^num_updates)`, to full precision for a decay near one."""
    return -1.0 / jnp.expm1(num_updates * (math.log(decay) if decay > 0.0 else -jnp.inf))


def debias_factors(decays: Decays, num_updates: Array) -> Debias:
    """`debias_factor` of every decay."""
    return Debias(*([debias_factor(decay, num_updates) for decay in kind] for kind in decays))
