"""Inputs of `learned_opt.adafactor_mlp`: the per-parameter MLP's, and factored second moments (arXiv 2203.11860).

A tensor's second moment is also kept as its means over rows and over columns, as Adafactor does (arXiv 1804.04235):

    v_ij ~ r_i c_j / mean(r)

which costs next to no memory, so that several decays may be kept. Rows of the paper's kinds are normalised over the
elements of their tensor. The `adam_*` and `adafactor_*` kinds are debiased and have no scale to begin with, and no eps:
a loss in another unit gives the same inputs.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from learned_opt.per_parameter.blocks import running_averages, split_rows
from learned_opt.per_parameter.features import debias, inverse_root

PAPER_EPS = 1e-6
"""Inside the root, in units of the squared gradient."""


class Averages(NamedTuple):
    """What the features of `n` parameters are made of; every entry of a list is `[n]`.

    Attributes:
      gradient: `[n]`.
      parameter: `[n]`.
      momenta: one a momentum decay.
      second_moments: one a second-moment decay.
      factored: one a factored decay, `r_i c_j / mean(r)`.
      rows: one a factored decay, r_i.
      columns: one a factored decay, c_j.
    """

    gradient: Array
    parameter: Array
    momenta: Sequence[Array]
    second_moments: Sequence[Array]
    factored: Sequence[Array]
    rows: Sequence[Array]
    columns: Sequence[Array]


class Decays(NamedTuple):
    """Decays of the three kinds of running averages."""

    momenta: tuple[float, ...]
    second_moments: tuple[float, ...]
    factored: tuple[float, ...]


class Debias(NamedTuple):
    """What each average is to be multiplied by so that its weights sum to one; scalars, one a decay."""

    momenta: Sequence[Array]
    second_moments: Sequence[Array]
    factored: Sequence[Array]


class FeatureKind(NamedTuple):
    """One kind of input.

    Attributes:
      rows: `(averages, debias) -> rows`, each `[n]`.
      counts: the fields of `Decays` that it has a row for each decay of; the longest counts. `()` is one row.
      normalized: whether the rows are normalised over their tensor.
    """

    rows: Callable[[Averages, Debias], list[Array]]
    counts: tuple[str, ...]
    normalized: bool


def debias_factors(decays: Decays, num_updates: Array) -> Debias:
    """`1 / (1 - decay^num_updates)` of every decay."""
    return Debias(*([debias(decay, num_updates) for decay in group] for group in decays))


def _inverse(moments: Sequence[Array]) -> list[Array]:
    return [lax.rsqrt(v + PAPER_EPS) for v in moments]


def _debiased_inverse(moments: Sequence[Array], corrections: Sequence[Array]) -> list[Array]:
    return [inverse_root(v * correction) for v, correction in zip(moments, corrections, strict=True)]


def _paired(momenta: Sequence[Array], scales: list[Array]) -> list[Array]:
    """Each momentum times the scale of its own decay, or the only one."""
    scales = scales * len(momenta) if len(scales) == 1 else scales
    return [m * scale for m, scale in zip(momenta, scales, strict=True)] if momenta else []


def _debiased_momenta(a: Averages, b: Debias) -> list[Array]:
    return [m * correction for m, correction in zip(a.momenta, b.momenta, strict=True)]


_M, _V, _F = ("momenta",), ("second_moments",), ("factored",)
FEATURE_KINDS: dict[str, FeatureKind] = {
    "gradient": FeatureKind(lambda a, b: [a.gradient], (), True),
    "parameter": FeatureKind(lambda a, b: [a.parameter], (), True),
    "momentum": FeatureKind(lambda a, b: list(a.momenta), _M, True),
    "second_moment": FeatureKind(lambda a, b: list(a.second_moments), _V, True),
    "momentum_over_rms": FeatureKind(lambda a, b: _paired(a.momenta, _inverse(a.second_moments)), _M, True),
    "inverse_rms": FeatureKind(lambda a, b: _inverse(a.second_moments), _V, True),
    "factored_gradient": FeatureKind(lambda a, b: [a.gradient * s for s in _inverse(a.factored)], _F, True),
    "factored_momentum": FeatureKind(lambda a, b: _paired(a.momenta, _inverse(a.factored)), _M, True),
    "row_moment": FeatureKind(lambda a, b: list(a.rows), _F, True),
    "column_moment": FeatureKind(lambda a, b: list(a.columns), _F, True),
    "inverse_row_rms": FeatureKind(lambda a, b: _inverse(a.rows), _F, True),
    "inverse_column_rms": FeatureKind(lambda a, b: _inverse(a.columns), _F, True),
    "adam_gradient": FeatureKind(
        lambda a, b: [a.gradient * s for s in _debiased_inverse(a.second_moments, b.second_moments)], _V, False
    ),
    "adam_momentum": FeatureKind(
        lambda a, b: _paired(_debiased_momenta(a, b), _debiased_inverse(a.second_moments, b.second_moments)), _M, False
    ),
    "adafactor_gradient": FeatureKind(
        lambda a, b: [a.gradient * s for s in _debiased_inverse(a.factored, b.factored)], _F, False
    ),
    "adafactor_momentum": FeatureKind(
        lambda a, b: _paired(_debiased_momenta(a, b), _debiased_inverse(a.factored, b.factored)), _M, False
    ),
}
_PAIRS = {
    "momentum_over_rms": "second_moments",
    "adam_momentum": "second_moments",
    "factored_momentum": "factored",
    "adafactor_momentum": "factored",
}


def check_features(features: Sequence[str], decays: Decays) -> None:
    """Raises `ValueError` for an unknown kind, momenta and second moments that do not pair up, or no input at all."""
    for name in features:
        if name not in FEATURE_KINDS:
            raise ValueError(f"features: got {name!r}, allowed are {', '.join(FEATURE_KINDS)}")
        if name in _PAIRS and decays.momenta and len(getattr(decays, _PAIRS[name])) not in (1, len(decays.momenta)):
            raise ValueError(
                f"feature {name!r} pairs momenta with {_PAIRS[name]}: got {len(decays.momenta)} momentum decays and "
                f"{len(getattr(decays, _PAIRS[name]))} of the latter, allowed are one or as many"
            )
    if not any(count(name, decays) for name in features):
        raise ValueError(f"features: got {tuple(features)}, which give no input; at least one is needed")


def count(name: str, decays: Decays) -> int:
    """Number of rows of one kind."""
    kind = FEATURE_KINDS[name]
    return math.prod(len(getattr(decays, field)) for field in kind.counts)


def normalized_rows(features: Sequence[str], decays: Decays) -> list[bool]:
    """For each row of `feature_rows` whether it is normalised over its tensor."""
    return [FEATURE_KINDS[name].normalized for name in features for _ in range(count(name, decays))]


def feature_rows(features: Sequence[str], averages: Averages, corrections: Debias) -> list[Array]:
    """The inputs that differ between parameters, not yet normalised: rows `[n]` in the order of `features`."""
    return [row for name in features for row in FEATURE_KINDS[name].rows(averages, corrections)]


class Factors(NamedTuple):
    """Factored second moments of one tensor, seen as `[batch, rows, columns]`; f decays.

    Attributes:
      rows: `[f, batch, rows]`, running averages of the squared gradient's means over columns.
      columns: `[f, batch, columns]`, of its means over rows.
    """

    rows: Array
    columns: Array


def factored_axes(shape: tuple[int, ...]) -> tuple[int, int]:
    """The two largest axes of a tensor of at least two, in order; of equal ones the last."""
    largest = sorted(range(len(shape)), key=lambda axis: (shape[axis], axis))[-2:]
    return min(largest), max(largest)


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """`(batch, rows, columns)` of a tensor: its two largest axes last; a vector is a matrix of one row."""
    if len(shape) < 2:
        return 1, 1, math.prod(shape)
    row, column = factored_axes(shape)
    return math.prod(size for axis, size in enumerate(shape) if axis not in (row, column)), shape[row], shape[column]


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


def accumulate(factors: Factors, gradient: Array, decays: Sequence[float]) -> Factors:
    """One step on with a gradient `[batch, rows, columns]`, in its type."""
    square = gradient * gradient
    means = (jnp.mean(square, axis=2), jnp.mean(square, axis=1))
    return Factors(*(running_averages(old, mean, decays) for old, mean in zip(factors, means, strict=True)))


@jax.custom_jvp
def _share(x: Array, mean: Array) -> Array:
    """`x / mean`, and 0 where the mean is zero, with a derivative that is finite at every float32."""
    return _quotient(x, mean)


@_share.defjvp
def _share_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    # Quotients of two small numbers each: the square of a small mean, which JAX would divide by, is zero.
    share, mean = _quotient(*primals), primals[1]
    return share, _quotient(tangents[0], mean) - share * _quotient(tangents[1], mean)


def _quotient(x: Array, mean: Array) -> Array:
    is_positive = mean > 0
    return jnp.where(is_positive, x / jnp.where(is_positive, mean, jnp.ones_like(mean)), jnp.zeros_like(x))


def expand(factors: Factors, start: Array | int, num_rows: int) -> tuple[list[Array], list[Array], list[Array]]:
    """`(factored, rows, columns)` of `num_rows` rows from `start` on, batch and rows counted as one: lists of `[n]`."""
    num_decays, batch, rows = factors.rows.shape
    mean = jnp.mean(factors.rows, axis=2, keepdims=True)
    parts = [x.reshape(num_decays, batch * rows) for x in (factors.rows, _share(factors.rows, mean))]
    row, scaled = (lax.dynamic_slice_in_dim(x, start, num_rows, axis=1)[:, :, None] for x in parts)
    if batch == 1:
        column = factors.columns
    else:
        column = jnp.take(factors.columns, (start + jnp.arange(num_rows)) // rows, axis=1)
    shape = (num_decays, num_rows, factors.columns.shape[2])
    every = (scaled * column, jnp.broadcast_to(row, shape), jnp.broadcast_to(column, shape))
    return tuple(split_rows(part.reshape(num_decays, -1)) for part in every)
