"""Means and variances of per-particle gradients over all devices, with samples that are not finite left out."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from outer_train.particles import packed_total, total

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


class FirstPass(NamedTuple):
    """Of samples over the particles of all devices: what the second pass takes deviations from.

    Attributes:
      mean: over the finite samples, elementwise, shaped as theta; zero where there is none.
      count: how many those are, elementwise, float.
      num_bad: samples that are not finite, elementwise, float.
      used: bool `[particles, ...]`, this device's samples that are in the mean.
    """

    mean: Tree
    count: Tree
    num_bad: Tree
    used: Tree


def first_pass(
    samples: Tree, axis_name: str | None, chosen: Array | None = None, beside: Tree = ()
) -> tuple[FirstPass, Tree]:
    """The mean, in one message, with what else is to be summed over devices: messages cost more than scalars' bytes.

    Args:
      samples: leaves `[particles, ...]`, this device's share.
      axis_name: mesh axis to sum over, or None.
      chosen: bool `[particles]`, the samples to use; all by default.
      beside: this device's arrays, summed too and returned.
    """
    leaves, structure = jax.tree.flatten(samples)
    chosen = jnp.ones(leaves[0].shape[0], bool) if chosen is None else chosen
    inside = [jnp.broadcast_to(chosen.reshape((-1,) + (1,) * (x.ndim - 1)), x.shape) for x in leaves]
    used = [i & jnp.isfinite(x) for i, x in zip(inside, leaves, strict=True)]
    sums = [jnp.sum(jnp.where(u, x, 0), axis=0) for u, x in zip(used, leaves, strict=True)]
    bad = [jnp.sum(i & ~u, axis=0, dtype=x.dtype) for i, u, x in zip(inside, used, leaves, strict=True)]
    any_bad = sum(jnp.sum(b).astype(jnp.float32) for b in bad)
    num_chosen = jnp.sum(chosen, dtype=jnp.float32)
    sums, any_bad, num_chosen, beside = packed_total((sums, any_bad, num_chosen, beside), axis_name)
    # As large as theta, and nearly always zero: it crosses devices only when it is not.
    nothing = [jnp.zeros(b.shape, b.dtype) for b in bad]
    num_bad = lax.cond(any_bad > 0, lambda: packed_total(bad, axis_name), lambda: nothing)
    counts = [num_chosen.astype(b.dtype) - b for b in num_bad]
    means = [s / jnp.maximum(count, 1) for s, count in zip(sums, counts, strict=True)]
    return FirstPass(*(structure.unflatten(column) for column in (means, counts, num_bad, used))), beside


def variances(samples: Tree, first: FirstPass, axis_name: str | None) -> Tree:
    """The second pass: the unbiased variance of one sample, elementwise, as in `Moments`.

    Raw moments (mean of squares less square of the mean) would lose all digits where the mean outweighs the spread.
    """
    squares = packed_total(_squared_deviations(samples, first), axis_name)
    of_one = lambda s, count, bad: jnp.where(bad > 0, jnp.inf, s / jnp.maximum(count - 1, 1))  # noqa: E731
    return jax.tree.map(of_one, squares, first.count, first.num_bad)


def mean_variance(samples: Tree, first: FirstPass, axis_name: str | None) -> Array:
    """The mean over all elements of `variances`, in a message of one scalar.

    For estimators that weigh nothing by their variance: beside scalars only the mean crosses devices, a quarter of
    what a merge of two parts sends.
    """
    squares, counts = _squared_deviations(samples, first), jax.tree.leaves(first.count)
    local = sum(jnp.sum(s / jnp.maximum(n - 1, 1)) for s, n in zip(jax.tree.leaves(squares), counts, strict=True))
    variance = total(local, axis_name) / sum(n.size for n in counts)
    any_bad = sum(jnp.sum(bad) for bad in jax.tree.leaves(first.num_bad)) > 0
    return jnp.where(any_bad, jnp.inf, variance)


def moments(samples: Tree, axis_name: str | None, chosen: Array | None = None) -> Moments:
    """Both passes; arguments as for `first_pass`."""
    first, _ = first_pass(samples, axis_name, chosen)
    return Moments(first.mean, variances(samples, first, axis_name), first.num_bad)


def _squared_deviations(samples, first):
    row = lambda x, used, mean: jnp.sum(jnp.where(used, jnp.square(x - mean), 0), axis=0)  # noqa: E731
    return jax.tree.map(row, samples, first.used, first.mean)


def tree_mean(tree: Tree) -> Array:
    """Mean over all elements of all leaves, each element weighing the same."""
    leaves = jax.tree.leaves(tree)
    return sum(jnp.sum(x) for x in leaves) / sum(x.size for x in leaves)
