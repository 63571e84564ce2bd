"""Outer-training a learned optimizer on the training
or on a validation loss (arXiv 2006.16495, section 5).

    learned-opt reproduce optimizer_generalization --out DIR

The per-parameter MLP optimizer is outer-trained by persistent ES on one image set: on few samples,
with and without wrong labels, and on all of them. Train-by-train descends the loss on the samples
that the network trains on, train-by-validation that on a quarter set aside. Both then train
networks on all the samples. Where there is much to overfit, train-by-validation learns to stop. A
few minutes on two cores; `--scale paper` is MNIST.
"""

import dataclasses
import pathlib
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from matplotlib.figure import Figure

from learned_opt.per_parameter import mlp
from learned_opt_lab.drawing.axes import known, legend, log_scale
from learned_opt_lab.drawing.colors import BLUE, ORANGE
from learned_opt_lab.drawing.training_figures import save
from learned_opt_lab.evaluation.statistics import deviation
from learned_opt_lab.papers.scales import at_scale
from learned_opt_lab.papers.wu2018.meta_descent.smd_tasks import (
    load_data,
    make_training,
    with_label_noise,
)
from learned_opt_lab.results.folder import write_result
from learned_opt_lab.results.resumable import Cells
from outer_train import clip_by_global_norm, inner_problem
from outer_train.estimators import persistent_es
from tasks.images import fixed_family

OBJECTIVES = {"train_by_train": "train", "train_by_validation": "valid"}
VALID_SHARES = {"train_by_train": 0.01, "train_by_validation": 0.25}


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment; None stands for the scale's own, in `SIZES`.

    Attributes:
      scale: `"paper"` is MNIST through TFDS, with the paper's network and samples.
      dataset: a name in `learned_opt_lab.papers.wu2018.meta_descent.smd_tasks.DATASETS`, or
        `"auto"`.
      network: a name in `learned_opt_lab.papers.wu2018.meta_descent.smd_tasks.NETWORKS`.
      batch_size: of inner training.
      cells: (number of samples or None for all, share of wrong labels).
      num_steps: inner steps of an episode.
      truncation: inner steps of an outer step.
      num_pairs: antithetic pairs of persistent ES.
      num_outer_steps: of Adam, its rate falling along a half cosine.
      outer_learning_rate: at the start.
      num_runs: networks trained by each learned optimizer afterwards.
      num_records: points of their curves.
      seed: of everything.
    """

    scale: Literal["default", "paper"] = "default"
    dataset: str | None = None
    network: str | None = None
    batch_size: int = 32
    cells: tuple[tuple[int | None, float], ...] | None = None
    num_steps: int | None = None
    truncation: int | None = None
    num_pairs: int | None = None
    num_outer_steps: int | None = None
    outer_learning_rate: float = 5e-3
    num_runs: int = 10
    num_records: int = 20
    seed: int = 0


SIZES = {
    "default": Config(
        dataset="auto",
        network="mlp_32",
        cells=((200, 0.0), (200, 0.2), (None, 0.0)),
        num_steps=400,
        truncation=20,
        num_pairs=16,
        num_outer_steps=500,
    ),
    "paper": Config(
        scale="paper",
        dataset="mnist",
        network="mlp_100_20",
        cells=((1000, 0.0), (1000, 0.2), (None, 0.0)),
        num_steps=1000,
        truncation=50,
        num_pairs=32,
        num_outer_steps=5000,
    ),
}


def run(config: Config, out: pathlib.Path) -> dict:
    """Writes `result.json` and `generalization.png` to `out`; returns what is in the former."""
    given, config = config, resolve(config)
    dataset, data = load_data(config.dataset)
    pieces = Cells(out, __name__, given, data=data)
    key = jax.random.key(config.seed)
    rows, curves = [], []
    for cell in config.cells:
        # The same keys everywhere: differences between the cells
        # and objectives are not those of the draws.
        train = partial(_outer_train_and_run, config, data, cell)
        named = f"samples_{cell[0] or 'all'}_noise_{cell[1]:g}"
        runs = {name: pieces(f"{named}/{name}", partial(train, name, key)) for name in OBJECTIVES}
        rows.append(_summary(cell, runs))
        curves.append(runs)
    result = {"dataset": dataset, "network": config.network, "cells": rows}
    out.mkdir(parents=True, exist_ok=True)
    write_result(out / "result.json", result)
    save(_figure(config, rows, curves), out / "generalization.png")
    return result


def resolve(config: Config) -> Config:
    """Fills in what is None from the scale's sizes.

    Raises:
      ValueError: if the steps do not divide into the records.
    """
    config = at_scale(config, SIZES)
    if config.num_steps % config.num_records:
        raise ValueError(
            f"num_steps must be a multiple of num_records, {config.num_records}, got "
            f"{config.num_steps}"
        )
    return config


def _outer_train_and_run(config: Config, data, cell, name: str, key) -> dict[str, np.ndarray]:
    """Curves `[runs, records]` of networks trained on all samples
    of the cell by the optimizer learned on it.
    """
    num_samples, noise = cell
    divide = lambda share: with_label_noise(data, noise, num_samples=num_samples, valid_share=share)
    theta = _outer_train(config, divide(VALID_SHARES[name]), OBJECTIVES[name], key)
    return _train_networks(
        config, divide(VALID_SHARES["train_by_train"]), theta, jax.random.fold_in(key, 1)
    )


def _outer_train(config: Config, data, objective: str, key):
    training = make_training(data, config.network, config.batch_size)
    learned = mlp()
    problem = inner_problem(fixed_family(training.task, data), learned, config.num_steps, objective)
    estimator = persistent_es(
        problem, config.num_pairs, max_num_steps=config.truncation, stagger=True
    )
    schedule = optax.cosine_decay_schedule(config.outer_learning_rate, config.num_outer_steps)
    outer = optax.chain(clip_by_global_norm(1.0), optax.adam(schedule))
    key_theta, key_init, key_steps = jax.random.split(key, 3)
    theta = learned.init(key_theta)

    @jax.jit
    def train(theta, data):
        def step(carry, i):
            theta, outer_state, state = carry
            key_step = jax.random.fold_in(key_steps, i)
            estimate, state = estimator.estimate(theta, state, key_step, config.truncation, data)
            with jax.numpy_dtype_promotion("standard"):
                updates, outer_state = outer.update(estimate.grad, outer_state, theta)
                theta = optax.apply_updates(theta, updates)
            return (theta, outer_state, state), None

        with jax.numpy_dtype_promotion("standard"):
            carry = (theta, outer.init(theta), estimator.init(theta, key_init))
        return lax.scan(step, carry, jnp.arange(config.num_outer_steps))[0][0]

    return train(theta, data)


def _train_networks(config: Config, data, theta, key) -> dict[str, np.ndarray]:
    training = make_training(data, config.network, config.batch_size)
    transformation = mlp().optimizer(theta)
    task = training.task

    def one(key):
        key_init, key_steps = jax.random.split(key)
        params = task.init(key_init)

        def step(carry, i):
            params, opt_state = carry
            key_batch, key_loss = jax.random.split(jax.random.fold_in(key_steps, i))
            batch = task.sample_batch(data, key_batch, "train")
            value, grads = jax.value_and_grad(lambda params: task.loss(params, key_loss, batch)[0])(
                params
            )
            updates, opt_state = transformation.update(grads, opt_state, params, value=value)
            return (optax.apply_updates(params, updates), opt_state), None

        def record(carry, steps):
            carry, _ = lax.scan(step, carry, steps)
            return carry, {
                "train": training.full_loss(carry[0]),
                "test": training.test_loss(carry[0]),
            }

        steps = jnp.arange(config.num_steps).reshape(config.num_records, -1)
        return lax.scan(record, (params, transformation.init(params)), steps)[1]

    curves = jax.jit(jax.vmap(one))(jax.random.split(key, config.num_runs))
    return {split: np.asarray(curve, float) for split, curve in curves.items()}


def _summary(cell, runs: dict) -> dict:
    """Final losses; the difference is paired over runs
    with the same initial weights and minibatches.
    """
    num_samples, noise = cell
    num_runs = len(runs["train_by_train"]["test"])
    row = {"num_samples": num_samples or "all", "label_noise": noise, "num_runs": num_runs}
    for name, curves in runs.items():
        row[name] = {
            f"{split}_loss": _mean_and_error(curve[:, -1]) for split, curve in curves.items()
        }
    by_train, by_validation = (runs[name]["test"][:, -1] for name in OBJECTIVES)
    row["test_difference"] = _mean_and_error(by_train - by_validation)
    return row


def _mean_and_error(values: np.ndarray) -> dict:
    return {
        "mean": float(values.mean()),
        "standard_error": deviation(values, ddof=1) / np.sqrt(len(values)),
    }


def _figure(config: Config, rows: list[dict], curves: list[dict]) -> Figure:
    figure = Figure(figsize=(4.3 * len(rows), 4), dpi=150, layout="constrained")
    steps = np.arange(1, config.num_records + 1) * config.num_steps / config.num_records
    for axes, row, runs in zip(
        np.atleast_1d(figure.subplots(1, len(rows))), rows, curves, strict=True
    ):
        for (name, splits), color in zip(runs.items(), (ORANGE, BLUE), strict=True):
            final = row[name]["test_loss"]["mean"]
            axes.plot(
                steps,
                known(splits["test"].mean(0)),
                color=color,
                label=f"{name.replace('_', '-')}: test {final:.3f}",
            )
            axes.plot(
                steps, known(splits["train"].mean(0)), color=color, linestyle=":", linewidth=1
            )
        axes.set_title(
            f"{row['num_samples']} samples, {row['label_noise']:.0%} wrong labels", fontsize=10
        )
        axes.set_xlabel("inner step (solid: test, dotted: training)")
        log_scale(axes, "y", *(line.get_ydata() for line in axes.lines))
        legend(axes, frameon=True)
    return figure
