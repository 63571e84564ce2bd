"""Outer-training of Adam's learning rate on digits,
one program for every truncation (arXiv 1810.10180, Fig 3).
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from jax.sharding import PartitionSpec as P

from learned_opt import LearnedOptimizer
from learned_opt.hand_designed import hyperparameters
from learned_opt_lab.results.resumable import Cells
from outer_train import PARTICLES, UnrolledSystem, inner_problem, particle_mesh
from outer_train.estimators import truncated_backprop
from tasks.images import MLP, ImageData, class_subset_family

RATE = "log_learning_rate"
OUTER_OPTIMIZERS = {
    "adam": optax.scale_by_adam(),
    "rmsprop": optax.scale_by_rms(decay=0.99),
    "momentum": optax.ema(0.9, debias=False),
    "sgd": optax.identity(),
}
"""Directions of the outer step. The last two have the gradient's unit."""


class AdamRuns(NamedTuple):
    """What was measured, truncations in the config's order.

    Attributes:
      paths: for each truncation `[outer steps, 3]`: outer loss, gradient, log learning rate.
      windows: for each truncation `[windows]`: gradient over inner training at the initial rate,
        from its start on.
      losses: `[rates]`, mean loss of an episode.
      gradients: `[truncations, rates]`, mean over an episode's windows.
    """

    paths: list[np.ndarray]
    windows: list[np.ndarray]
    losses: np.ndarray
    gradients: np.ndarray


def adam_rate(learning_rate: float) -> LearnedOptimizer:
    """Adam whose theta is `{"log_learning_rate"}` alone."""
    adam = hyperparameters.adam(learning_rate)

    def optimizer(theta):
        fixed = adam.init(jax.random.key(0))
        return adam.optimizer({**fixed, **theta})

    return LearnedOptimizer(lambda key: {RATE: adam.init(key)[RATE]}, optimizer)


def measure_adam(config: Any, data: ImageData, key: Array, cells: Cells) -> AdamRuns:
    """All runs of the experiment, from
    `learned_opt_lab.papers.metz2019.truncation_bias.experiment.Config`; a truncation is two pieces.
    """
    run = _runner(config, data, "adam")
    key_train, key_measure = jax.random.split(key)

    def path(k):
        return run(
            key_train, config.learning_rate, k, config.num_episodes, config.outer_learning_rate
        )

    def measure(k):
        return [run(key_measure, rate, k, 1, 0.0) for rate in (*config.rates, config.learning_rate)]

    paths = [cells(f"path_{k}", lambda k=k: path(k)) for k in config.truncations]
    measured = [cells(f"gradients_{k}", lambda k=k: measure(k)) for k in config.truncations]
    windows = [row.pop()[:, 1] for row in measured]
    losses = np.asarray([rows[:, 0].mean() for rows in measured[-1]], np.float64)
    gradients = np.asarray([[rows[:, 1].mean() for rows in row] for row in measured], np.float64)
    return AdamRuns(paths, windows, losses, gradients)


def measure_outer_optimizers(
    config: Any, data: ImageData, key: Array, adam: AdamRuns, cells: Cells
) -> dict[str, list[np.ndarray]]:
    """Outer-training from the same start by the other outer-optimizers (appendix I).

    Where a direction has the gradient's unit, the outer rate is divided by the root mean square of
    the gradient over an episode at the initial rate, so that its steps start as long as Adam's.

    Args:
      config: of the experiment.
      data: the digits.
      key: that of `measure_adam`, so that all see the same problems.
      adam: what that measured.
      cells: of the experiment; a truncation by an outer-optimizer is one.

    Returns:
      Name -> paths as those of `AdamRuns`.
    """
    key_train, _ = jax.random.split(key)
    paths = {}
    for name in config.outer_optimizers:
        run = _runner(config, data, name)
        has_unit = name in ("momentum", "sgd")
        paths[name] = []
        for k, row in zip(config.truncations, adam.windows, strict=True):
            unit = float(np.sqrt(np.mean(np.square(row)))) if has_unit else 1.0
            rate = config.outer_learning_rate / unit if unit else 0.0
            path = partial(run, key_train, config.learning_rate, k, config.num_episodes, rate)
            paths[name].append(cells(f"path_{name}_{k}", path))
    return paths


def _runner(config: Any, data: ImageData, outer_optimizer: str):
    """`(key, rate, truncation, num_episodes, outer rate) -> [updates, 3]`: an outer-training, or
    without an outer rate a measurement.
    """
    module = MLP(hidden_sizes=(config.hidden_size,), num_classes=10)
    family = class_subset_family(data, module, 10, tuple(range(10)), config.batch_size)
    problem = inner_problem(family, adam_rate(config.learning_rate), config.num_steps)
    max_updates = config.num_episodes * config.num_steps // min(config.truncations)
    optimizer = OUTER_OPTIMIZERS[outer_optimizer]
    outer_run = _outer_run(problem, config.num_particles, max_updates, optimizer)

    def run(key, rate, truncation, num_episodes, outer_rate):
        theta = {RATE: jnp.float32(math.log(rate))}
        num_updates = num_episodes * config.num_steps // truncation
        # Outer-training sees all stages of inner training at once;
        # measurements start at its beginning.
        lengths = (
            jnp.int32(truncation),
            jnp.int32(num_updates),
            jnp.float32(outer_rate),
            jnp.bool(outer_rate > 0),
        )
        return np.asarray(outer_run(theta, key, *lengths, problem.data))[:num_updates]

    return run


def _outer_run(
    problem: UnrolledSystem,
    num_particles: int,
    max_updates: int,
    optimizer: optax.GradientTransformation,
):
    """`(theta, key, truncation, num_updates, outer rate, stagger, data) -> [max_updates, 3]`,
    compiled once for all.
    """
    estimator = truncated_backprop(
        problem, num_particles, PARTICLES, max_num_steps=problem.num_steps, stagger=True
    )

    def run(theta, key, truncation, num_updates, outer_rate, stagger, data):
        key_init, key_run = jax.random.split(key)
        state = estimator.init(theta, key_init)
        state = state._replace(step=jnp.where(stagger, state.step, jnp.zeros_like(state.step)))

        def update(i, carry):
            theta, opt_state, state, history = carry
            estimate, state = estimator.estimate(
                theta, state, jax.random.fold_in(key_run, i), truncation, data
            )
            history = history.at[i].set(
                jnp.stack([estimate.loss, estimate.grad[RATE], theta[RATE]])
            )
            with jax.numpy_dtype_promotion("standard"):
                direction, opt_state = optimizer.update(estimate.grad, opt_state)
            theta = {RATE: theta[RATE] - outer_rate * direction[RATE]}
            return theta, opt_state, state, history

        history = jnp.zeros((max_updates, 3), jnp.float32)
        carry = (theta, optimizer.init(theta), state, history)
        return lax.fori_loop(0, num_updates, update, carry)[3]

    over_mesh = partial(
        jax.shard_map, mesh=particle_mesh(num_particles), in_specs=P(), out_specs=P()
    )
    return jax.jit(over_mesh(run))
