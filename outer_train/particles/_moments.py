"""Means and variances of per-particle gradients over all devices,
with samples that are not finite left out.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from outer_train.particles.collectives import axis_size, packed_total, total
from outer_train.trees import Tree, in_units, largest_of, share_of, unit_of


class Moments(NamedTuple):
    """Of one estimator's samples, over the particles of all devices.

    A sample counts where it is finite.

    Attributes:
      mean: elementwise, shaped as theta; zero where no sample counts.
      variance: unbiased sample variance of one sample, elementwise; infinite for an outer parameter
        with a sample that does not count, unknown (nan) where fewer than two do.
      num_bad: samples that do not count, elementwise, float.
      count: samples that do, elementwise, float.
      relative: variance of those that count in a unit that all estimators of these samples share,
        so that it is finite where `variance` is too large or too small for its type.
    """

    mean: Tree
    variance: Tree
    num_bad: Tree
    count: Tree
    relative: Tree


class FirstPass(NamedTuple):
    """Of samples over the particles of all devices: what the second pass takes deviations from.

    Attributes:
      mean: over the finite samples, elementwise, shaped as theta; zero where there is none.
      count: how many those are, elementwise, float.
      num_bad: samples that are not finite, elementwise, float.
      used: bool `[particles, ...]`, this device's samples that are in the mean.
      largest: scalar, about the largest absolute value of a sample: exact on one device, a device's
        share of it at least on several.
    """

    mean: Tree
    count: Tree
    num_bad: Tree
    used: Tree
    largest: Array


def first_pass(
    samples: Tree, axis_name: str | None, chosen: Array | None = None, beside: Tree = ()
) -> tuple[FirstPass, Tree]:
    """The mean, in one message, with what else is to be summed over devices:
    messages cost more than scalars' bytes.

    Args:
      samples: leaves `[particles, ...]`, this device's share.
      axis_name: mesh axis to sum over, or None.
      chosen: bool `[particles]`, the samples to use; all by default.
      beside: this device's arrays, summed too and returned.
    """
    leaves, structure = jax.tree.flatten(samples)
    num_local, num_devices = leaves[0].shape[0], axis_size(axis_name)
    chosen = jnp.ones(num_local, bool) if chosen is None else chosen
    inside = [
        jnp.broadcast_to(chosen.reshape((-1,) + (1,) * (x.ndim - 1)), x.shape) for x in leaves
    ]
    used = [i & jnp.isfinite(x) for i, x in zip(inside, leaves, strict=True)]
    # Scaled by a power of two, which rounds nothing:
    # the sum of samples is then no larger than the largest of them.
    share = share_of(num_local * num_devices)
    sums = [jnp.sum(jnp.where(u, x * share, 0), axis=0) for u, x in zip(used, leaves, strict=True)]
    bad = [
        jnp.sum(i & ~u, axis=0, dtype=x.dtype) for i, u, x in zip(inside, used, leaves, strict=True)
    ]
    any_bad = sum(jnp.sum(b).astype(jnp.float32) for b in bad)
    num_chosen = jnp.sum(chosen, dtype=jnp.float32)
    largest = (
        largest_of([jnp.where(u, x, 0) for u, x in zip(used, leaves, strict=True)]) / num_devices
    )
    message = (sums, any_bad, num_chosen, largest, beside)
    sums, any_bad, num_chosen, largest, beside = packed_total(message, axis_name)
    # As large as theta, and nearly always zero: it crosses devices only when it is not.
    nothing = [jnp.zeros(b.shape, b.dtype) for b in bad]
    num_bad = lax.cond(any_bad > 0, lambda: packed_total(bad, axis_name), lambda: nothing)
    counts = [num_chosen.astype(b.dtype) - b for b in num_bad]
    means = [s / (jnp.maximum(count, 1) * share) for s, count in zip(sums, counts, strict=True)]
    columns = (structure.unflatten(column) for column in (means, counts, num_bad, used))
    return FirstPass(*columns, largest), beside


def second_pass(samples: Tree, first: FirstPass, axis_name: str | None) -> Moments:
    """The unbiased variance of one sample, elementwise.

    Raw moments (mean of squares less square of the mean) would lose all digits where the mean
    outweighs the spread.
    """
    unit = unit_of_variances(first)
    squares = packed_total(_squared_deviations(samples, first, unit), axis_name)
    relative = jax.tree.map(lambda s, count: s / jnp.maximum(count - 1, 1), squares, first.count)

    def variance(relative, count, bad):
        known = jnp.where(
            bad > 0, jnp.inf, relative * unit.astype(relative.dtype) * unit.astype(relative.dtype)
        )
        return jnp.where(count < 2, jnp.nan, known)

    variances = jax.tree.map(variance, relative, first.count, first.num_bad)
    return Moments(first.mean, variances, first.num_bad, first.count, relative)


def mean_variance(samples: Tree, first: FirstPass, axis_name: str | None) -> Array:
    """The mean over all elements of `Moments.variance`, in a message of one scalar.

    For estimators that weigh nothing by their variance: beside scalars only the mean crosses
    devices, a quarter of what a merge of two parts sends.
    """
    unit, counts = unit_of_variances(first), jax.tree.leaves(first.count)
    squares = jax.tree.leaves(_squared_deviations(samples, first, unit))
    num = sum(n.size for n in counts)
    local = sum(
        jnp.sum(s / jnp.maximum(n - 1, 1) / num) for s, n in zip(squares, counts, strict=True)
    )
    variance = total(local, axis_name)
    variance = variance * unit.astype(variance.dtype) * unit.astype(variance.dtype)
    any_bad = sum(jnp.sum(bad) for bad in jax.tree.leaves(first.num_bad)) > 0
    any_unknown = jnp.any(jnp.stack([jnp.any(n < 2) for n in counts]))
    return jnp.where(any_unknown, jnp.nan, jnp.where(any_bad, jnp.inf, variance))


def moments(samples: Tree, axis_name: str | None, chosen: Array | None = None) -> Moments:
    """Both passes; arguments as for `first_pass`."""
    first, _ = first_pass(samples, axis_name, chosen)
    return second_pass(samples, first, axis_name)


def num_unknown(counts: Sequence[Tree]) -> Array:
    """Outer parameters, int32, for which none of the estimators has a sample that counts;
    one tree an estimator.
    """
    nothing = jax.tree.map(
        lambda *each: jnp.sum(jnp.all(jnp.stack(each) < 1, axis=0), dtype=jnp.int32), *counts
    )
    return sum(jax.tree.leaves(nothing))


def unit_of_variances(first: FirstPass) -> Array:
    """The unit whose square `Moments.relative` is in."""
    # Far from both ends: 2**40 squared times 2**40 samples is finite,
    # and so is what is 1e-25 of the largest.
    return unit_of(first.largest, exponent=40)


def _squared_deviations(samples, first, unit):
    def row(x, used, mean):
        scale = unit.astype(x.dtype)
        return jnp.sum(
            jnp.where(used, jnp.square(in_units(x, scale) - in_units(mean, scale)[None]), 0), axis=0
        )

    return jax.tree.map(row, samples, first.used, first.mean)


def tree_mean(tree: Tree) -> Array:
    """Mean over all elements of all leaves, each element weighing the same;
    nan for a tree without any.
    """
    leaves = jax.tree.leaves(tree)
    num = sum(x.size for x in leaves)
    return sum(jnp.sum(x * share_of(num)) for x in leaves) / (num * share_of(num))
