"""Means and variances of per-particle gradients over all devices, with samples that are not finite left out."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from outer_train.particles import total

Tree = Any


class Moments(NamedTuple):
    """Of one estimator's samples, over the particles of all devices.

    Attributes:
      mean: over the finite samples, elementwise, shaped as theta; zero where there is none.
      variance: unbiased sample variance of one sample, elementwise; infinite for an outer parameter with a sample that
        is not finite, so that an inverse-variance weight of it is zero.
      num_bad: samples that are not finite, elementwise, float.
    """

    mean: Tree
    variance: Tree
    num_bad: Tree


def moments(samples: Tree, axis_name: str | None, chosen: Array | None = None) -> Moments:
    """Moments over particles in two passes: the mean, then the squared deviations from it.

    Raw moments (mean of squares less square of the mean) would lose all digits where the mean outweighs the spread.

    Args:
      samples: leaves `[particles, ...]`, this device's share.
      axis_name: mesh axis to sum over, or None.
      chosen: bool `[particles]`, the samples to use; all by default.
    """
    leaves, structure = jax.tree.flatten(samples)
    used, num_bad, counts = _counts(leaves, axis_name, chosen)
    means = _means(leaves, used, counts, axis_name)
    squares = _packed_total(_squared_deviations(leaves, used, means), axis_name)
    columns = zip(squares, counts, num_bad, strict=True)
    variances = [jnp.where(bad > 0, jnp.inf, s / jnp.maximum(count - 1, 1)) for s, count, bad in columns]
    return Moments(*(structure.unflatten(column) for column in (means, variances, num_bad)))


def mean_and_variance(samples: Tree, axis_name: str | None) -> tuple[Tree, Array]:
    """The mean as in `moments`, and the mean over all elements of the variance, a scalar.

    For estimators that weigh nothing by their variance: beside scalars only the mean crosses devices, a quarter of
    what two parts' `moments` send.
    """
    leaves, structure = jax.tree.flatten(samples)
    used, num_bad, counts = _counts(leaves, axis_name, None)
    means = _means(leaves, used, counts, axis_name)
    squares = _squared_deviations(leaves, used, means)
    local = sum(jnp.sum(s / jnp.maximum(count - 1, 1)) for s, count in zip(squares, counts, strict=True))
    variance = total(local, axis_name) / sum(count.size for count in counts)
    any_bad = sum(jnp.sum(bad) for bad in num_bad) > 0
    return structure.unflatten(means), jnp.where(any_bad, jnp.inf, variance)


def _counts(leaves, axis_name, chosen):
    """Which samples count here, and, over all devices, how many were left out and how many remain, elementwise."""
    inside = jnp.ones(leaves[0].shape[0], bool) if chosen is None else chosen
    inside = [jnp.broadcast_to(inside.reshape((-1,) + (1,) * (x.ndim - 1)), x.shape) for x in leaves]
    bad = [jnp.sum(i & ~jnp.isfinite(x), axis=0, dtype=x.dtype) for i, x in zip(inside, leaves, strict=True)]
    some = total(sum(jnp.sum(b).astype(jnp.float32) for b in bad), axis_name) > 0
    # As large as theta, and nearly always zero: it crosses devices only when it is not.
    nothing = [jnp.zeros(b.shape, b.dtype) for b in bad]
    num_bad = lax.cond(some, lambda: _packed_total(bad, axis_name), lambda: nothing)
    num_used = total(jnp.sum(inside[0].reshape(len(inside[0]), -1)[:, 0], dtype=jnp.float32), axis_name)
    used = [i & jnp.isfinite(x) for i, x in zip(inside, leaves, strict=True)]
    return used, num_bad, [num_used.astype(b.dtype) - b for b in num_bad]


def _means(leaves, used, counts, axis_name):
    sums = _packed_total([jnp.sum(jnp.where(u, x, 0), axis=0) for u, x in zip(used, leaves, strict=True)], axis_name)
    return [s / jnp.maximum(count, 1) for s, count in zip(sums, counts, strict=True)]


def _squared_deviations(leaves, used, means):
    rows = zip(leaves, used, means, strict=True)
    return [jnp.sum(jnp.where(u, jnp.square(x - mean), 0), axis=0) for x, u, mean in rows]


def _packed_total(leaves, axis_name):
    """Sums over devices in one message for each dtype: between hosts a message costs more than its bytes."""
    result = list(leaves)
    for dtype in dict.fromkeys(x.dtype for x in leaves):
        places = [i for i, x in enumerate(leaves) if x.dtype == dtype]
        packed = total(jnp.concatenate([leaves[i].ravel() for i in places]), axis_name)
        first = 0
        for i in places:
            size = leaves[i].size
            result[i] = packed[first : first + size].reshape(leaves[i].shape)
            first += size
    return result


def finite_mean(values: Array, axis_name: str | None) -> Array:
    """Mean of the finite ones among values `[particles]`, over all devices; zero where there is none."""
    good = jnp.isfinite(values)
    count = total(jnp.sum(good.astype(values.dtype)), axis_name)
    return total(jnp.sum(jnp.where(good, values, 0)), axis_name) / jnp.maximum(count, 1)


def tree_mean(tree: Tree) -> Array:
    """Mean over all elements of all leaves, each element weighing the same."""
    leaves = jax.tree.leaves(tree)
    return sum(jnp.sum(x) for x in leaves) / sum(x.size for x in leaves)
