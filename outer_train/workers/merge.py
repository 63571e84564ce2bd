"""Many gradients to one (Metz et al. 2019, arXiv 1810.10180, equation 1, over the whole batch).

Gradients of one family are pooled as if their particles had been in one place; then the parts are weighed by inverse
variance; then families are averaged. Weighing families by their variance would train on the quietest one alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from outer_train.estimators.merged import inverse_variance_weights, weighted_mean
from outer_train.workers.messages import Gradient


class Pooled(NamedTuple):
    """Moments of all samples of a batch's gradients: `[parts, size]` and `[parts, size]` or `[1, 1]`."""

    means: NDArray
    variances: NDArray


class Merged(NamedTuple):
    """One gradient `[size]`; each part's mean share in it and mean variance of a sample, `[parts]`."""

    grad: NDArray
    shares: NDArray
    variances: NDArray


def pool(gradients: Sequence[Gradient]) -> Pooled:
    """Mean and unbiased variance of all the samples together, from those of each gradient.

    A gradient's mean counts by its samples. Variance of scalars: the deviations' mean over theta.
    """
    counts = np.array([g.num_samples for g in gradients], np.float64)[:, None, None]
    means = np.stack([g.means for g in gradients]).astype(np.float64)
    variances = np.stack([g.variances for g in gradients]).astype(np.float64)
    mean = (counts * means).sum(axis=0) / counts.sum()
    deviations = np.square(means - mean)
    if variances.shape[-1] != means.shape[-1]:
        deviations = deviations.mean(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):  # 0 * inf, of a gradient of one sample that was left out
        squares = ((counts - 1) * variances + counts * deviations).sum(axis=0)
    return Pooled(mean, squares / max(counts.sum() - 1, 1))


def merge(gradients: Sequence[Gradient], weighting: str = "elementwise") -> Merged:
    """The outer gradient of a batch.

    Args:
      gradients: at least one; all with the same parts.
      weighting: `"elementwise"` or `"global"`, as in `outer_train.estimators.merged`.
    """
    families = sorted({g.family for g in gradients})
    rows = [_weigh(pool([g for g in gradients if g.family == family]), weighting) for family in families]
    return Merged(*(np.mean(column, axis=0) for column in zip(*rows, strict=True)))


def _weigh(pooled: Pooled, weighting: str) -> Merged:
    variances = pooled.variances.mean(axis=1)
    if len(pooled.means) == 1:
        return Merged(pooled.means[0], np.ones(1), variances)
    with np.errstate(over="ignore"):
        finite = [np.where(np.isnan(v), np.inf, v).astype(np.float32) for v in pooled.variances]
    weights = inverse_variance_weights(finite, weighting)
    grad = weighted_mean(weights, [mean.astype(np.float32) for mean in pooled.means])
    return Merged(np.asarray(grad), np.array([float(np.mean(w)) for w in weights]), variances)
