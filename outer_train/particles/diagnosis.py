"""Signs that a merge rests on too little, or on a part that should not be trusted."""

import math

import jax
import jax.numpy as jnp
from jax import Array

from outer_train.particles._moments import FirstPass, unit_of_variances
from outer_train.particles.collectives import total
from outer_train.trees import in_units, unit_of

CLIFF_THRESHOLD = 9.0
"""Mean squared standard score above which RP
and the other part cannot both be right (three standard errors)."""
LARGEST_SCORE = 1e30
"""Of one outer parameter, where both parts are without spread and differ:
their sum stays finite."""


def effective_samples(
    samples: dict, first: FirstPass, weights: dict, axis_name: str | None
) -> Array:
    """Kish's effective number of pairs, `(sum a)^2 / sum a^2`,
    with a the squared norm of a pair's merged gradient.

    The number of pairs where all are of one size; near 1 where a single pair makes the whole
    estimate; nan where no pair has a gradient.
    """
    merged = jax.tree.map(
        lambda *terms: sum(terms), *(_scale(samples[name], weights[name]) for name in samples)
    )
    rows = [x.reshape(len(x), math.prod(x.shape[1:])) for x in jax.tree.leaves(merged)]
    # Squares of 1e20 are infinite, those of 1e-25 are zero.
    unit = unit_of(first.largest, exponent=20)
    size = sum(jnp.sum(jnp.square(in_units(row, unit.astype(row.dtype))), axis=1) for row in rows)
    size = size / _or_one(total(jnp.sum(size), axis_name))  # sums to one
    squares = total(jnp.sum(jnp.square(size)), axis_name)
    return jnp.where(squares > 0, 1 / _or_one(squares), jnp.nan)


def disagreement(found: dict, first: FirstPass, weights: dict) -> Array:
    """Mean of `(g_rp - g_other)^2 / (var_rp / n_rp + var_other / n_other)`,
    over outer parameters by RP's weight there.

    About 1 while RP is unbiased. Much larger where RP is flat on both sides of a cliff that the
    other part sees: its variance is then implausibly small, and the merge follows it. Outer
    parameters of which a part has fewer than two samples are left out; nan where that is all of
    them, or RP weighs nothing.
    """
    other = next(name for name in found if name != "reparameterization")
    rp, es, weight = found["reparameterization"], found[other], weights["reparameterization"]
    unit = unit_of_variances(first)

    def score(mean_rp, mean_es, var_rp, var_es, num_rp, num_es, weight):
        variance = var_rp / jnp.maximum(num_rp, 1) + var_es / jnp.maximum(num_es, 1)
        own = unit.astype(mean_rp.dtype)
        squared = jnp.square(in_units(mean_rp, own) - in_units(mean_es, own))
        squared = jnp.minimum(
            squared / jnp.maximum(variance, jnp.finfo(variance.dtype).tiny), LARGEST_SCORE
        )
        share = jnp.where((num_rp >= 2) & (num_es >= 2) & jnp.isfinite(squared), weight, 0)
        return jnp.sum(jnp.where(share > 0, share * squared, 0)), jnp.sum(share)

    columns = (rp.mean, es.mean, rp.relative, es.relative, rp.count, es.count, weight)
    scores, shares = zip(
        *(score(*row) for row in zip(*map(jax.tree.leaves, columns), strict=True)), strict=True
    )
    return jnp.where(sum(shares) > 0, sum(scores) / _or_one(sum(shares)), jnp.nan)


def diagnose(
    samples: dict, first: FirstPass, found: dict, weights: dict, axis_name: str | None
) -> dict[str, Array]:
    """`effective_samples`, and where RP takes part `disagreement` and `cliff_warning` (0 or 1);
    nan if undefined.
    """
    result = {"effective_samples": effective_samples(samples, first, weights, axis_name)}
    if "reparameterization" in found:
        score = disagreement(found, first, weights)
        warning = (score > CLIFF_THRESHOLD).astype(jnp.float32)
        result |= {
            "disagreement": score,
            "cliff_warning": jnp.where(jnp.isnan(score), jnp.nan, warning),
        }
    return result


def _or_one(x):
    return jnp.where(x > 0, x, 1)


def _scale(tree, weights):
    def each(x, w):
        # A sample that is not finite has weight zero, but 0 * inf is nan: leave it out instead.
        w = jnp.broadcast_to(jnp.where(jnp.isfinite(w), w, 0), x.shape)
        return jnp.where(jnp.isfinite(x), x, 0) * w

    return jax.tree.map(each, tree, weights)
