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
from jax import Array, lax
from jax.typing import DTypeLike

from learned_opt.trees.averages import FactoredMoments, running_averages, split_rows


class Factors(NamedTuple):
    """Factored second moments of one tensor, seen as `[batch, rows, columns]`; f decays.

    Attributes:
      rows: `[f, batch, rows]`, running averages of the squared gradient's means over columns.
      columns: `[f, batch, columns]`, of its means over rows.
    """

    rows: Array
    columns: Array

    @property
    def num_rows(self) -> int:
        """Of all matrices of the batch."""
        return math.prod(self.rows.shape[1:])

    @property
    def num_columns(self) -> int:
        """Of each matrix: elements of a row."""
        return self.columns.shape[2]


def factored_axes(shape: tuple[int, ...]) -> tuple[int, int]:
    """The two largest axes of a tensor of at least two, in order; of equal ones the last."""
    largest = sorted(range(len(shape)), key=lambda axis: (shape[axis], axis))[-2:]
    return min(largest), max(largest)


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


def zero_factors(num_decays: int, shape: tuple[int, ...], dtype: DTypeLike) -> Factors:
    """Fresh factors of a tensor of that shape."""
    batch, rows, columns = matrix_shape(shape)
    return Factors(
        jnp.zeros((num_decays, batch, rows), dtype), jnp.zeros((num_decays, batch, columns), dtype)
    )


def accumulate_factors(factors: Factors, gradient: Array, decays: Sequence[float]) -> Factors:
    """One step on with a gradient `[batch, rows, columns]`, in its type."""
    square = gradient * gradient
    means = (jnp.mean(square, axis=2), jnp.mean(square, axis=1))
    return Factors(
        *(running_averages(old, mean, decays) for old, mean in zip(factors, means, strict=True))
    )


def expand(
    factors: Factors, start: Array | int = 0, num_rows: int | None = None
) -> FactoredMoments:
    """What the parameters of `num_rows` rows from `start` on see, batch and rows counted as one;
    of all by default.
    """
    num_rows = factors.num_rows if num_rows is None else num_rows
    num_decays, batch, rows = factors.rows.shape
    mean = jnp.mean(factors.rows, axis=2, keepdims=True)
    parts = [
        x.reshape(num_decays, batch * rows) for x in (factors.rows, _share(factors.rows, mean))
    ]
    row, scaled = (lax.dynamic_slice_in_dim(x, start, num_rows, axis=1)[:, :, None] for x in parts)
    if batch == 1:
        column = factors.columns
    else:
        column = jnp.take(factors.columns, (start + jnp.arange(num_rows)) // rows, axis=1)
    shape = (num_decays, num_rows, factors.num_columns)
    every = (scaled * column, jnp.broadcast_to(row, shape), jnp.broadcast_to(column, shape))
    return FactoredMoments(*(split_rows(part.reshape(num_decays, -1)) for part in every))


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
