"""Signs that a merge rests on too little, or on a part that should not be trusted."""

import jax
import jax.numpy as jnp
from jax import Array

from outer_train.particles import total

CLIFF_THRESHOLD = 9.0
"""Mean squared standard score above which RP and the other part cannot both be right (three standard errors)."""


def effective_samples(samples: dict, weights: dict, axis_name: str | None) -> Array:
    """Kish's effective number of pairs, `(sum a)^2 / sum a^2`, with a the squared norm of a pair's merged gradient.

    The number of pairs where all are of one size; near 1 where a single pair makes the whole estimate.
    """
    merged = jax.tree.map(lambda *terms: sum(terms), *(_scale(samples[name], weights[name]) for name in samples))
    size = sum(jnp.sum(jnp.square(x), axis=tuple(range(1, x.ndim))) for x in jax.tree.leaves(merged))
    size = jnp.where(jnp.isfinite(size), size, 0)
    size = size / jnp.maximum(total(jnp.sum(size), axis_name), jnp.finfo(size.dtype).tiny)  # sums to one
    return 1 / jnp.maximum(total(jnp.sum(jnp.square(size)), axis_name), jnp.finfo(size.dtype).tiny)


def disagreement(found: dict, weights: dict, num_samples: int) -> Array:
    """Mean of `(g_rp - g_other)^2 / (var_rp / n + var_other / n)`, over outer parameters by the weight RP has there.

    About 1 while RP is unbiased. Much larger where RP is flat on both sides of a cliff that the other part sees: its
    variance is then implausibly small, and the merge follows it.
    """
    other = next(name for name in found if name != "reparameterization")
    rp, es, weight = found["reparameterization"], found[other], weights["reparameterization"]

    def score(mean_rp, mean_es, var_rp, var_es, weight):
        variance = jnp.maximum((var_rp + var_es) / num_samples, jnp.finfo(var_es.dtype).tiny)
        squared = jnp.square(mean_rp - mean_es) / variance
        return jnp.sum(jnp.where(jnp.isfinite(squared), weight * squared, 0)), jnp.sum(weight)

    columns = (jax.tree.leaves(tree) for tree in (rp.mean, es.mean, rp.variance, es.variance, weight))
    scores, shares = zip(*(score(*row) for row in zip(*columns, strict=True)), strict=True)
    return sum(scores) / jnp.maximum(sum(shares), jnp.finfo(jnp.float32).tiny)


def diagnose(samples: dict, found: dict, weights: dict, axis_name: str | None, num_samples: int) -> dict[str, Array]:
    """`effective_samples`, and where RP takes part `disagreement` and `cliff_warning` (0 or 1)."""
    result = {"effective_samples": effective_samples(samples, weights, axis_name)}
    if "reparameterization" in found:
        result["disagreement"] = disagreement(found, weights, num_samples)
        result["cliff_warning"] = (result["disagreement"] > CLIFF_THRESHOLD).astype(jnp.float32)
    return result


def _scale(tree, weights):
    # A sample that is not finite has weight zero, but 0 * inf is nan: leave it out instead.
    return jax.tree.map(lambda x, w: jnp.where(jnp.isfinite(x), x, 0) * w, tree, weights)
