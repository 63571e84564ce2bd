"""Slices through theta of a learned optimizer:
the outer loss on one fixed draw of everything random.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from jax.flatten_util import ravel_pytree

import learned_opt
from outer_train import (
    UnrolledSystem,
    clip_by_global_norm,
    devices,
    inner_problem,
    outer_step,
    truncation,
)
from outer_train.estimators import persistent_es
from tasks import TaskFamily

MAX_AT_ONCE = 32
"""Thetas evaluated at once, which bounds the memory."""


class Slices(NamedTuple):
    """Mean step losses after a number of unrolls.

    Attributes:
      offsets: `[points]`, along the gradient's direction, in units of theta's norm.
      line: unrolls -> `[points]`.
      sides: `[grid]`, offsets of the square.
      square: unrolls -> `[grid, grid]`, first axis along the gradient, second along a random
        direction.
      training_losses: outer loss before and after the short outer-training.
    """

    offsets: np.ndarray
    line: dict[int, np.ndarray]
    sides: np.ndarray
    square: dict[int, np.ndarray]
    training_losses: list[float]


def theta_slices(
    family: TaskFamily,
    *,
    unroll_length: int,
    unrolls: tuple[int, ...],
    num_outer_steps: int,
    num_points: int,
    grid: int,
    extent: float,
    key: Array,
) -> Slices:
    """Outer-trains the paper's MLP optimizer for a while, then looks around the theta it came to.

    Args:
      family: of the inner tasks.
      unroll_length: inner steps of one unroll, in training and in the slices.
      unrolls: numbers of unrolls whose mean loss is shown.
      num_outer_steps: of the training.
      num_points: on the line along the gradient of the loss after the fewest unrolls.
      grid: points on a side of the square.
      extent: half a slice's length, in units of theta's norm.
      key: of everything random.
    """
    optimizer = learned_opt.mlp(preset="metz2019", step_multiplier=0.01)
    problem = inner_problem(family, optimizer, max(unrolls) * unroll_length)
    key_train, key_loss, key_direction = jax.random.split(key, 3)
    theta, losses = _train(problem, optimizer, unroll_length, num_outer_steps, key_train)
    flat, unravel = ravel_pytree(theta)
    evaluate = _evaluator(problem, unravel, key_loss)
    towards = jax.jit(
        jax.grad(lambda flat, data: jnp.mean(evaluate(flat, data)[: min(unrolls) * unroll_length]))
    )
    along = _unit(towards(flat, problem.data)) * jnp.linalg.norm(flat)
    across = jax.random.normal(key_direction, flat.shape)
    across = _unit(across - along * (across @ along) / (along @ along)) * jnp.linalg.norm(flat)
    offsets, sides = np.linspace(-extent, extent, num_points), np.linspace(-extent, extent, grid)
    first, second = (part.reshape(-1) for part in np.meshgrid(sides, sides, indexing="ij"))
    # Line and square in one call: one compilation.
    weights = np.stack(
        [np.concatenate([offsets, first]), np.concatenate([np.zeros(num_points), second])]
    )

    @jax.jit
    def losses_at(weights, data):
        at = lambda pair: evaluate(flat + pair[0] * along + pair[1] * across, data)
        return lax.map(at, weights, batch_size=MAX_AT_ONCE)

    curves = np.asarray(losses_at(jnp.asarray(weights.T, flat.dtype), problem.data))
    means = {n: curves[:, : n * unroll_length].mean(axis=1) for n in unrolls}
    line = {n: mean[:num_points] for n, mean in means.items()}
    square = {n: mean[num_points:].reshape(grid, grid) for n, mean in means.items()}
    return Slices(offsets, line, sides, square, losses)


def _evaluator(problem: UnrolledSystem, unravel, key: Array):
    """`(flat theta, data) -> [steps]` losses, always the same task, start and batches."""
    key_start, key_steps = jax.random.split(key)

    def evaluate(flat, data):
        theta = unravel(flat)

        def step(state, i):
            return problem.step(theta, state, jax.random.fold_in(key_steps, i), data)

        state = problem.init(theta, key_start)
        return lax.scan(step, state, jnp.arange(problem.num_steps, dtype=jnp.int32))[1]

    return evaluate


def _train(problem, optimizer, unroll_length, num_outer_steps, key) -> tuple[Any, list[float]]:
    key_theta, key_init, key_run = jax.random.split(key, 3)
    estimator = persistent_es(
        problem, 16, 0.01, devices.PARTICLES, max_num_steps=unroll_length, stagger=True
    )
    chain = optax.chain(clip_by_global_norm(1.0), optax.adam(1e-2))
    step = outer_step(
        [estimator], chain, truncation.constant(unroll_length), devices.particle_mesh(16)
    )
    state, datas = (
        step.init(jax.device_get(optimizer.init(key_theta)), key_init),
        step.place_data((problem.data,)),
    )
    losses = []
    for _ in range(num_outer_steps):
        state, metrics = step.step(state, key_run, datas)
        losses.append(float(metrics["outer_loss"]))
    tenth = max(1, num_outer_steps // 10)
    return jax.device_get(state.theta), [
        float(np.mean(losses[:tenth])),
        float(np.mean(losses[-tenth:])),
    ]


def _unit(vector: Array) -> Array:
    return vector / jnp.linalg.norm(vector)
