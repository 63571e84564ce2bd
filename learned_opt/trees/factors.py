"""Factored second moments: a tensor's as its means over rows
and over columns (Adafactor, arXiv 1804.04235).

    v_ij ~ r_i c_j / mean(r)

which costs next to no memory, so that several decays may be kept.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from learned_opt.trees.averages import FactoredMoments, running_averages, split_rows


class Factors(NamedTuple):
    """Factored second moments of one tensor; f decays.

    Attributes:
      rows: `[f, *shape]`, running averages of the squared gradient's means over the columns' axis,
        which has one element.
      columns: `[f, *shape]`, of its means over the rows' axis, which has one element; a vector is
        one row, and its columns are all there is.
    """

    rows: Array
    columns: Array


class Parts(NamedTuple):
    """What the parameters see of factors, `[f, *shape]` with one element along an axis where all
    see the same.

    Attributes:
      rows: r_i.
      shares: `r_i / mean(r)`.
      columns: c_j.
    """

    rows: Array
    shares: Array
    columns: Array


def factored_axes(shape: tuple[int, ...]) -> tuple[int, int]:
    """The two largest axes of a tensor of at least two, in order; of equal ones the last."""
    largest = sorted(range(len(shape)), key=lambda axis: (shape[axis], axis))[-2:]
    return min(largest), max(largest)


def flat_axes(shape: tuple[int, ...], layers: int = 0) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes along which a tensor's `rows` have one element, and its `columns`.

    Args:
      shape: of the tensor.
      layers: leading axes that count layers, of which each has factors of its own.
    """
    shape = shape[layers:]
    if len(shape) < 2:
        return tuple(range(layers, layers + len(shape))), ()
    row, column = factored_axes(shape)
    return (layers + column,), (layers + row,)


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """`(batch, rows, columns)` of a tensor: its two largest axes last.

    A vector is a matrix of one row.
    """
    if len(shape) < 2:
        return 1, 1, math.prod(shape)
    row, column = factored_axes(shape)
    return (
        math.prod(size for axis, size in enumerate(shape) if axis not in (row, column)),
        shape[row],
        shape[column],
    )


def as_matrices(x: Array) -> Array:
    """`[batch, rows, columns]`, as `matrix_shape` says; the factors of a vector are exact."""
    if x.ndim < 2:
        return x.reshape(matrix_shape(x.shape))
    return jnp.moveaxis(x, factored_axes(x.shape), (-2, -1)).reshape(matrix_shape(x.shape))


def from_matrices(x: Array, shape: tuple[int, ...]) -> Array:
    """Undoes `as_matrices`."""
    if len(shape) < 2:
        return x.reshape(shape)
    row, column = factored_axes(shape)
    rest = [size for axis, size in enumerate(shape) if axis not in (row, column)]
    return jnp.moveaxis(x.reshape(*rest, shape[row], shape[column]), (-2, -1), (row, column))


def accumulate_factors(
    factors: Factors, gradient: Array, decays: Sequence[float], flat: Sequence[Sequence[int]]
) -> Factors:
    """One step on with a gradient `[*shape]`, in its type; `flat` as in `flat_axes`."""
    square = gradient * gradient
    means = [jnp.mean(square, axis=axes, keepdims=True) if axes else square for axes in flat]
    return Factors(
        *(running_averages(old, mean, decays) for old, mean in zip(factors, means, strict=True))
    )


def parts_of(factors: Factors, flat: Sequence[Sequence[int]]) -> Parts:
    """What the parameters see of factors; `flat` as in `flat_axes`."""
    over_rows = tuple(1 + axis for axis in flat[1])
    mean = jnp.mean(factors.rows, axis=over_rows, keepdims=True) if over_rows else factors.rows
    return Parts(factors.rows, _share(factors.rows, mean), factors.columns)


def expand(parts: Parts) -> FactoredMoments:
    """What each parameter sees, `[*shape]`."""
    shape = np.broadcast_shapes(parts.rows.shape, parts.columns.shape)
    full = (parts.shares * parts.columns, parts.rows, parts.columns)
    return FactoredMoments(*(split_rows(jnp.broadcast_to(part, shape)) for part in full))


@jax.custom_jvp
def _share(x: Array, mean: Array) -> Array:
    """`x / mean`, and 0 where the mean is zero,
    with a derivative that is finite at every float32.
    """
    return _quotient(x, mean)


@_share.defjvp
def _share_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    # Quotients of two small numbers each:
    # the square of a small mean, which JAX would divide by, is zero.
    share, mean = _quotient(*primals), primals[1]
    return share, _quotient(tangents[0], mean) - share * _quotient(tangents[1], mean)


def _quotient(x: Array, mean: Array) -> Array:
    is_positive = mean > 0
    return jnp.where(
        is_positive, x / jnp.where(is_positive, mean, jnp.ones_like(mean)), jnp.zeros_like(x)
    )
