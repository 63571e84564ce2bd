"""Antithetic pairs on one device: their state, the noise they draw, and the unroll of both sides.

A pair runs the inner problem at theta + eps and theta - eps on the same data; eps = std * n, n
normal.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from outer_train._unroll import changing_leaves, unroll
from outer_train.particles.episodes import restarted, staggered_steps, start_episodes
from outer_train.problem import UnrolledSystem, problem_data
from outer_train.trees import Tree, select
from tasks.numerics import threefry

NOT_DRAWN = -1
"""Age of the noise of a pair that has none yet."""


class Outcome(NamedTuple):
    """One truncation of this device's pairs.

    Attributes:
      loss: `[pairs, 2]`, positive side first: step losses summed over live steps, over the
        truncation's length.
      grad: theta's leaves with `[pairs, 2, ...]` in front: of `loss` at each side's own theta; None
        if not asked for.
      noise: `[pairs, ...]`, the eps in use.
      accumulated: `[pairs, ...]`, the sum of the distinct eps this episode has seen, this one
        included.
      std: of eps.
    """

    loss: Array
    grad: Tree | None
    noise: Tree
    accumulated: Tree
    std: float


class PairState(NamedTuple):
    """Every leaf leads with the pairs.

    Attributes:
      inner: inner states, `[pairs, sides, ...]`, one side (the positive one) or both.
      step: int32 `[pairs]`, steps into the episode.
      noise: the eps in use; `()` unless it outlives a truncation.
      accumulated: sum of the episode's distinct eps; `()` likewise.
      noise_age: int32 `[pairs]`, steps since eps was drawn, `NOT_DRAWN` at an episode's start.
    """

    inner: Tree
    step: Array
    noise: Tree
    accumulated: Tree
    noise_age: Array


class Pairs(NamedTuple):
    """The pairs of one device: drawing noise, unrolling both sides at once, ending a truncation.

    Attributes:
      problem: the unrolled system.
      std: of eps.
      max_num_steps: longest truncation.
      chunk_size: steps between kept states of the differentiated unroll.
      noise_reuse: see `outer_train.particles._antithetic.PairMap`.
      needs_gradient: whether the unroll is differentiated.
      axis_name: mesh axis over which pairs are spread, or None.
    """

    problem: UnrolledSystem
    std: float
    max_num_steps: int
    chunk_size: int
    noise_reuse: int | None
    needs_gradient: bool
    axis_name: str | None

    def init(self, theta, key, indices, num_pairs, stagger):
        """Pairs at the start of an episode, or at staggered steps of theirs,
        with no noise drawn.
        """
        key_state, key_stagger = jax.random.split(key)
        inner = self._both_sides(
            start_episodes(self.problem, theta, key_state, indices, self.axis_name)
        )
        step = jnp.zeros_like(indices)
        if stagger:
            step = staggered_steps(self.problem.num_steps, num_pairs, key_stagger, indices)
        return PairState(
            inner, step, *self._no_noise(theta, indices), jnp.full_like(indices, NOT_DRAWN)
        )

    def draw_noise(self, theta, state, keys):
        """Fresh eps for the pairs whose draw has served its time; the others keep theirs."""
        fresh = jax.vmap(lambda key: normal_like(key, theta, self.std))(keys)
        if self.noise_reuse is None:
            return state._replace(noise=fresh, accumulated=fresh)
        redraw = (state.noise_age < 0) | (
            state.noise_age >= min(self.noise_reuse, self.problem.num_steps)
        )
        noise = select(redraw, fresh, state.noise)
        accumulated = select(
            redraw, jax.tree.map(jnp.add, state.accumulated, fresh), state.accumulated
        )
        return state._replace(
            noise=noise, accumulated=accumulated, noise_age=jnp.where(redraw, 0, state.noise_age)
        )

    def run(self, theta, state, keys, num_live, num_steps, data):
        """Unrolls both sides of every pair,
        as one map of twice the width that draws a pair's data once.
        """
        problem = self.problem
        sides = perturbed(theta, state.noise)
        inner = state.inner
        if self.noise_reuse is None:
            inner = jax.tree.map(lambda x: jnp.concatenate([x, x], axis=1), inner)
        data = problem_data(problem, data)
        # What no step changes (the task, say) is the same for both sides:
        # a batch that depends on it is drawn once.
        theta, one = jax.tree.map(lambda x: x[0, 0], (sides, inner))
        changing = changing_leaves(problem.step, theta, one, keys[0], data)
        shared = jax.tree.map(lambda x: x[:, 0], inner)

        def one_side(theta, leaves, shared, key, data):
            state, loss = problem.step(theta, changing.replace(shared, leaves), key, data)
            return changing.select(state), loss

        over_sides = jax.vmap(one_side, in_axes=(0, 0, None, None, None))
        over_pairs = jax.vmap(over_sides, in_axes=(0, 0, 0, 0, None))

        def step(sides, leaves, i, constants):
            keys, _, data, shared = constants
            keys = jax.vmap(threefry.fold_in, in_axes=(0, None))(keys, i)
            return over_pairs(sides, leaves, shared, keys, data)

        run = unroll(
            step, self.max_num_steps, self.chunk_size, live=lambda i, constants: i < constants[1]
        )
        # No further: what lies past every episode's end is masked anyway.
        longest = jnp.max(num_live)
        constants = (keys, num_live, data, shared)
        leaves = changing.select(inner)
        if self.needs_gradient:
            losses = lambda sides: _loss_and_state(run(sides, leaves, longest, constants))
            loss, pull_back, leaves = jax.vjp(losses, sides, has_aux=True)
            (grad,) = pull_back(jnp.ones_like(loss))
            grad = jax.tree.map(lambda g: g / num_steps.astype(g.dtype), grad)
        else:
            loss, leaves = _loss_and_state(run(sides, leaves, longest, constants))
            grad = None
        inner = changing.replace(inner, leaves)
        if self.noise_reuse is None:
            inner = jax.tree.map(lambda x: x[:, :1], inner)
        loss = loss / num_steps.astype(loss.dtype)
        return Outcome(loss, grad, state.noise, state.accumulated, self.std), state._replace(
            inner=inner
        )

    def end_truncation(self, theta, state, key, indices, num_live):
        """Counts the steps; pairs at their episode's end, or lost, start a new one."""
        state = state._replace(step=state.step + num_live, noise_age=state.noise_age + num_live)
        noise, accumulated = self._no_noise(theta, indices)
        if self.noise_reuse is None:
            state = state._replace(noise=noise, accumulated=accumulated)

        def start():
            inner = self._both_sides(
                start_episodes(self.problem, theta, key, indices, self.axis_name)
            )
            age = jnp.full_like(indices, NOT_DRAWN)
            return PairState(inner, jnp.zeros_like(indices), noise, accumulated, age)

        at_end = state.step >= self.problem.num_steps
        return restarted(state, start, at_end, lambda state: state.inner, indices)

    def _both_sides(self, inner):
        sides = 1 if self.noise_reuse is None else 2
        return jax.tree.map(
            lambda x: jnp.broadcast_to(x[:, None], (x.shape[0], sides, *x.shape[1:])), inner
        )

    def _no_noise(self, theta, indices):
        if self.noise_reuse is None:
            return (), ()
        zeros = jax.tree.map(
            lambda x: jnp.broadcast_to(jnp.zeros_like(x)[None], (len(indices), *x.shape)), theta
        )
        return zeros, zeros


def _loss_and_state(unrolled):
    return unrolled.loss, unrolled.state


def perturbed(theta: Tree, noise: Tree) -> Tree:
    """`[pairs, 2, ...]`, theta plus and minus each pair's noise."""
    return jax.tree.map(lambda t, n: jnp.stack([t[None] + n, t[None] - n], axis=1), theta, noise)


def normal_like(key: Array, theta: Tree, std: float) -> Tree:
    """Normal draws with the given standard deviation, shaped as theta."""
    leaves, structure = jax.tree.flatten(theta)
    keys = jax.random.split(key, len(leaves))
    draws = [
        std * jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)
    ]
    return structure.unflatten(draws)
