"""Estimators over antithetic pairs:
the one unroll that ES, RP, PES, NRES and every merge of them share.

What a truncation of the pairs yields is an `Outcome`; an estimator is a map from an Outcome to one
gradient a pair, and a way to average those.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from outer_train.checks import check_count, check_std, check_theta
from outer_train.estimators.base import Estimate, GradientEstimator, Info
from outer_train.particles._moments import FirstPass, mean_variance, num_unknown, tree_mean
from outer_train.particles.checks import check_system, checked_length
from outer_train.particles.collectives import vary
from outer_train.particles.counts import count, over_live_steps
from outer_train.particles.indices import global_indices, particle_keys
from outer_train.particles.pairs import Outcome, Pairs
from outer_train.problem import UnrolledSystem
from outer_train.trees import Tree, all_finite, widen


class PairMap(NamedTuple):
    """How an Outcome becomes one gradient a pair.

    Attributes:
      gradient: `Outcome -> ` theta's leaves with `[pairs, ...]` in front.
      needs_gradient: whether the unroll has to be differentiated.
      noise_reuse: None if both sides start each truncation from the positive side's state; else the
        number of inner steps that one draw of eps serves, 1 for a fresh draw each truncation, and
        both sides live on.
    """

    gradient: Callable[[Outcome], Tree]
    needs_gradient: bool = False
    noise_reuse: int | None = None


Combine = Callable[
    [Mapping[str, Tree], FirstPass, str | None, Array], tuple[Tree, dict, dict, dict]
]
"""`(name -> samples, their first pass, axis_name, global pair indices) ->
(grad, variances, weights, diagnosis)`."""


class PairSettings(NamedTuple):
    """What users give every estimator over pairs.

    Attributes:
      num_pairs: over all devices.
      std: of the perturbation of theta.
      axis_name: mesh axis over which pairs are spread, or None.
      max_num_steps: longest truncation, None for the episode.
      stagger: start with step counters spread over the episode.
      chunk_size: steps between kept states of the differentiated unroll; of no use where it is not
        differentiated.
    """

    num_pairs: int
    std: float
    axis_name: str | None
    max_num_steps: int | None
    stagger: bool
    chunk_size: int = 1


def sample_mean(samples, first, axis_name, indices):
    """Combines a single part: the mean over pairs, samples that are not finite left out."""
    del indices
    (name,) = samples
    return first.mean[name], {name: mean_variance(samples, first, axis_name)}, {}, {}


def antithetic(
    name: str,
    problem: UnrolledSystem,
    settings: PairSettings,
    parts: Mapping[str, PairMap],
    combine: Combine = sample_mean,
) -> GradientEstimator:
    """Builds an estimator from per-pair gradient maps and a rule that combines their samples.

    Args:
      name: of the estimator, for messages.
      problem: the unrolled system.
      settings: of the estimator.
      parts: name -> per-pair map.
      combine: the rule; the default is for a single part.

    Raises:
      ValueError: for values out of range, or an outer loss that is no sum of step losses.
    """
    num_pairs, std, axis_name, max_num_steps, stagger, chunk_size = settings
    check_count(num_pairs=num_pairs, max_num_steps=max_num_steps, chunk_size=chunk_size)
    check_std(std)
    problem = check_system(problem, name)
    max_num_steps = max_num_steps or problem.num_steps
    reuses = [part.noise_reuse for part in parts.values() if part.noise_reuse is not None]
    reuse = reuses[0] if reuses else None
    needs_gradient = any(part.needs_gradient for part in parts.values())
    engine = Pairs(problem, std, max_num_steps, chunk_size, reuse, needs_gradient, axis_name)

    def init(theta, key):
        check_theta(theta)
        indices = global_indices(num_pairs, axis_name)
        return engine.init(vary(widen(theta), axis_name), key, indices, num_pairs, stagger)

    def estimate(theta, state, key, num_steps, data=()):
        num_steps = checked_length(num_steps, max_num_steps)
        key_noise, key_unroll, key_reset = jax.random.split(key, 3)
        indices = global_indices(num_pairs, axis_name)
        theta = vary(widen(theta), axis_name)
        state = engine.draw_noise(theta, state, particle_keys(key_noise, indices))
        num_live = jnp.minimum(num_steps, problem.num_steps - state.step)
        keys = particle_keys(key_unroll, indices)
        outcome, state = engine.run(theta, state, keys, num_live, num_steps, data)
        samples = {part: pair_map.gradient(outcome) for part, pair_map in parts.items()}
        good = all_finite((samples, outcome.loss), indices)
        state, restarted = engine.end_truncation(theta, state, key_reset, indices, num_live)
        loss = outcome.loss[:, 0] / 2 + outcome.loss[:, 1] / 2
        limits = {"num_particles": num_pairs, "max_num_steps": 2 * max_num_steps}
        counted = count(loss, good, num_live, restarted, **limits)
        samples, first, counted = over_live_steps(samples, counted, num_steps, num_pairs, axis_name)
        grad, variances, weights, diagnosis = combine(samples, first, axis_name, indices)
        info = Info(
            **counted.reported(sides=2),
            num_steps=num_steps,
            variance={part: tree_mean(variance) for part, variance in variances.items()},
            weight={part: tree_mean(weight) for part, weight in weights.items()},
            diagnosis=diagnosis,
            num_unknown=num_unknown(list(first.count.values())),
        )
        return Estimate(grad, counted.mean_loss, info), state

    return GradientEstimator(init, estimate)
