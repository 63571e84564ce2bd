"""Antithetic evolution strategies over whole episodes: no truncation, so no short-horizon bias."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from outer_train._unroll import Sum, add, no_sum
from outer_train.checks import check_count, check_std, check_theta
from outer_train.estimators._evolution_strategies import finite_difference
from outer_train.estimators.base import Estimate, GradientEstimator, Info
from outer_train.particles._moments import first_pass, mean_variance, num_unknown
from outer_train.particles.checks import check_system
from outer_train.particles.collectives import vary
from outer_train.particles.counts import count
from outer_train.particles.episodes import start_episodes
from outer_train.particles.indices import global_indices, particle_keys
from outer_train.particles.pairs import Outcome, normal_like, perturbed
from outer_train.problem import UnrolledSystem, problem_data
from outer_train.trees import all_finite, widen

OBJECTIVES = ("mean", "last", "min", "log_mean")


class FullESState(NamedTuple):
    """Episodes run so far, int32 `[pairs]`; nothing else outlives an episode."""

    episodes: Array


class _Episode(NamedTuple):
    """Running sum, last and smallest of the step losses."""

    sum: Sum
    last: Array
    min: Array


def full_es(
    problem: UnrolledSystem,
    num_pairs: int,
    std: float = 0.01,
    axis_name: str | None = None,
    *,
    objective: str | None = None,
) -> GradientEstimator:
    """Evolution strategies on episodes from start to end, whatever `num_steps` of `estimate` says.

    Unbiased for the gradient of the smoothed objective, sum of step losses or not; an estimate
    costs whole episodes.

    Args:
      problem: the unrolled system.
      num_pairs: antithetic pairs over all devices.
      std: standard deviation of the smoothing.
      axis_name: mesh axis the pairs are spread over, inside `jax.shard_map`.
      objective: of an episode's step losses: `"mean"`, `"last"`, `"min"` or `"log_mean"`. By
        default `"log_mean"` for a problem with that reduction, else `"mean"`, which is what sum
        reductions are built for.

    Raises:
      ValueError: for values out of range or an unknown objective.
    """
    check_count(num_pairs=num_pairs)
    check_std(std)
    problem = check_system(problem, "full_es", needs_sum=False)
    objective = objective or ("log_mean" if problem.reduction == "log_mean" else "mean")
    if objective not in OBJECTIVES:
        raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, got {objective!r}")

    def init(theta, key):
        del key
        check_theta(theta)
        return FullESState(jnp.zeros_like(global_indices(num_pairs, axis_name)))

    def estimate(theta, state, key, num_steps, data=()):
        del num_steps
        key_noise, key_start, key_unroll = jax.random.split(key, 3)
        indices = global_indices(num_pairs, axis_name)
        theta = vary(widen(theta), axis_name)
        draw = jax.vmap(lambda key: normal_like(key, theta, std))
        noise = draw(particle_keys(key_noise, indices))
        sides = perturbed(theta, noise)
        inner = start_episodes(problem, theta, key_start, indices, axis_name)
        inner = jax.tree.map(lambda x: jnp.stack([x, x], axis=1), inner)
        keys = particle_keys(key_unroll, indices)
        episode = _run_episodes(problem, sides, inner, keys, problem_data(problem, data))
        loss = _reduce(episode, problem, objective)
        samples = finite_difference(Outcome(loss, None, noise, noise, std), noise)
        num_live, resets = jnp.full_like(indices, problem.num_steps), jnp.ones_like(indices)
        limits = {"num_particles": num_pairs, "max_num_steps": 2 * problem.num_steps}
        good = all_finite((samples, loss), indices)
        counted = count(loss[:, 0] / 2 + loss[:, 1] / 2, good, num_live, resets, **limits)
        first, counted = first_pass(samples, axis_name, beside=counted)
        info = Info(
            **counted.reported(sides=2),
            num_steps=jnp.int32(problem.num_steps),
            variance={"full_es": mean_variance(samples, first, axis_name)},
            weight={},
            diagnosis={},
            num_unknown=num_unknown([first.count]),
        )
        return Estimate(first.mean, counted.mean_loss, info), FullESState(state.episodes + 1)

    return GradientEstimator(init, estimate)


def _run_episodes(problem, sides, inner, keys, data) -> _Episode:
    over_sides = jax.vmap(problem.step, in_axes=(0, 0, None, None))
    over_pairs = jax.vmap(over_sides, in_axes=(0, 0, 0, None))

    def body(i, carry):
        inner, episode = carry
        inner, loss = over_pairs(
            sides, inner, jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, i), data
        )
        return inner, _Episode(add(episode.sum, loss), loss, jnp.minimum(episode.min, loss))

    dtype = jax.eval_shape(over_pairs, sides, inner, keys, data)[1].dtype
    some = next(leaf for leaf in jax.tree.leaves(sides) if leaf.size)
    zero = jnp.zeros_like(some.reshape(len(keys), 2, -1)[..., 0], dtype)
    start = _Episode(no_sum(zero), zero, jnp.full_like(zero, jnp.inf))
    return lax.fori_loop(0, problem.num_steps, body, (inner, start))[1]


def _reduce(episode, problem, objective):
    mean = episode.sum.total / problem.num_steps
    return {"mean": mean, "last": episode.last, "min": episode.min, "log_mean": jnp.log(mean)}[
        objective
    ]
