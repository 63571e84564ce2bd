"""The training runs of `lr_schedules`, over hyper-learning rates,
schedules, first rates and seeds.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt import LearnedOptimizer
from learned_opt.hypergradient import marthe
from learned_opt_lab.papers.schedule_runs import Recording, over_runs, rows_of, split_rows, train
from tasks import Task
from tasks.images import MLP, ImageData, classification_task, digits, sample_images, tfds_images

Method = Callable[[Any], optax.GradientTransformationExtraArgs]
"""Hyper-learning rate -> optimizer."""


class Problem(NamedTuple):
    """Attributes: the task, its data, the whole validation and test splits as batches, and T."""

    task: Task
    data: ImageData
    valid: dict[str, jax.Array]
    test: dict[str, jax.Array]
    num_steps: int

    def measure(self, params: Any, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """Mean loss and accuracy over a whole split."""
        loss, metrics = self.task.loss(params, jax.random.key(0), batch)
        return loss, metrics["accuracy"]


def make_problem(scale: str, hidden_size: int, batch_size: int, num_steps: int) -> Problem:
    """An MLP of three hidden layers; 7,000 to 700 images as in the paper,
    or as near to ten to one as digits give.
    """
    if scale == "paper":
        data = tfds_images("mnist", max_per_class=1000, fractions=(0.63, 0.063, 0.207, 0.1))
    else:
        data = digits(fractions=(0.7, 0.1, 0.1, 0.1))
    classes = jnp.arange(data.num_classes, dtype=jnp.int32)
    task = classification_task(
        MLP((hidden_size,) * 3, data.num_classes),
        lambda data, key, split: sample_images(data, key, split, classes, batch_size),
        data.image_shape,
        data.num_classes,
    )
    valid, test = (rows_of(data, split_rows(data, split)) for split in ("inner_valid", "test"))
    return Problem(task, data, valid, test, num_steps)


def sweep(
    problem: Problem, keys: jax.Array, method: Method, betas: Sequence[float]
) -> dict[str, np.ndarray]:
    """Every hyper-learning rate with every seed: leaves `[hyper-learning rates, seeds, ...]`."""
    shape = (len(betas), len(keys))
    one = lambda beta, key, data: _train_and_measure(
        problem, method(beta), lambda state, i: state.learning_rate, key, data
    )
    betas = jnp.repeat(jnp.asarray(betas, jnp.float32), shape[1])
    runs = over_runs(one)(betas, jnp.tile(keys, shape[0]), problem.data)
    return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), runs)


def run_schedules(
    problem: Problem, schedule: LearnedOptimizer, rates: np.ndarray, keys: jax.Array
) -> dict[str, np.ndarray]:
    """Runs given rates, `[runs, T]`, one a key, by a `lrs_opt.rate_schedule`."""
    one = lambda rates, key, data: _train_and_measure(
        problem, schedule.optimizer(rates), lambda state, i: rates[i], key, data
    )
    return over_runs(one)(jnp.asarray(rates), keys, problem.data)


def sensitivity(
    problem: Problem,
    keys: jax.Array,
    betas: Sequence[float],
    first_rates: Sequence[float],
    mus: Sequence[float],
) -> dict[str, Any]:
    """Appendix C: mean test accuracy over eta_0 and a fixed mu, for fixed values of beta."""
    grid = np.array(np.meshgrid(betas, first_rates, mus, indexing="ij"), np.float32)
    cells = np.repeat(grid.reshape(3, -1), len(keys), axis=1)
    method = lambda beta, rate, mu: marthe(optax.sgd, rate, beta, meta_step=0.0, mu=mu)
    one = lambda cell, key, data: _train_and_measure(
        problem, method(*cell), lambda state, i: state.learning_rate, key, data
    )["test_accuracy"]
    accuracy = over_runs(one)(jnp.asarray(cells.T), jnp.tile(keys, grid[0].size), problem.data)
    return {
        "betas": list(betas),
        "first_rates": list(first_rates),
        "mus": list(mus),
        "test_accuracy": accuracy.reshape(*grid.shape[1:], len(keys)).mean(axis=-1).tolist(),
    }


def _train_and_measure(
    problem: Problem, transformation, rate_of, key, data
) -> dict[str, jax.Array]:
    def measure(params, model_state, data):
        del model_state, data
        loss, accuracy = problem.measure(params, problem.valid)
        return {
            "loss": loss,
            "accuracy": accuracy,
            "test_accuracy": problem.measure(params, problem.test)[1],
        }

    objective = lambda params, model_state, key, data: problem.measure(params, problem.valid)[0]
    recording = Recording(rate_of, measure)
    run = train(problem.task, objective, transformation, recording, data, key, problem.num_steps)
    return {name: values[-1] for name, values in run.measures.items()} | {"rates": run.rates}
