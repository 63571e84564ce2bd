"""Inputs of the per-parameter MLPs: functions of gradient, parameter and their running averages.

A kind of input gives one row or one row a decay. Rows of the papers' kinds (arXiv 1810.10180, A.1,
and 2203.11860) are normalised over the elements of their tensor, `x * rsqrt(1e-5 + mean(x^2))`. The
`adam_*` kinds divide by the debiased root mean square of the same parameter's gradients, the
`adafactor_*` kinds by what the factored second moments make of it; they have no scale to begin
with, so they stay as they are and the signal-to-noise ratio they carry reaches the MLP. They have
no eps either: a loss in another unit gives the same inputs. (The papers' kinds keep the papers'
constants, which are in units of the gradient.)

The `unit_*` kinds are gradient and momenta over their root mean square over the tensor: unlike
Adam's they keep how elements stand to each other. They have no eps, either.

The `log_*` kinds say the same to every element of a tensor: log10 of a row's root mean square. That
of the parameter is the unit in which a step is large or small. That of the debiased averages over
Adam's scale tells how the gradient stands to its own past: near 0 while it keeps its length, far
below once the data are fitted; and among averages of several decays, which fall behind each other
where gradients are noise and stay level where they agree.

`FEATURE_KINDS` is the table of all. Each optimizer says which of them its users may name.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from learned_opt.trees.averages import Averages, Debias, Decays

NORMALIZE_EPS = 1e-5
RMS_EPS = 1e-6
"""Inside the root, in units of the squared gradient, as in the papers' code."""
LOG_EPS = 1e-4
"""Beside the mean square inside the logarithm:
a tensor of zeros, as fresh biases are, counts as 0.01."""


class OverTensor(NamedTuple):
    """What becomes of a row once its mean square over the tensor is known.

    Attributes:
      function: `(row, mean square) -> row`, both of one tensor: `[n]` and scalar to `[n]`, or to a
        scalar that stands for as many equal ones.
      is_sampled: whether the mean square of a large tensor may be that of a sample of its elements.
    """

    function: Callable[[Array, Array], Array]
    is_sampled: bool = False


def inverse_norm(mean_square: Array) -> Array:
    """What a row is multiplied by to normalise it."""
    return lax.rsqrt(NORMALIZE_EPS + mean_square)


def inverse_rms(square: Array, number: Array) -> Array:
    """The same of a sum of squares of so many numbers, or none."""
    return inverse_norm(square / jnp.maximum(number, jnp.ones_like(number)))


@jax.custom_jvp
def inverse_root(x: Array) -> Array:
    """`1 / sqrt(x)` with a derivative that is finite at every float32;
    for an x of zero finite too, and large.
    """
    # The smallest normal number: it changes no x above 2^25 of it.
    return lax.rsqrt(x + float(jnp.finfo(x.dtype).tiny))


@inverse_root.defjvp
def _inverse_root_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    root = inverse_root(*primals)
    # One factor at a time: the cube alone overflows where x, a square, is below 1e-26.
    return root, (-0.5 * root) * (root * (root * tangents[0]))


NORMALIZED = OverTensor(lambda row, mean_square: row * inverse_norm(mean_square))
"""The row divided by its root mean square."""
UNIT = OverTensor(lambda row, mean_square: row * inverse_root(mean_square))
"""The same without an eps, so that it is the same in every unit of the loss."""
LOG_RMS = OverTensor(
    lambda row, mean_square: 0.5 * jnp.log10(LOG_EPS + mean_square), is_sampled=True
)
"""The decimal logarithm of the row's root mean square, for every element."""


class FeatureKind(NamedTuple):
    """One kind of input.

    Attributes:
      rows: `(averages, debias) -> rows`, each `[n]`.
      row_for_each: the field of `Decays` that it has a row for each decay of; None for a single
        row.
      over_tensor: what becomes of each row once its mean square is known; None leaves it as it is.
      pairs_with: the field of `Decays` that each momentum needs one decay of, or all momenta a
        single one.
    """

    rows: Callable[[Averages, Debias], list[Array]]
    row_for_each: str | None
    over_tensor: OverTensor | None = None
    pairs_with: str | None = None


def _inverse_rms(moments: Sequence[Array]) -> list[Array]:
    return [lax.rsqrt(v + RMS_EPS) for v in moments]


def _debiased_inverse_rms(moments: Sequence[Array], corrections: Sequence[Array]) -> list[Array]:
    return [
        inverse_root(v * correction) for v, correction in zip(moments, corrections, strict=True)
    ]


def _for_each_momentum(a: Averages, scales: list[Array]) -> list[Array]:
    """The scale of each momentum's own decay, or the only one."""
    # Without momenta there may be several scales, and nothing to pair them with.
    return scales * len(a.momenta) if len(scales) == 1 else scales[: len(a.momenta)]


def _scaled_gradient(a: Averages, scales: list[Array]) -> list[Array]:
    return [a.gradient * scale for scale in scales]


def _scaled_momenta(a: Averages, scales: list[Array]) -> list[Array]:
    return [m * scale for m, scale in zip(a.momenta, _for_each_momentum(a, scales), strict=True)]


def _scaled_debiased_momenta(a: Averages, b: Debias, scales: list[Array]) -> list[Array]:
    scales = _for_each_momentum(a, scales)
    return [
        m * (scale * correction)
        for m, scale, correction in zip(a.momenta, scales, b.momenta, strict=True)
    ]


def _adam_gradient(a: Averages, b: Debias) -> list[Array]:
    return _scaled_gradient(a, _debiased_inverse_rms(a.second_moments, b.second_moments))


def _adam_momentum(a: Averages, b: Debias) -> list[Array]:
    return _scaled_debiased_momenta(a, b, _debiased_inverse_rms(a.second_moments, b.second_moments))


def _adafactor_gradient(a: Averages, b: Debias) -> list[Array]:
    return _scaled_gradient(a, _debiased_inverse_rms(a.factored.estimates, b.factored))


def _adafactor_momentum(a: Averages, b: Debias) -> list[Array]:
    return _scaled_debiased_momenta(a, b, _debiased_inverse_rms(a.factored.estimates, b.factored))


_M, _V, _F = Decays._fields
FEATURE_KINDS: dict[str, FeatureKind] = {
    "gradient": FeatureKind(lambda a, b: [a.gradient], None, NORMALIZED),
    "momentum_over_rms": FeatureKind(
        lambda a, b: _scaled_momenta(a, _inverse_rms(a.second_moments)),
        _M,
        NORMALIZED,
        pairs_with=_V,
    ),
    "parameter": FeatureKind(lambda a, b: [a.parameter], None, NORMALIZED),
    "momentum": FeatureKind(lambda a, b: list(a.momenta), _M, NORMALIZED),
    "second_moment": FeatureKind(lambda a, b: list(a.second_moments), _V, NORMALIZED),
    "inverse_rms": FeatureKind(lambda a, b: _inverse_rms(a.second_moments), _V, NORMALIZED),
    "unit_gradient": FeatureKind(lambda a, b: [a.gradient], None, UNIT),
    "unit_momentum": FeatureKind(lambda a, b: list(a.momenta), _M, UNIT),
    "adam_gradient": FeatureKind(_adam_gradient, _V),
    "adam_momentum": FeatureKind(_adam_momentum, _M, pairs_with=_V),
    "log_parameter": FeatureKind(lambda a, b: [a.parameter], None, LOG_RMS),
    "log_adam_gradient": FeatureKind(_adam_gradient, _V, LOG_RMS),
    "log_adam_momentum": FeatureKind(_adam_momentum, _M, LOG_RMS, pairs_with=_V),
    "factored_gradient": FeatureKind(
        lambda a, b: _scaled_gradient(a, _inverse_rms(a.factored.estimates)), _F, NORMALIZED
    ),
    "factored_momentum": FeatureKind(
        lambda a, b: _scaled_momenta(a, _inverse_rms(a.factored.estimates)),
        _M,
        NORMALIZED,
        pairs_with=_F,
    ),
    "row_moment": FeatureKind(lambda a, b: list(a.factored.rows), _F, NORMALIZED),
    "column_moment": FeatureKind(lambda a, b: list(a.factored.columns), _F, NORMALIZED),
    "inverse_row_rms": FeatureKind(lambda a, b: _inverse_rms(a.factored.rows), _F, NORMALIZED),
    "inverse_column_rms": FeatureKind(
        lambda a, b: _inverse_rms(a.factored.columns), _F, NORMALIZED
    ),
    "adafactor_gradient": FeatureKind(_adafactor_gradient, _F),
    "adafactor_momentum": FeatureKind(_adafactor_momentum, _M, pairs_with=_F),
}


def check_features(features: Sequence[str], allowed: Sequence[str], decays: Decays) -> None:
    """Checks names of inputs.

    Args:
      features: what is asked for.
      allowed: names in `FEATURE_KINDS` that the optimizer can give.
      decays: of its averages.

    Raises:
      ValueError: for another name, momenta and second moments that do not pair up, or no input at
        all.
    """
    for name in features:
        if name not in allowed:
            raise ValueError(f"features: got {name!r}, allowed are {', '.join(allowed)}")
        pairs_with = FEATURE_KINDS[name].pairs_with
        number = len(getattr(decays, pairs_with)) if pairs_with else 1
        if decays.momenta and number not in (1, len(decays.momenta)):
            raise ValueError(
                f"feature {name!r} pairs momenta with {pairs_with}: got {len(decays.momenta)} "
                f"momentum decays and {number} of the latter, allowed are one or as many"
            )
    if not num_rows(features, decays):
        raise ValueError(
            f"features: got {tuple(features)}, which give no input; at least one is needed"
        )


def rows_over_tensor(features: Sequence[str], decays: Decays) -> list[OverTensor | None]:
    """For each row of `feature_rows` what is made
    of it once its mean square over the tensor is known.
    """
    kinds = [FEATURE_KINDS[name] for name in features]
    return [kind.over_tensor for kind in kinds for _ in range(_num_rows(kind, decays))]


def num_rows(features: Sequence[str], decays: Decays) -> int:
    """Number of rows that `feature_rows` gives."""
    return len(rows_over_tensor(features, decays))


def _num_rows(kind: FeatureKind, each: Decays | Debias) -> int:
    return len(getattr(each, kind.row_for_each)) if kind.row_for_each else 1


def feature_rows(
    features: Sequence[str],
    averages: Averages,
    debias: Debias,
    wanted: Sequence[bool] | None = None,
) -> list[Array]:
    """The inputs of the MLP that differ between parameters or tensors,
    each element still on its own.

    Args:
      features: names in `FEATURE_KINDS`, in the order of the first layer's rows.
      averages: of `n` parameters.
      debias: of these averages.
      wanted: which of the rows; None for all. What is needed for others alone is not computed, not
        even traced, which counts where a tree has hundreds of tensors.

    Returns:
      Rows `[n]`; what `rows_over_tensor` says is still to be made of them.
    """
    kinds = [FEATURE_KINDS[name] for name in features]
    if wanted is None:
        return [row for kind in kinds for row in kind.rows(averages, debias)]
    rows, left = [], iter(wanted)
    for kind in kinds:
        of_kind = list(itertools.islice(left, _num_rows(kind, debias)))
        if any(of_kind):
            rows += itertools.compress(kind.rows(averages, debias), of_kind)
    return rows


def time_features(count: Array, timescales: Sequence[float], dtype: jnp.dtype) -> Array:
    """`tanh(t / s - 1)` for each timescale s, `[len(timescales)]`;
    t counts the updates made before this one.
    """
    return jnp.tanh(count.astype(dtype) / jnp.asarray(timescales, dtype) - 1.0)
