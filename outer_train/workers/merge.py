"""Many gradients to one (Metz et al. 2019, arXiv 1810.10180, equation 1, over the whole batch).

Gradients of one family are pooled as if their particles had been in one place; then the parts are
weighed by inverse variance; then families are averaged. Weighing families by their variance would
train on the quietest one alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from outer_train.estimators._merged import merge_moments
from outer_train.particles._moments import Moments
from outer_train.workers.messages import Gradient


class Pooled(NamedTuple):
    """Moments of all samples of a batch's gradients: `[parts, size]`, variances also `[1, 1]`.

    Attributes:
      means: zero where no gradient has a finite sample.
      variances: infinite where a gradient left samples out, nan where fewer than two samples count.
      counts: samples that count.
    """

    means: NDArray
    variances: NDArray
    counts: NDArray


class Merged(NamedTuple):
    """One outer gradient.

    Attributes:
      grad: `[size]`.
      shares: each part's mean share in it, `[parts]`.
      variances: mean variance of a sample, `[parts]`.
      known: whether a sample of the batch is finite; if not, theta must not step.
      taken: whether theta did step.
    """

    grad: NDArray
    shares: NDArray
    variances: NDArray
    known: bool = True
    taken: bool = True


def pool(gradients: Sequence[Gradient]) -> Pooled:
    """Mean and unbiased variance of all the samples together, from those of each gradient.

    A gradient's mean counts by its samples, but where none of them is finite. Variance of scalars:
    the deviations' mean over theta.
    """
    means = np.stack([g.means for g in gradients]).astype(np.float64)
    variances = np.stack([g.variances for g in gradients]).astype(np.float64)
    counts = np.stack([_counts(g) for g in gradients])
    total = counts.sum(axis=0)
    mean = (counts * means).sum(axis=0) / np.maximum(total, 1)
    deviations = np.square(means - mean)
    if variances.shape[-1] == 1:
        deviations = deviations.mean(axis=-1, keepdims=True)
        counts = counts.max(axis=-1, keepdims=True)
    within = np.where(counts > 1, np.maximum(counts - 1, 0) * np.where(counts > 1, variances, 0), 0)
    within = np.where((counts == 0).any(axis=0), np.inf, within.sum(axis=0))
    squares = within + (counts * deviations).sum(axis=0)
    num = counts.sum(axis=0)
    return Pooled(mean, np.where(num > 1, squares / np.maximum(num - 1, 1), np.nan), total)


def _counts(gradient: Gradient) -> NDArray:
    """Samples that a gradient's means count by, `[parts, size]`:
    none where its variance says that it has none.
    """
    counts = np.full(gradient.means.shape, float(gradient.num_samples))
    if gradient.variances.shape[-1] == gradient.means.shape[-1] > 1:
        unknown = np.isnan(gradient.variances) & (gradient.num_samples > 1)
    else:  # the variance of one sample is unknown too, so that alone says nothing
        unknown = np.isnan(gradient.variances).any() & (
            gradient.num_non_finite >= gradient.num_samples
        )
    return np.where(unknown & (gradient.means == 0), 0.0, counts)


def merge(gradients: Sequence[Gradient], weighting: str = "elementwise") -> Merged:
    """The outer gradient of a batch; families of which no sample is finite are left out.

    Args:
      gradients: at least one; all with the same parts.
      weighting: `"elementwise"` or `"global"`, as in `outer_train.estimators.merged`.
    """
    families = sorted({g.family for g in gradients})
    pooled = [pool([g for g in gradients if g.family == family]) for family in families]
    known = [each for each in pooled if (each.counts > 0).any()]
    rows = [_weigh(each, weighting) for each in known or pooled]
    grad, shares, variances = (np.mean(column, axis=0) for column in zip(*rows, strict=True))
    return Merged(grad, shares, variances, known=bool(known))


def _weigh(pooled: Pooled, weighting: str) -> tuple[NDArray, NDArray, NDArray]:
    variances = pooled.variances.mean(axis=1)
    if len(pooled.means) == 1:
        return pooled.means[0], np.ones(1), variances
    finite = np.isfinite(pooled.variances)
    # In a unit of their own: float32 does not hold squares of 1e20.
    largest = pooled.variances.max(where=finite, initial=0.0) or 1.0
    relative = np.where(finite, pooled.variances / largest, 1)
    columns = (pooled.means, pooled.variances, ~finite, pooled.counts, relative)
    with np.errstate(over="ignore"):
        parts = [
            Moments(*(row.astype(np.float32) for row in rows))
            for rows in zip(*columns, strict=True)
        ]
    grad, weights = merge_moments(parts, parts, weighting)
    return np.asarray(grad), np.array([float(np.mean(w)) for w in weights]), variances
