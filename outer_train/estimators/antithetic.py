"""Antithetic pairs: the one unroll that ES, RP, PES, NRES and every merge of them share.

A pair runs the inner problem at theta + eps and theta - eps on the same data; eps = std * n, n normal. What it yields
is an `Outcome`; an estimator is a map from an Outcome to one gradient a pair, and a way to average those.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from outer_train.estimators.base import Estimate, GradientEstimator, Info
from outer_train.moments import finite_mean, tree_mean
from outer_train.particles import (
    all_finite,
    check_positive,
    check_sum_reduction,
    checked_length,
    global_indices,
    particle_keys,
    problem_data,
    select,
    staggered_steps,
    start_episodes,
    total,
    vary,
    widen,
)
from outer_train.problem import InnerProblem
from outer_train.unroll import changing_leaves, unroll
from tasks import threefry

Tree = Any


class Outcome(NamedTuple):
    """One truncation of this device's pairs.

    Attributes:
      loss: `[pairs, 2]`, positive side first: step losses summed over live steps, over the mean number of live steps.
      grad: theta's leaves with `[pairs, 2, ...]` in front: of `loss` at each side's own theta; None if not asked for.
      noise: `[pairs, ...]`, the eps in use.
      accumulated: `[pairs, ...]`, the sum of the distinct eps this episode has seen, this one included.
      std: of eps.
    """

    loss: Array
    grad: Tree | None
    noise: Tree
    accumulated: Tree
    std: float


class PairMap(NamedTuple):
    """How an Outcome becomes one gradient a pair.

    Attributes:
      gradient: `Outcome -> ` theta's leaves with `[pairs, ...]` in front.
      needs_gradient: whether the unroll has to be differentiated.
      noise_reuse: None if both sides start each truncation from the positive side's state; else the number of inner
        steps that one draw of eps serves, 1 for a fresh draw each truncation, and both sides live on.
    """

    gradient: Callable[[Outcome], Tree]
    needs_gradient: bool = False
    noise_reuse: int | None = None


class PairState(NamedTuple):
    """Every leaf leads with the pairs.

    Attributes:
      inner: inner states, `[pairs, sides, ...]`, one side (the positive one) or both.
      step: int32 `[pairs]`, steps into the episode.
      noise: the eps in use; `()` unless it outlives a truncation.
      accumulated: sum of the episode's distinct eps; `()` likewise.
      noise_age: int32 `[pairs]`, steps since eps was drawn.
    """

    inner: Tree
    step: Array
    noise: Tree
    accumulated: Tree
    noise_age: Array


Combine = Callable[[Mapping[str, Tree], str | None, Array], tuple[Tree, dict, dict, dict]]


def antithetic(
    name: str,
    problem: InnerProblem,
    num_pairs: int,
    std: float,
    axis_name: str | None,
    parts: Mapping[str, PairMap],
    combine: Combine,
    *,
    max_num_steps: int | None,
    chunk_size: int,
    stagger: bool,
) -> GradientEstimator:
    """Builds an estimator from per-pair gradient maps and a rule that combines their samples.

    Args:
      name: of the estimator, for messages.
      problem: the unrolled system.
      num_pairs: over all devices.
      std: of the perturbation of theta.
      axis_name: mesh axis over which pairs are spread, or None.
      parts: name -> per-pair map.
      combine: `(name -> samples, axis_name, global pair indices) -> (grad, variances, weights, diagnosis)`.
      max_num_steps: longest truncation, the episode by default.
      chunk_size: steps between kept states of the differentiated unroll.
      stagger: start with step counters spread over the episode.

    Raises:
      ValueError: for values out of range, or an outer loss that is no sum of step losses.
    """
    check_positive(num_pairs=num_pairs, std=std, max_num_steps=max_num_steps, chunk_size=chunk_size)
    check_sum_reduction(problem, name)
    max_num_steps = max_num_steps or problem.num_steps
    reuse = next((part.noise_reuse for part in parts.values() if part.noise_reuse is not None), None)
    needs_gradient = any(part.needs_gradient for part in parts.values())
    engine = _Pairs(problem, std, max_num_steps, chunk_size, reuse, needs_gradient, axis_name)

    def init(theta, key):
        indices = global_indices(num_pairs, axis_name)
        return engine.init(vary(widen(theta), axis_name), key, indices, num_pairs, stagger)

    def estimate(theta, state, key, num_steps, data=()):
        num_steps = checked_length(num_steps, max_num_steps)
        key_noise, key_unroll, key_reset = jax.random.split(key, 3)
        indices = global_indices(num_pairs, axis_name)
        theta = vary(widen(theta), axis_name)
        state = engine.draw_noise(theta, state, particle_keys(key_noise, indices))
        num_live = jnp.minimum(num_steps, problem.num_steps - state.step)
        mean_live = total(jnp.sum(num_live), axis_name).astype(jnp.float32) / num_pairs
        outcome, state = engine.run(theta, state, particle_keys(key_unroll, indices), num_live, mean_live, data)
        samples = {part: pair_map.gradient(outcome) for part, pair_map in parts.items()}
        grad, variances, weights, diagnosis = combine(samples, axis_name, indices)
        good = all_finite((samples, outcome.loss))
        state, restarted = engine.end_truncation(theta, state, key_reset, indices, num_live)
        count = lambda x: total(jnp.sum(x), axis_name)  # noqa: E731
        loss = finite_mean(jnp.mean(outcome.loss, axis=1), axis_name)
        info = Info(
            num_non_finite=count(~good),
            num_resets=count(restarted),
            num_live_steps=2 * count(num_live),
            num_steps=num_steps,
            variance={part: tree_mean(variance) for part, variance in variances.items()},
            weight={part: tree_mean(weight) for part, weight in weights.items()},
            diagnosis=diagnosis,
        )
        return Estimate(grad, loss, info), state

    return GradientEstimator(init, estimate)


class _Pairs(NamedTuple):
    """The pairs of one device: drawing noise, unrolling both sides at once, ending a truncation."""

    problem: InnerProblem
    std: float
    max_num_steps: int
    chunk_size: int
    noise_reuse: int | None
    needs_gradient: bool
    axis_name: str | None

    def init(self, theta, key, indices, num_pairs, stagger):
        key_state, key_stagger = jax.random.split(key)
        inner = self._both_sides(start_episodes(self.problem, theta, key_state, indices, self.axis_name))
        step = jnp.zeros_like(indices)
        if stagger:
            step = staggered_steps(self.problem.num_steps, num_pairs, key_stagger, indices)
        return PairState(inner, step, *self._no_noise(theta, indices), jnp.full_like(indices, self.problem.num_steps))

    def draw_noise(self, theta, state, keys):
        """Fresh eps for the pairs whose draw has served its time; the others keep theirs."""
        fresh = jax.vmap(lambda key: normal_like(key, theta, self.std))(keys)
        if self.noise_reuse is None:
            return state._replace(noise=fresh, accumulated=fresh)
        redraw = state.noise_age >= self.noise_reuse
        noise = select(redraw, fresh, state.noise)
        accumulated = select(redraw, jax.tree.map(jnp.add, state.accumulated, fresh), state.accumulated)
        return state._replace(noise=noise, accumulated=accumulated, noise_age=jnp.where(redraw, 0, state.noise_age))

    def run(self, theta, state, keys, num_live, mean_live, data):
        """Unrolls both sides of every pair, as one map of twice the width that draws a pair's data once."""
        problem = self.problem
        sides = jax.tree.map(lambda t, n: jnp.stack([t + n, t - n], axis=1), theta, state.noise)
        inner = state.inner
        if self.noise_reuse is None:
            inner = jax.tree.map(lambda x: jnp.concatenate([x, x], axis=1), inner)
        data = problem_data(problem, data)
        # What no step changes (the task, say) is the same for both sides: a batch that depends on it is drawn once.
        theta, one = jax.tree.map(lambda x: x[0, 0], (sides, inner))
        changing = changing_leaves(problem.step, theta, one, keys[0], data)
        shared = jax.tree.map(lambda x: x[:, 0], inner)

        def one_side(theta, leaves, shared, key, data):
            state, loss = problem.step(theta, changing.replace(shared, leaves), key, data)
            return changing.select(state), loss

        over_sides = jax.vmap(one_side, in_axes=(0, 0, None, None, None))
        over_pairs = jax.vmap(over_sides, in_axes=(0, 0, 0, 0, None))

        @jax.jit  # so that the loops of the unroll trace it once between them
        def step(sides, leaves, i, constants):
            keys, _, data, shared = constants
            keys = jax.vmap(threefry.fold_in, in_axes=(0, None))(keys, i)
            return over_pairs(sides, leaves, shared, keys, data)

        run = unroll(step, self.max_num_steps, self.chunk_size, live=lambda i, constants: i < constants[1])
        longest = jnp.max(num_live)  # no further: what lies past every episode's end is masked anyway
        constants = (keys, num_live, data, shared)
        leaves = changing.select(inner)
        if self.needs_gradient:
            losses = lambda sides: _loss_and_state(run(sides, leaves, longest, constants))  # noqa: E731
            loss, pull_back, leaves = jax.vjp(losses, sides, has_aux=True)
            (grad,) = pull_back(jnp.ones_like(loss))
            grad = jax.tree.map(lambda g: g / mean_live.astype(g.dtype), grad)
        else:
            loss, leaves = _loss_and_state(run(sides, leaves, longest, constants))
            grad = None
        inner = changing.replace(inner, leaves)
        if self.noise_reuse is None:
            inner = jax.tree.map(lambda x: x[:, :1], inner)
        loss = loss / mean_live.astype(loss.dtype)
        return Outcome(loss, grad, state.noise, state.accumulated, self.std), state._replace(inner=inner)

    def end_truncation(self, theta, state, key, indices, num_live):
        """Counts the steps; pairs at their episode's end, or with a state that is not finite, start a new one."""
        state = state._replace(step=state.step + num_live, noise_age=state.noise_age + num_live)
        done = (state.step >= self.problem.num_steps) | ~all_finite(state.inner)
        noise, accumulated = self._no_noise(theta, indices)
        if self.noise_reuse is None:
            state = state._replace(noise=noise, accumulated=accumulated)

        def restart(state):
            inner = self._both_sides(start_episodes(self.problem, theta, key, indices, self.axis_name))
            age = jnp.full_like(indices, self.problem.num_steps)
            return select(done, PairState(inner, jnp.zeros_like(indices), noise, accumulated, age), state)

        # Outside the map over particles, so that it is a branch: truncations without a reset do not pay for one.
        return lax.cond(jnp.any(done), restart, lambda state: state, state), done

    def _both_sides(self, inner):
        sides = 1 if self.noise_reuse is None else 2
        return jax.tree.map(lambda x: jnp.broadcast_to(x[:, None], (x.shape[0], sides, *x.shape[1:])), inner)

    def _no_noise(self, theta, indices):
        if self.noise_reuse is None:
            return (), ()
        zeros = jax.tree.map(lambda x: jnp.broadcast_to(jnp.zeros_like(x)[None], (len(indices), *x.shape)), theta)
        return zeros, zeros


def _loss_and_state(unrolled):
    return unrolled.loss, unrolled.state


def normal_like(key: Array, theta: Tree, std: float) -> Tree:
    """Normal draws with the given standard deviation, shaped as theta."""
    leaves, structure = jax.tree.flatten(theta)
    keys = jax.random.split(key, len(leaves))
    draws = [std * jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)]
    return structure.unflatten(draws)
