"""Single particles at unperturbed theta: what backpropagation and forward mode share."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from outer_train.checks import check_count, check_theta
from outer_train.estimators.base import Estimate, GradientEstimator, Info
from outer_train.particles._moments import mean_variance, num_unknown
from outer_train.particles.checks import checked_length
from outer_train.particles.collectives import vary
from outer_train.particles.counts import count, over_live_steps
from outer_train.particles.episodes import restarted, staggered_steps, start_episodes
from outer_train.particles.indices import global_indices, particle_keys
from outer_train.problem import UnrolledSystem
from outer_train.trees import Tree, all_finite, widen


class ParticleState(NamedTuple):
    """Every leaf leads with the particles.

    Attributes:
      inner: inner states.
      step: int32 `[particles]`, steps into the episode.
      tangents: what else an estimator carries with the inner state; zero at an episode's start.
    """

    inner: Tree
    step: Array
    tangents: Tree


class Run(NamedTuple):
    """One truncation: losses `[particles]` and their gradients `[particles, ...]`,
    both summed over live steps.
    """

    loss: Array
    grad: Tree
    inner: Tree
    tangents: Tree


def unpaired(
    name: str,
    problem: UnrolledSystem,
    num_particles: int,
    axis_name: str | None,
    start_tangents: Callable[[Tree, Tree, Array], Tree],
    run: Callable[[Tree, ParticleState, Array, Array, Any], Run],
    *,
    max_num_steps: int,
    stagger: bool,
) -> GradientEstimator:
    """Builds an estimator that averages one gradient a particle.

    Args:
      name: of the estimator.
      problem: the unrolled system, as `check_system` returns it.
      num_particles: over all devices.
      axis_name: mesh axis over which particles are spread, or None.
      start_tangents: `(theta, inner, keys [particles]) -> tangents` at an episode's start.
      run: `(theta, state, keys [particles], num_live int32 [particles], data) -> Run`.
      max_num_steps: longest truncation.
      stagger: start with step counters spread over the episode.

    Raises:
      ValueError: for values out of range.
    """
    check_count(num_particles=num_particles)

    start = partial(_start, problem, start_tangents, axis_name)

    def init(theta, key):
        check_theta(theta)
        key_state, key_stagger = jax.random.split(key)
        indices = global_indices(num_particles, axis_name)
        step = jnp.zeros_like(indices)
        if stagger:
            step = staggered_steps(problem.num_steps, num_particles, key_stagger, indices)
        return start(vary(widen(theta), axis_name), key_state, indices, step)

    def estimate(theta, state, key, num_steps, data=()):
        num_steps = checked_length(num_steps, max_num_steps)
        key_unroll, key_reset = jax.random.split(key)
        indices = global_indices(num_particles, axis_name)
        theta = vary(widen(theta), axis_name)
        num_live = jnp.minimum(num_steps, problem.num_steps - state.step)
        ran = run(theta, state, particle_keys(key_unroll, indices), num_live, data)
        samples, loss = jax.tree.map(lambda x: x / num_steps.astype(x.dtype), (ran.grad, ran.loss))
        state = ParticleState(ran.inner, state.step + num_live, ran.tangents)
        fresh = partial(start, theta, key_reset, indices, jnp.zeros_like(indices))
        at_end, carried = state.step >= problem.num_steps, lambda s: (s.inner, s.tangents)
        state, done = restarted(state, fresh, at_end, carried, indices)
        limits = {"num_particles": num_particles, "max_num_steps": max_num_steps}
        counted = count(loss, all_finite((samples, loss), indices), num_live, done, **limits)
        samples, first, counted = over_live_steps(
            samples, counted, num_steps, num_particles, axis_name
        )
        info = Info(
            **counted.reported(),
            num_steps=num_steps,
            variance={name: mean_variance(samples, first, axis_name)},
            weight={},
            diagnosis={},
            num_unknown=num_unknown([first.count]),
        )
        return Estimate(first.mean, counted.mean_loss, info), state

    return GradientEstimator(init, estimate)


def _start(problem, start_tangents, axis_name, theta, key, indices, step):
    """Particles at the start of an episode, `step` steps into which they count as being."""
    key_state, key_tangents = jax.random.split(key)
    inner = start_episodes(problem, theta, key_state, indices, axis_name)
    tangents = start_tangents(theta, inner, particle_keys(key_tangents, indices))
    return ParticleState(inner, step, tangents)
