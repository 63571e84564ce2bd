"""Inverse-variance merge of estimators over one shared unroll
(Metz et al. 2019, arXiv 1810.10180, equation 1).
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp

from outer_train.checks import check_count
from outer_train.estimators._evolution_strategies import PAIR_MAP as EVOLUTION_STRATEGIES
from outer_train.estimators._persistent_es import pair_map as persistent
from outer_train.estimators._reparameterization import PAIR_MAP as REPARAMETERIZATION
from outer_train.estimators.base import GradientEstimator
from outer_train.particles._antithetic import PairSettings, antithetic
from outer_train.particles._moments import Moments, moments, second_pass
from outer_train.particles.diagnosis import diagnose
from outer_train.problem import UnrolledSystem

WEIGHTINGS = ("elementwise", "global")


def inverse_variance_weights(variances: Sequence, weighting: str = "elementwise") -> list:
    """Weights of equation (1), `sigma_i^-2 / sum_j sigma_j^-2`:
    one tree shaped as theta for each part.

    As a softmax of `-log sigma^2` they take variances twenty orders of magnitude apart, zeros and
    infinities: an infinite variance, or an unknown one (nan), weighs nothing beside a finite one.
    Where all are infinite or unknown, and where all are equal, they weigh the same.
    """
    if weighting == "global":
        variances = [jax.tree.map(partial(jnp.full_like, fill_value=_sum(v)), v) for v in variances]
    shares = jax.tree.map(
        lambda *v: jax.nn.softmax(_log_precision(jnp.stack(v)), axis=0), *variances
    )
    return [
        jax.tree.map(lambda share, part=part: share[part], shares) for part in range(len(variances))
    ]


def weighted_mean(weights: Sequence, means: Sequence):
    """Equation (1): `g = sum_i w_i g_i`, elementwise."""
    products = [jax.tree.map(jnp.multiply, w, mean) for w, mean in zip(weights, means, strict=True)]
    return jax.tree.map(lambda *terms: sum(terms), *products)


def merged(
    problem: UnrolledSystem,
    num_pairs: int,
    std: float = 0.01,
    axis_name: str | None = None,
    *,
    parts: Sequence[str] = ("reparameterization", "evolution_strategies"),
    weighting: str = "elementwise",
    cross_fit: bool = False,
    max_num_steps: int | None = None,
    chunk_size: int = 50,
    stagger: bool = False,
) -> GradientEstimator:
    """Inverse-variance merge of two or more estimators that share particles, noise and unroll.

    The moments are those of all devices, so the merge is global. The parts share data noise: the
    variance of the merge may exceed the smaller part's by at most (1 + sqrt 2)^2 / 4 = 1.46.
    Weights from the very samples they weigh make it slightly biased, as the paper admits;
    `cross_fit` removes that. What bias a part has stays: a reparameterization part cuts gradients
    at the truncation, so merged with PES or NRES the short-horizon bias remains in the share it
    holds, and on cliffs it is wrong with a small variance (`Info.diagnosis["cliff_warning"]`).

    A part with a sample that is not finite weighs nothing beside one without. Where every part lost
    samples, they are weighed by the samples that are left; a part with one sample left, whose
    variance is unknown, weighs nothing beside one with more, and a part with none nothing at all.

    Unlike the paper's code no 1e-8 is added to variances: it would make the weights depend on the
    unit of the loss.

    Args:
      problem: the unrolled system.
      num_pairs: antithetic pairs over all devices; at least 2, with `cross_fit` an even number from
        4 on.
      std: standard deviation of the smoothing.
      axis_name: mesh axis the pairs are spread over, inside `jax.shard_map`.
      parts: two or more of reparameterization, evolution_strategies, persistent_es, noise_reuse_es.
        With one of the last two both sides of a pair live on, and they draw noise differently, so
        not both.
      weighting: `"elementwise"`, a weight for each outer parameter, or `"global"`, one from the
        summed variances.
      cross_fit: weigh each half of the pairs by the variances of the other half: unbiased if all
        parts are.
      max_num_steps: longest truncation, the episode by default; sets the memory.
      chunk_size: steps between kept states of the differentiated unroll.
      stagger: spread the pairs' step counters over the episode at the start.

    Raises:
      ValueError: for values out of range, unknown or clashing parts, or an outer loss that is no
        sum of step losses.
    """
    maps = _chosen_maps(parts, problem.num_steps)
    if weighting not in WEIGHTINGS:
        raise ValueError(f"weighting must be one of {', '.join(WEIGHTINGS)}, got {weighting!r}")
    check_count(num_pairs=num_pairs)
    if num_pairs < 2 or (cross_fit and (num_pairs < 4 or num_pairs % 2)):
        need = (
            "an even number from 4 on with cross_fit"
            if cross_fit
            else "at least 2, to have a variance"
        )
        raise ValueError(f"num_pairs must be {need}, got {num_pairs}")
    settings = PairSettings(num_pairs, std, axis_name, max_num_steps, stagger, chunk_size)
    return antithetic("merged", problem, settings, maps, partial(_merge, weighting, cross_fit))


def part_moments(
    problem: UnrolledSystem,
    num_pairs: int,
    std: float = 0.01,
    axis_name: str | None = None,
    *,
    parts: Sequence[str] = ("reparameterization", "evolution_strategies"),
    max_num_steps: int | None = None,
    chunk_size: int = 50,
    stagger: bool = False,
) -> GradientEstimator:
    """What `merged` weighs, unweighed: `Estimate.grad` is part -> `Moments`,
    for a merge over more samples than these.

    Arguments and errors as for `merged`.
    """
    check_count(num_pairs=num_pairs)
    if num_pairs < 2:
        raise ValueError(f"num_pairs must be at least 2, to have a variance, got {num_pairs}")
    settings = PairSettings(num_pairs, std, axis_name, max_num_steps, stagger, chunk_size)
    return antithetic(
        "merged", problem, settings, _chosen_maps(parts, problem.num_steps), _unweighed
    )


def _unweighed(samples, first, axis_name, indices):
    del indices
    found = _by_part(second_pass(samples, first, axis_name))
    return found, {name: part.variance for name, part in found.items()}, {}, {}


def _merge(weighting, cross_fit, samples, first, axis_name, indices):
    found = _by_part(second_pass(samples, first, axis_name))
    if not cross_fit:
        grad, weights = merge_moments(list(found.values()), list(found.values()), weighting)
    else:
        grad, weights = _cross_fitted(weighting, samples, axis_name, indices % 2 == 0)
    weights = dict(zip(found, weights, strict=True))
    diagnosis = diagnose(samples, first, found, weights, axis_name)
    return grad, {name: part.variance for name, part in found.items()}, weights, diagnosis


def merge_moments(parts: Sequence[Moments], weighed_by: Sequence[Moments], weighting: str):
    """Equation (1): `(mean, weights)`, of the parts' means by the variances in `weighed_by`.

    Elementwise, or with global weights over all of theta, only the parts of the best `_rank` count.
    Where no part has a sample the mean is zero and the weights are unknown, nan.
    """
    ranks = [
        jax.tree.map(_rank, by.num_bad, by.count, of.num_bad, of.count)
        for of, by in zip(parts, weighed_by, strict=True)
    ]
    variances = [by.relative for by in weighed_by]
    if weighting == "global":
        ranks = [_rank_of_all(rank) for rank in ranks]
        variances = [jax.tree.map(partial(jnp.full_like, fill_value=_sum(v)), v) for v in variances]
    best = jax.tree.map(lambda *each: jnp.min(jnp.stack(each), axis=0), *ranks)

    def usable(variance, rank, best):
        alike = jnp.where(best < UNKNOWN, variance, jnp.ones_like(variance))
        return jnp.where(rank == best, alike, jnp.inf)

    usables = [
        jax.tree.map(usable, variance, rank, best)
        for variance, rank in zip(variances, ranks, strict=True)
    ]
    weights = inverse_variance_weights(usables)
    mean = weighted_mean(weights, [part.mean for part in parts])
    nothing = lambda w, *of: jnp.where(sum(part for part in of) < 1, jnp.nan, w)
    return mean, [jax.tree.map(nothing, w, *(part.count for part in parts)) for w in weights]


CLEAN, SPOILT, UNKNOWN, EMPTY = range(4)


def _rank(variance_bad, variance_count, mean_bad, mean_count):
    """How far an element of a part can be trusted: `CLEAN`;
    `SPOILT`, with samples lost; of `UNKNOWN` variance.
    """
    rank = jnp.where(variance_bad + mean_bad > 0, SPOILT, CLEAN)
    rank = jnp.where(variance_count < 2, UNKNOWN, rank)
    return jnp.where(mean_count < 1, EMPTY, rank)


def _rank_of_all(ranks):
    """A part's worst rank, everywhere but where it is empty:
    it needs the variance of all of theta, and has none.
    """
    worst = jnp.max(
        jnp.stack([jnp.max(jnp.minimum(x, UNKNOWN), initial=CLEAN) for x in jax.tree.leaves(ranks)])
    )
    return jax.tree.map(lambda rank: jnp.where(rank == EMPTY, EMPTY, worst), ranks)


def _cross_fitted(weighting, samples, axis_name, first_half):
    """Each half's means under the other half's weights,
    averaged over the halves that have samples.
    """
    halves = [
        list(_by_part(moments(samples, axis_name, chosen=half)).values())
        for half in (first_half, ~first_half)
    ]
    merges = [merge_moments(own, other, weighting) for own, other in (halves, halves[::-1])]
    has_any = [
        jax.tree.map(lambda *of: sum(of) > 0, *(part.count for part in own)) for own in halves
    ]

    def average(a, b, has_a, has_b):
        return jnp.where(has_a & has_b, a / 2 + b / 2, jnp.where(has_b, b, a))

    (grad, weights), (other_grad, other_weights) = merges
    over_halves = lambda a, b: jax.tree.map(average, a, b, *has_any)
    return over_halves(grad, other_grad), [
        over_halves(*pair) for pair in zip(weights, other_weights, strict=True)
    ]


def _by_part(joint: Moments) -> dict[str, Moments]:
    return {name: Moments(*(column[name] for column in joint)) for name in joint.mean}


def _chosen_maps(parts, episode):
    known = {
        "reparameterization": REPARAMETERIZATION,
        "evolution_strategies": EVOLUTION_STRATEGIES,
        "persistent_es": persistent(1),
        "noise_reuse_es": persistent(episode),
    }
    if len(parts) < 2 or len(set(parts)) < len(parts) or not set(parts) <= set(known):
        raise ValueError(
            f"parts must be two or more different ones of {', '.join(known)}, got {tuple(parts)}"
        )
    if {"persistent_es", "noise_reuse_es"} <= set(parts):
        raise ValueError(
            "parts cannot hold both persistent_es and noise_reuse_es: they draw noise at different "
            "times"
        )
    return {name: known[name] for name in parts}


def _sum(tree):
    return sum(jnp.sum(x) for x in jax.tree.leaves(tree))


def _log_precision(variances):
    limits = jnp.finfo(variances.dtype)
    known = variances < jnp.inf  # neither infinite nor nan
    log = -jnp.log(jnp.clip(jnp.where(known, variances, 1), limits.tiny, limits.max))
    return jnp.where(known, log, jnp.where(jnp.any(known, axis=0), -jnp.inf, 0))
