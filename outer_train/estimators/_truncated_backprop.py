"""Truncated backpropagation through time at unperturbed theta (Werbos 1990)."""

import math

import jax
import jax.numpy as jnp
from jax import Array

from outer_train._unroll import unroll
from outer_train.checks import check_count, check_positive
from outer_train.estimators.base import GradientEstimator
from outer_train.particles._unpaired import Run, unpaired
from outer_train.particles.checks import check_system
from outer_train.problem import UnrolledSystem, problem_data
from outer_train.trees import Tree, in_units, unit_of


def truncated_backprop(
    problem: UnrolledSystem,
    num_particles: int,
    axis_name: str | None = None,
    *,
    max_num_steps: int | None = None,
    chunk_size: int = 50,
    stagger: bool = False,
    clip_norm: float | None = None,
) -> GradientEstimator:
    """The exact gradient of each truncation's mean loss, its start state held constant.

    No smoothing and no noise of its own; short-horizon bias, and gradients that explode with the
    length where the unrolled system is unstable. Those of a few particles then drown the others',
    and clipping their mean keeps only the direction of the worst: `clip_norm` bounds each of them
    before it is averaged, at the price of a bias.

    Args:
      problem: the unrolled system.
      num_particles: over all devices.
      axis_name: mesh axis the particles are spread over, inside `jax.shard_map`.
      max_num_steps: longest truncation, the episode by default; sets the memory.
      chunk_size: steps between kept states: memory is `max_num_steps / chunk_size + chunk_size`
        states.
      stagger: spread the particles' step counters over the episode at the start.
      clip_norm: longest gradient of one particle, of its mean loss over the steps it is live; None
        lets all pass.

    Raises:
      ValueError: for values out of range, or an outer loss that is no sum of step losses.
    """
    check_count(max_num_steps=max_num_steps, chunk_size=chunk_size)
    check_positive(clip_norm=clip_norm)
    problem = check_system(problem, "truncated_backprop")
    max_num_steps = max_num_steps or problem.num_steps
    over_particles = jax.vmap(problem.step, in_axes=(0, 0, 0, None))

    def step(thetas, inner, i, constants):
        keys, _, data = constants
        return over_particles(
            thetas, inner, jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, i), data
        )

    unrolled = unroll(step, max_num_steps, chunk_size, live=lambda i, constants: i < constants[1])

    def run(theta, state, keys, num_live, data):
        thetas = jax.tree.map(lambda x: jnp.broadcast_to(x[None], (len(keys), *x.shape)), theta)
        constants = (keys, num_live, problem_data(problem, data))

        def losses(thetas):
            result = unrolled(thetas, state.inner, jnp.max(num_live), constants)
            return result.loss, result.state

        loss, pull_back, inner = jax.vjp(losses, thetas, has_aux=True)
        grad = pull_back(jnp.ones_like(loss))[0]
        if clip_norm is not None:
            grad = clipped(grad, clip_norm, num_live)
        return Run(loss, grad, inner, ())

    no_tangents = lambda theta, inner, keys: ()
    return unpaired(
        "truncated_backprop", problem, num_particles, axis_name, no_tangents, run,
        max_num_steps=max_num_steps, stagger=stagger,
    )  # fmt: skip


def clipped(grad: Tree, longest: float, num_live: Array) -> Tree:
    """Gradients, leaves `[particles, ...]`,
    each particle's scaled down to a norm of at most `longest * num_live`.

    Everything is in units of the particle's largest element: squares and norms of an exploded
    gradient overflow long before it does.
    """
    rows = [_rows(g) for g in jax.tree.leaves(grad) if g.size]
    unit = unit_of(jnp.max(jnp.stack([jnp.max(jnp.abs(row), axis=1) for row in rows]), axis=0))
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(in_units(row, unit[:, None])), axis=1) for row in rows))
    # Infinite only where every norm is shorter.
    bound = longest / unit * num_live.astype(unit.dtype)
    short = (norm <= bound)[:, None]
    divisor = jnp.where(short, 1, norm[:, None])

    def clip(leaf):
        shorter = in_units(_rows(leaf), unit[:, None]) / divisor * bound[:, None] * unit[:, None]
        return jnp.where(short, _rows(leaf), shorter).reshape(leaf.shape)

    return jax.tree.map(clip, grad)


def _rows(leaf: Array) -> Array:
    return leaf.reshape(len(leaf), math.prod(leaf.shape[1:]))
