"""LRS-OPT: a free learning-rate schedule optimized offline
by its exact hypergradient (arXiv 1910.08525, eq. 1 and 4).

One outer iteration trains from scratch, on minibatches drawn anew, and differentiates the objective
at the end with respect to every step's rate, by reverse mode through the dynamic unroll. The
initial weights stay as they were, as in the paper: they decide how the first hundred rates come
out.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Float

from learned_opt import LearnedOptimizer
from learned_opt_lab.results.resumable import Cells
from outer_train import unroll
from tasks import Key, Task

Objective = Callable[[Any, Any], Array]
ITERATIONS_OF_A_PIECE = 250
"""Outer ones; minutes at the paper's sizes."""


def rate_schedule(num_steps: int, learning_rate: float) -> LearnedOptimizer:
    """SGD whose theta is the vector of its rates, `[num_steps]`; they all start at `learning_rate`.

    In rates, not in their logarithms: a rate that reaches zero stops training early, which a
    logarithm never does.

    Raises:
      ValueError: no step, or a negative rate.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    if not learning_rate >= 0:
        raise ValueError(f"learning_rate must be >= 0, got {learning_rate}")

    def optimizer(theta: Float[Array, " steps"]) -> optax.GradientTransformationExtraArgs:
        def update(grads, count, params=None, **extra_args):
            del params, extra_args
            rate = theta[jnp.minimum(count, num_steps - 1)]
            return jax.tree.map(lambda g: -rate.astype(g.dtype) * g, grads), count + 1

        return optax.GradientTransformationExtraArgs(lambda params: jnp.int32(0), update)

    return LearnedOptimizer(
        lambda key: jnp.full(num_steps, learning_rate, jnp.result_type(float)), optimizer
    )


class Training(NamedTuple):
    """Training that ends in an objective, as a function of the schedule.

    Attributes:
      start: `key -> params`.
      final_objective: `(theta [runs, ...], params [runs, ...], keys [runs], data) -> objectives
        [runs]` after the last step, differentiable in theta by reverse mode. Run i draws its
        minibatches with keys[i].
    """

    start: Callable[[Key], Any]
    final_objective: Callable[[Array, Any, Array, Any], Array]


def training(
    task: Task,
    objective: Objective,
    schedule: LearnedOptimizer,
    num_steps: int,
    chunk_size: int = 32,
) -> Training:
    """Builds the training of `task` under `schedule`.

    Args:
      task: gives weights, minibatches of `train` and their losses.
      objective: `(params, data) -> E`, such as the loss over all validation examples.
      schedule: its theta is what is optimized.
      num_steps: T.
      chunk_size: steps between kept states; memory is about `T / chunk_size + chunk_size` states a
        run.
    """

    def one_step(theta, state, key, i, data):
        params, opt_state = state
        key_batch, key_loss = jax.random.split(jax.random.fold_in(key, i))
        batch = task.sample_batch(data, key_batch, "train")
        grads = jax.grad(lambda p: task.loss(p, key_loss, batch)[0])(params)
        updates, opt_state = schedule.optimizer(theta).update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), jnp.zeros(
            (), jax.tree.leaves(theta)[0].dtype
        )

    def step(theta, state, i, constants):
        keys, data = constants
        return jax.vmap(one_step, in_axes=(0, 0, 0, None, None))(theta, state, keys, i, data)

    run = unroll(step, num_steps, chunk_size)

    def final_objective(theta, params, keys, data):
        opt_state = jax.vmap(lambda t, p: schedule.optimizer(t).init(p))(theta, params)
        params, _ = run(theta, (params, opt_state), jnp.int32(num_steps), (keys, data)).state
        return jax.vmap(objective, in_axes=(0, None))(params, data)

    return Training(task.init, final_objective)


class OptimizedSchedules(NamedTuple):
    """Attributes: `rates` `[runs, T]`,
    and `objectives` `[num_iterations, runs]` before each outer update.
    """

    rates: Float[Array, "runs steps"]
    objectives: Float[Array, "iterations runs"]


def optimize_schedules(
    trained: Training,
    schedule: LearnedOptimizer,
    params: Any,
    data: Any,
    key: Key,
    num_iterations: int,
    outer_learning_rate: float,
    cells: Cells | None = None,
) -> OptimizedSchedules:
    """Optimizes one schedule for each initial point,
    with fresh minibatches at every outer iteration.

    Rates are projected to >= 0. The paper takes 5,000 iterations of plain descent; Adam, whose step
    shrinks along a cosine so that minibatch noise averages out of the last iterates, needs a few
    hundred.

    Args:
      trained: from `training`, for the same schedule.
      schedule: from `rate_schedule`.
      params: initial weights of all runs, `[runs, ...]`.
      data: handed to the task.
      key: of the minibatches.
      num_iterations: outer iterations, at least 1.
      outer_learning_rate: first step size of Adam, in units of the rates.
      cells: each of `ITERATIONS_OF_A_PIECE`; nothing is kept if None.

    Raises:
      ValueError: `num_iterations` is below 1.
    """
    if num_iterations < 1:
        raise ValueError(f"num_iterations must be at least 1, got {num_iterations}")
    num_runs = jax.tree.leaves(params)[0].shape[0]
    outer = optax.adam(
        optax.cosine_decay_schedule(outer_learning_rate, num_iterations, 0.02), b2=0.99
    )

    @jax.jit
    def iterate(rates, opt_state, i, params, data):
        keys = jax.random.split(jax.random.fold_in(key, i), num_runs)
        objectives, pull_back = jax.vjp(
            lambda r: trained.final_objective(r, params, keys, data), rates
        )
        grads = pull_back(jnp.ones_like(objectives))[0]
        # An iteration that diverged says nothing about where to go.
        grads = jnp.where(
            jnp.isfinite(grads).all(axis=1, keepdims=True), grads, jnp.zeros_like(grads)
        )
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = outer.update(grads, opt_state, rates)
        return jnp.maximum(rates + updates, 0), opt_state, objectives

    rates = jnp.stack([schedule.init(key)] * num_runs)
    leaves, structure = jax.tree.flatten(outer.init(rates))

    def piece(rates, leaves, first):
        opt_state, history = jax.tree.unflatten(structure, leaves), []
        for i in range(first, min(first + ITERATIONS_OF_A_PIECE, num_iterations)):
            rates, opt_state, objectives = iterate(rates, opt_state, jnp.int32(i), params, data)
            history.append(objectives)
        return rates, jax.tree.leaves(opt_state), jnp.stack(history)

    keep, parts = cells or (lambda name, make: make()), []
    for first in range(0, num_iterations, ITERATIONS_OF_A_PIECE):
        of_piece = partial(piece, rates, leaves, first)
        rates, leaves, history = keep(f"from_{first}", of_piece)
        parts.append(history)
    return OptimizedSchedules(rates, jnp.concatenate(parts))
