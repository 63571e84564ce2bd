"""Outer-training a learned optimizer on the training
or on a validation loss (arXiv 2006.16495, section 5).

    learned-opt reproduce optimizer_generalization --out DIR

The per-parameter MLP optimizer is outer-trained by persistent ES on one image set: on few samples,
with and without wrong labels, and on all of them. Train-by-train descends the loss on the samples
that the network trains on, train-by-validation that on a quarter set aside. Both then train
networks on all the samples. Where there is much to overfit, train-by-validation learns to stop.

An outer-training differs from the next by its seed more than the networks of one by theirs, so all
is repeated over outer-training seeds, and errors are over these. About ten minutes on two cores;
`--scale paper` is MNIST.
"""

import dataclasses
import pathlib
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from matplotlib.figure import Figure

from learned_opt.per_parameter import mlp
from learned_opt_lab.drawing.axes import known, legend_outside, log_scale
from learned_opt_lab.drawing.colors import BLUE, ORANGE
from learned_opt_lab.drawing.text import format_number
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
    """Sizes of the experiment; what is not given is the scale's own.

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
      num_outer_seeds: outer-trainings of each optimizer.
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
    num_outer_seeds: int = 3
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
    keys = jax.random.split(jax.random.key(config.seed), 1 + config.num_outer_seeds)
    rows, curves = [], []
    for cell in config.cells:
        # The same keys everywhere: differences between the cells
        # and objectives are not those of the draws.
        named = f"samples_{cell[0] or 'all'}_noise_{cell[1]:g}"
        runs = {
            name: _outer_train_and_run(config, data, cell, name, keys, pieces.within(named))
            for name in OBJECTIVES
        }
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
      ValueError: if the steps do not divide into the records, or for no outer-training.
    """
    config = at_scale(config, SIZES)
    if config.num_outer_seeds < 1:
        raise ValueError(f"num_outer_seeds must be at least 1, got {config.num_outer_seeds}")
    if config.num_steps % config.num_records:
        raise ValueError(
            f"num_steps must be a multiple of num_records, {config.num_records}, got "
            f"{config.num_steps}"
        )
    return config


def _outer_train_and_run(
    config: Config, data, cell, name: str, keys, pieces: Cells
) -> dict[str, np.ndarray]:
    """Curves `[outer seeds, runs, records]` of networks trained on all samples of the cell by the
    optimizers learned on it, one a piece.

    Args:
      config: resolved.
      data: the image set.
      cell: number of samples and share of wrong labels.
      name: of the objective.
      keys: of the runs, and of each outer seed.
      pieces: of this cell of the experiment.
    """
    num_samples, noise = cell
    divide = lambda share: with_label_noise(data, noise, num_samples=num_samples, valid_share=share)
    outer_train = _outer_training(config, divide(VALID_SHARES[name]), OBJECTIVES[name])
    train_networks = _network_training(config, divide(VALID_SHARES["train_by_train"]))
    seeds = [
        pieces(f"{name}/seed_{i}", lambda key=key: train_networks(outer_train(key), keys[0]))
        for i, key in enumerate(keys[1:])
    ]
    return jax.tree.map(lambda *curves: np.stack(curves), *seeds)


def _outer_training(config: Config, data, objective: str):
    """`key -> theta`, compiled once for all seeds."""
    training = make_training(data, config.network, config.batch_size)
    learned = mlp()
    problem = inner_problem(fixed_family(training.task, data), learned, config.num_steps, objective)
    estimator = persistent_es(
        problem, config.num_pairs, max_num_steps=config.truncation, stagger=True
    )
    schedule = optax.cosine_decay_schedule(config.outer_learning_rate, config.num_outer_steps)
    outer = optax.chain(clip_by_global_norm(1.0), optax.adam(schedule))

    def train(key, data):
        key_theta, key_init, key_steps = jax.random.split(key, 3)
        theta = learned.init(key_theta)

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

    compiled = jax.jit(train)
    return lambda key: compiled(key, data)


def _network_training(config: Config, data):
    """`(theta, key) -> curves [runs, records]`, compiled once for all seeds."""
    training = make_training(data, config.network, config.batch_size)
    task = training.task

    def one(theta, key):
        transformation = mlp().optimizer(theta)
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

    over_runs = jax.jit(jax.vmap(one, in_axes=(None, 0)))

    def train_networks(theta, key):
        curves = over_runs(theta, jax.random.split(key, config.num_runs))
        return {split: np.asarray(curve, float) for split, curve in curves.items()}

    return train_networks


def _summary(cell, runs: dict) -> dict:
    """Final losses, means over outer seeds of means over runs. The difference is paired: over outer
    seeds, and over runs with the same initial weights and minibatches.
    """
    num_samples, noise = cell
    num_runs = runs["train_by_train"]["test"].shape[1]
    row = {"num_samples": num_samples or "all", "label_noise": noise, "num_runs": num_runs}
    for name, curves in runs.items():
        row[name] = {
            f"{split}_loss": _over_seeds(curve[..., -1]) for split, curve in curves.items()
        }
    by_train, by_validation = (runs[name]["test"][..., -1] for name in OBJECTIVES)
    row["test_difference"] = _over_seeds(by_train - by_validation)
    return row


def _over_seeds(values: np.ndarray) -> dict:
    """Of `[outer seeds, runs]`: the error of the mean over outer seeds, and of a run's mean beside
    it, which says nothing of another outer-training.
    """
    of_seeds = values.mean(1)
    within = [deviation(row, ddof=1) / np.sqrt(len(row)) for row in values]
    return {
        "mean": float(of_seeds.mean()),
        "standard_error": deviation(of_seeds, ddof=1) / np.sqrt(len(of_seeds)),
        "of_outer_seeds": of_seeds.tolist(),
        "standard_errors_over_runs": [float(each) for each in within],
    }


def _figure(config: Config, rows: list[dict], curves: list[dict]) -> Figure:
    """Means over everything in bold, those of single outer seeds pale."""
    figure = Figure(figsize=(4.3 * len(rows), 4.6), dpi=150, layout="constrained")
    steps = np.arange(1, config.num_records + 1) * config.num_steps / config.num_records
    panels = np.atleast_1d(figure.subplots(1, len(rows)))
    for axes, row, runs in zip(panels, rows, curves, strict=True):
        for (name, splits), color in zip(runs.items(), (ORANGE, BLUE), strict=True):
            for split, line in (("test", "-"), ("train", ":")):
                of_seeds = known(splits[split].mean(1))
                axes.plot(steps, of_seeds.T, line, color=color, linewidth=0.7, alpha=0.4)
                label = f"{name.replace('_', '-')}, {'training' if split == 'train' else split}"
                axes.plot(steps, of_seeds.mean(0), line, color=color, linewidth=1.8, label=label)
        ends = [format_number(row[name]["test_loss"]["mean"]) for name in runs]
        axes.set_title(
            f"{row['num_samples']} samples, {row['label_noise']:.0%} wrong labels\n"
            f"test loss at the end: {ends[0]} by train, {ends[1]} by validation",
            fontsize=9,
        )
        axes.set_xlabel("inner step")
        log_scale(axes, "y", *(line.get_ydata() for line in axes.lines))
    handles, labels = panels[0].get_legend_handles_labels()
    legend_outside(figure, handles, labels, ncols=2)
    return figure
