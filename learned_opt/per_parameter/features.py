"""Inputs of the per-parameter MLP: functions of gradient, parameter and their running averages (arXiv 1810.10180, A.1).

A feature kind gives one row or one row a decay. Rows of the paper's kinds are normalised over the elements of their
tensor, `x * rsqrt(1e-5 + mean(x^2))`. The `adam_*` kinds divide by the debiased root mean square of the same
parameter's gradients; they have no scale to begin with, so they stay as they are and the signal-to-noise ratio they
carry reaches the MLP. They have no eps either: a loss in another unit gives the same inputs. (The paper's kinds keep
the paper's constants, which are in units of the gradient.)

The `log_*` kinds say the same to every element of a tensor: log10 of a row's root mean square. That of the
parameter is the unit in which a step is large or small. That of the debiased averages over Adam's scale tells how the
gradient stands to its own past: near 0 while it keeps its length, far below once the data are fitted; and among
averages of several decays, which fall behind each other where gradients are noise and stay level where they agree.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

NORMALIZE_EPS = 1e-5
RMS_EPS = 1e-6
"""Inside the root, as in the released code of arXiv 1810.10180."""
LOG_EPS = 1e-4
"""Beside the mean square inside the logarithm: a tensor of zeros, as fresh biases are, counts as 0.01."""


class Averages(NamedTuple):
    """What the features of one group of `n` parameters are made of.

    Attributes:
      gradient: `[n]`.
      parameter: `[n]`.
      momenta: `[n]` a decay, running averages of the gradient, this step's included.
      second_moments: `[n]` a decay, running averages of the squared gradient.
      debiased_momenta: what each momentum is to be multiplied by so that its weights sum to one; scalars.
      debiased_second_moments: the same for the second moments.
    """

    gradient: Array
    parameter: Array
    momenta: Sequence[Array]
    second_moments: Sequence[Array]
    momentum_debias: Sequence[Array]
    second_moment_debias: Sequence[Array]


class OverTensor(NamedTuple):
    """What becomes of a row once its mean square over the tensor is known.

    Attributes:
      function: `(row, mean square) -> row`, both of one tensor: `[n]` and scalar to `[n]`, or to a scalar that stands
        for as many equal ones.
      is_sampled: whether the mean square of a large tensor may be that of a sample of its elements.
    """

    function: Callable[[Array, Array], Array]
    is_sampled: bool = False


def inverse_norm(mean_square: Array) -> Array:
    """What a row is multiplied by to normalise it."""
    return lax.rsqrt(NORMALIZE_EPS + mean_square)


@jax.custom_jvp
def inverse_root(x: Array) -> Array:
    """`1 / sqrt(x)` with a derivative that is finite at every float32; for an x of zero finite too, and large."""
    # The smallest normal number: it changes no x above 2^25 of it.
    return lax.rsqrt(x + float(jnp.finfo(x.dtype).tiny))


@inverse_root.defjvp
def _inverse_root_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    root = inverse_root(*primals)
    # One factor at a time: the cube alone overflows where x, a square, is below 1e-26.
    return root, (-0.5 * root) * (root * (root * tangents[0]))


NORMALIZED = OverTensor(lambda row, mean_square: row * inverse_norm(mean_square))
"""The row divided by its root mean square."""
LOG_RMS = OverTensor(lambda row, mean_square: 0.5 * jnp.log10(LOG_EPS + mean_square), is_sampled=True)
"""The decimal logarithm of the row's root mean square, for every element."""


class FeatureKind(NamedTuple):
    """One kind of input.

    Attributes:
      rows: `averages -> rows`, each `[n]`.
      count: `(momenta, second moments) -> number of rows`.
      over_tensor: what becomes of each row once its mean square is known; None leaves it as it is.
    """

    rows: Callable[[Averages], list[Array]]
    count: Callable[[int, int], int]
    over_tensor: OverTensor | None = None


def debias(decay: float, num_updates: Array) -> Array:
    """`1 / (1 - decay^num_updates)`, to full precision for a decay near one."""
    return -1.0 / jnp.expm1(num_updates * (math.log(decay) if decay > 0.0 else -jnp.inf))


def _for_each_momentum(averages: Averages, per_second_moment: list[Array]) -> list[tuple[Array, Array]]:
    """Each momentum with what belongs to the second moment of its own decay, or to the only one."""
    if len(per_second_moment) == 1:
        per_second_moment = per_second_moment * len(averages.momenta)
    # Without momenta there may be several second moments, and nothing to pair them with.
    return list(zip(averages.momenta, per_second_moment, strict=False))


def _inverse_rms(averages: Averages) -> list[Array]:
    return [lax.rsqrt(v + RMS_EPS) for v in averages.second_moments]


def _momentum_over_rms(averages: Averages) -> list[Array]:
    return [m * scale for m, scale in _for_each_momentum(averages, _inverse_rms(averages))]


def _adam_scales(averages: Averages) -> list[Array]:
    pairs = zip(averages.second_moments, averages.second_moment_debias, strict=True)
    return [inverse_root(v * correction) for v, correction in pairs]


def _adam_gradient(averages: Averages) -> list[Array]:
    return [averages.gradient * scale for scale in _adam_scales(averages)]


def _adam_momentum(averages: Averages) -> list[Array]:
    pairs = zip(_for_each_momentum(averages, _adam_scales(averages)), averages.momentum_debias, strict=True)
    return [m * (scale * correction) for (m, scale), correction in pairs]


FEATURE_KINDS: dict[str, FeatureKind] = {
    "gradient": FeatureKind(lambda a: [a.gradient], lambda m, v: 1, NORMALIZED),
    "momentum_over_rms": FeatureKind(_momentum_over_rms, lambda m, v: m, NORMALIZED),
    "parameter": FeatureKind(lambda a: [a.parameter], lambda m, v: 1, NORMALIZED),
    "momentum": FeatureKind(lambda a: list(a.momenta), lambda m, v: m, NORMALIZED),
    "second_moment": FeatureKind(lambda a: list(a.second_moments), lambda m, v: v, NORMALIZED),
    "inverse_rms": FeatureKind(_inverse_rms, lambda m, v: v, NORMALIZED),
    "adam_gradient": FeatureKind(_adam_gradient, lambda m, v: v),
    "adam_momentum": FeatureKind(_adam_momentum, lambda m, v: m),
    "log_parameter": FeatureKind(lambda a: [a.parameter], lambda m, v: 1, LOG_RMS),
    "log_adam_gradient": FeatureKind(_adam_gradient, lambda m, v: v, LOG_RMS),
    "log_adam_momentum": FeatureKind(_adam_momentum, lambda m, v: m, LOG_RMS),
}
_NEEDS_PAIRS = ("momentum_over_rms", "adam_momentum", "log_adam_momentum")


def check_features(features: Sequence[str], num_momenta: int, num_second_moments: int) -> None:
    """Raises `ValueError` for an unknown kind, or for momenta and second moments that do not pair up."""
    for name in features:
        if name not in FEATURE_KINDS:
            raise ValueError(f"features: got {name!r}, allowed are {', '.join(FEATURE_KINDS)}")
        if name in _NEEDS_PAIRS and num_momenta and num_second_moments not in (1, num_momenta):
            raise ValueError(
                f"feature {name!r} pairs momenta with second moments: got {num_momenta} momentum decays and "
                f"{num_second_moments} second-moment decays, allowed are one second-moment decay or as many as momenta"
            )


def count_features(features: Sequence[str], num_momenta: int, num_second_moments: int) -> int:
    """Number of rows that `feature_rows` gives."""
    return sum(FEATURE_KINDS[name].count(num_momenta, num_second_moments) for name in features)


def rows_over_tensor(features: Sequence[str], num_momenta: int, num_second_moments: int) -> list[OverTensor | None]:
    """For each row of `feature_rows` what is made of it once its mean square over the tensor is known."""
    kinds = [FEATURE_KINDS[name] for name in features]
    return [kind.over_tensor for kind in kinds for _ in range(kind.count(num_momenta, num_second_moments))]


def feature_rows(features: Sequence[str], averages: Averages) -> list[Array]:
    """The inputs of the MLP that differ between parameters or tensors, each element still on its own.

    Args:
      features: names in `FEATURE_KINDS`, in the order of the first layer's rows.
      averages: of `n` parameters.

    Returns:
      Rows `[n]`; what `rows_over_tensor` says is still to be made of them.
    """
    return [row for name in features for row in FEATURE_KINDS[name].rows(averages)]


def time_features(count: Array, timescales: Sequence[float], dtype: jnp.dtype) -> Array:
    """`tanh(t / s - 1)` for each timescale s, `[len(timescales)]`; t counts the updates made before this one."""
    return jnp.tanh(count.astype(dtype) / jnp.asarray(timescales, dtype) - 1.0)
