"""Means and variances of per-particle gradients over all devices, with samples that are not finite left out."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

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
    results = [_leaf_moments(leaf, axis_name, chosen) for leaf in jax.tree.leaves(samples)]
    structure = jax.tree.structure(samples)
    return Moments(*(structure.unflatten(column) for column in zip(*results, strict=True)))


def _leaf_moments(x, axis_name, chosen):
    expand = (slice(None),) + (None,) * (x.ndim - 1)
    used = jnp.ones(x.shape[0], bool) if chosen is None else chosen
    used = jnp.broadcast_to(used[expand], x.shape)
    good = used & jnp.isfinite(x)
    add = lambda values: total(jnp.sum(values, axis=0), axis_name)  # noqa: E731
    count, num_bad = add(good.astype(x.dtype)), add((used & ~good).astype(x.dtype))
    mean = add(jnp.where(good, x, 0)) / jnp.maximum(count, 1)
    squares = add(jnp.where(good, jnp.square(x - mean), 0))
    variance = jnp.where(num_bad > 0, jnp.inf, squares / jnp.maximum(count - 1, 1))
    return mean, variance, num_bad


def finite_mean(values: Array, axis_name: str | None) -> Array:
    """Mean of the finite ones among values `[particles]`, over all devices; zero where there is none."""
    good = jnp.isfinite(values)
    count = total(jnp.sum(good.astype(values.dtype)), axis_name)
    return total(jnp.sum(jnp.where(good, values, 0)), axis_name) / jnp.maximum(count, 1)


def tree_mean(tree: Tree) -> Array:
    """Mean over all elements of all leaves, each element weighing the same."""
    leaves = jax.tree.leaves(tree)
    return sum(jnp.sum(x) for x in leaves) / sum(x.size for x in leaves)
