"""Forward-mode outer gradients: tangents of the state are carried
with it (Williams & Zipser 1989; Wu et al. 2018).

For the few hyperparameters of stochastic meta-descent (arXiv 1803.02021, section 3.2) the tangents
are exact, one a hyperparameter. For many outer parameters they run along random directions v, and
`(dL . v) v` is unbiased.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from outer_train._unroll import add, fill_inexact, inexact_leaves, no_sum
from outer_train.checks import check_count
from outer_train.estimators.base import GradientEstimator
from outer_train.particles._unpaired import Run, unpaired
from outer_train.particles.checks import check_system
from outer_train.problem import UnrolledSystem, problem_data


class Tangents(NamedTuple):
    """Directions in theta `[particles, directions, outer parameters]`, and the floating-point
    leaves of the inner state's tangents along them, `[particles, directions, ...]`.
    """

    directions: Array
    inner: list[Array]


def forward_mode(
    problem: UnrolledSystem,
    num_particles: int,
    axis_name: str | None = None,
    *,
    persistent: bool = True,
    num_directions: int | None = None,
    max_num_steps: int | None = None,
    stagger: bool = False,
) -> GradientEstimator:
    """Gradients by Jacobian-vector products, in memory that does not grow with the truncation.

    Args:
      problem: the unrolled system; its step must be differentiable in forward mode.
      num_particles: over all devices.
      axis_name: mesh axis the particles are spread over, inside `jax.shard_map`.
      persistent: carry tangents across truncations to the episode's end (real-time recurrent
        learning): no short-horizon bias. Otherwise they start from zero in each truncation, as in
        `truncated_backprop`.
      num_directions: None for exact tangents, one an outer parameter; else so many normal
        directions a particle, drawn for an episode (persistent) or a truncation: unbiased, with a
        variance of about the squared gradient norm times outer parameters over directions.
      max_num_steps: longest truncation; the episode by default.
      stagger: spread the particles' step counters over the episode at the start.

    Raises:
      ValueError: for values out of range, or an outer loss that is no sum of step losses.
    """
    check_count(max_num_steps=max_num_steps, num_directions=num_directions)
    problem = check_system(problem, "forward_mode")

    start_tangents = partial(_start_tangents, num_directions)

    def run(theta, state, keys, num_live, data):
        beyond_all_steps = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, problem.num_steps)
        tangents = (
            state.tangents if persistent else start_tangents(theta, state.inner, beyond_all_steps)
        )
        flat, unravel = ravel_pytree(theta)
        data = problem_data(problem, data)
        step = jax.vmap(
            partial(_step_with_tangents, problem, unravel, flat), in_axes=(0, 0, 0, 0, None)
        )

        def body(i, carry):
            inner, inner_tangents, loss, slopes = carry
            step_keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, i)
            inner, inner_tangents, step_loss, step_slopes = step(
                inner, inner_tangents, tangents.directions, step_keys, data
            )
            live = i < num_live
            loss = add(loss, jnp.where(live, step_loss, 0))
            slopes = add(slopes, jnp.where(live[:, None], step_slopes, 0))
            return inner, inner_tangents, loss, slopes

        made = jax.eval_shape(step, state.inner, tangents.inner, tangents.directions, keys, data)
        dtype = made[2].dtype
        loss = no_sum(jnp.zeros_like(num_live, dtype))
        slopes = no_sum(jnp.zeros_like(tangents.directions[..., 0], dtype))
        carry = (state.inner, tangents.inner, loss, slopes)
        inner, inner_tangents, loss, slopes = lax.fori_loop(0, jnp.max(num_live), body, carry)
        grad = jnp.einsum("nd,ndp->np", slopes.total.astype(flat.dtype), tangents.directions)
        grad = grad if num_directions is None else grad / num_directions
        return Run(
            loss.total, jax.vmap(unravel)(grad), inner, tangents._replace(inner=inner_tangents)
        )

    return unpaired(
        "forward_mode", problem, num_particles, axis_name, start_tangents, run,
        max_num_steps=max_num_steps or problem.num_steps, stagger=stagger,
    )  # fmt: skip


def _start_tangents(num_directions, theta, inner, keys):
    """Along each outer parameter, or as many random directions; the state does not move yet."""
    flat, _ = ravel_pytree(theta)
    if num_directions is None:
        basis = jnp.diag(jnp.ones_like(flat))
        directions = jnp.broadcast_to(basis[None], (len(keys), *basis.shape))
    else:
        draw = lambda key: jax.random.normal(key, (num_directions, flat.size), flat.dtype)
        directions = jax.vmap(draw)(keys)
    shapes = [(x, (x.shape[0], directions.shape[1], *x.shape[1:])) for x in inexact_leaves(inner)]
    return Tangents(directions, [jnp.zeros_like(x, shape=shape) for x, shape in shapes])


def _step_with_tangents(problem, unravel, flat_theta, inner, inner_tangents, directions, key, data):
    """One particle's step, with the tangents of its state and loss along all directions."""

    def differentiable(flat_theta, leaves):
        new_inner, loss = problem.step(unravel(flat_theta), fill_inexact(inner, leaves), key, data)
        return (inexact_leaves(new_inner), loss), new_inner

    def along(direction, tangent):
        primals = (flat_theta, inexact_leaves(inner))
        (_, loss), (tangent, slope), new_inner = jax.jvp(
            differentiable, primals, (direction, tangent), has_aux=True
        )
        return new_inner, tangent, loss, slope

    return jax.vmap(along, out_axes=(None, 0, None, 0))(directions, inner_tangents)
