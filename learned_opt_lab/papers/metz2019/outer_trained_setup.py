"""What the figures of outer-trained optimizers share:
sizes, task families, the learned optimizer, keys.

Figures 5 to 7 of arXiv 1810.10180.
"""

import dataclasses
from typing import Literal, NamedTuple

import jax

from configs.base import TrainConfig
from learned_opt import LearnedOptimizer
from learned_opt.per_parameter import mlp
from learned_opt_lab.papers.scales import at_scale
from learned_opt_lab.runs import catalog
from learned_opt_lab.runs.families import build_family
from learned_opt_lab.runs.optimizer import build_optimizer
from tasks import TaskFamily
from tasks.images import MLP, ImageData, class_split, class_subset_family, digits

RUNS = {"small": "metz2019_small", "paper": "metz2019_cnn"}
"""Scale -> the config that it outer-trains by."""
OBJECTIVES = {"validation": "valid", "training": "train"}
"""Name in results -> objective of the inner problem."""
OWN_SPLIT = {"validation": "outer_valid", "training": "train"}
RATES_TUNED = ("adam", "rmsprop", "momentum")
"""Baselines with 11 rates, tuned for each task."""
OVER_TASKS = "adam8"
"""Adam with eight hyperparameters: one configuration for all tasks, found on those of
outer-training. All are tuned against the loss that they are compared on."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes that the experiments share; what is not given is the scale's own.

    Attributes:
      scale: `"default"` is minutes on two cores: digits, MLP 64-32-5, persistent ES. The others
        have the paper's method: 3-layer CNNs, merged RP and ES, truncations that grow. `"small"` is
        a night on two cores, Fashion-MNIST at 14x14 (the config `metz2019_small`); `"paper"` is
        32x32 ImageNet (`metz2019_cnn`), and meant for accelerators.
      optimizer: that is outer-trained, `"mlp"` or the paper's, `"metz2019"`.
      num_seeds: outer-training runs on each objective.
      num_outer_steps: of each run.
      num_steps: inner steps of an episode, in outer-training and after.
      num_pairs: antithetic pairs of each run.
      outer_learning_rate: of Adam.
      num_tasks: task instances evaluated.
      budget: configurations of the random search over Adam's eight hyperparameters.
      num_points: thetas evaluated of a run, after the fresh one.
      data_dir: of tensorflow-datasets.
      seed: of everything.
    """

    scale: Literal["default", "small", "paper"] = "default"
    optimizer: Literal["mlp", "metz2019"] | None = None
    num_seeds: int | None = None
    num_outer_steps: int | None = None
    num_steps: int | None = None
    num_pairs: int | None = None
    outer_learning_rate: float | None = None
    num_tasks: int | None = None
    budget: int | None = None
    num_points: int = 6
    data_dir: str | None = None
    seed: int = 0


def _of_run(scale: Literal["small", "paper"], **sizes: int) -> Config:
    """The sizes of a scale's run, and those that it has not."""
    run, _ = catalog.load(RUNS[scale])
    return Config(
        scale=scale,
        optimizer=run.optimizer.preset,
        num_outer_steps=run.num_outer_steps,
        num_steps=run.problem.num_steps,
        num_pairs=run.estimator.num_pairs,
        outer_learning_rate=run.outer_optimizer.learning_rate,
        **sizes,
    )


SIZES = {
    "default": Config(
        optimizer="mlp",
        num_seeds=3,
        num_steps=300,
        num_pairs=16,
        outer_learning_rate=5e-3,
        num_tasks=16,
        budget=64,
    ),
    "small": _of_run("small", num_seeds=3, num_tasks=100, budget=512),
    "paper": _of_run("paper", num_seeds=5, num_tasks=100, budget=2000),
}


def resolve(config: Config, num_outer_steps: int = 3000) -> Config:
    """Fills in what is None from the scale's sizes.

    Args:
      config: as given.
      num_outer_steps: at the default scale; what ten minutes allow depends on the experiment.

    Raises:
      ValueError: for a count below 1.
    """
    config = at_scale(config, SIZES)
    if config.num_outer_steps is None:
        config = dataclasses.replace(config, num_outer_steps=num_outer_steps)
    for name in (
        "num_seeds",
        "num_outer_steps",
        "num_steps",
        "num_pairs",
        "num_tasks",
        "budget",
        "num_points",
    ):
        if getattr(config, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(config, name)}")
    return config


def run_of(config: Config, objective: str = "validation") -> TrainConfig | None:
    """What `learned-opt train` would run, in a resolved config's sizes; None at the default
    scale.
    """
    if config.scale not in RUNS:
        return None
    run, _ = catalog.load(RUNS[config.scale])
    growth = run.truncation.num_outer_steps / run.num_outer_steps
    changed = {
        "family": {"data_dir": config.data_dir},
        "optimizer": {"preset": _preset(config)},
        "problem": {"num_steps": config.num_steps, "objective": OBJECTIVES[objective]},
        "estimator": {"num_pairs": config.num_pairs},
        "truncation": {
            "start": min(run.truncation.start, config.num_steps),
            "end": config.num_steps,
            "num_outer_steps": max(1, round(growth * config.num_outer_steps)),
        },
        "outer_optimizer": {"learning_rate": config.outer_learning_rate},
    }
    parts = {k: dataclasses.replace(getattr(run, k), **v) for k, v in changed.items()}
    return dataclasses.replace(run, num_outer_steps=config.num_outer_steps, **parts)


class Families(NamedTuple):
    """Outer-training tasks, held-out ones, and what both are made of."""

    outer_train: TaskFamily
    held_out: TaskFamily
    data: ImageData


def families(config: Config) -> Families:
    """Tasks of 5 of 7 digits and of the other 3, or those of the scale's run."""
    if run := run_of(config):
        outer_train, held_out = build_family(run.family)
        return Families(outer_train, held_out, outer_train.data)
    data = digits((0.55, 0.15, 0.15, 0.15))
    train, held_out = class_split(data.num_classes, 7)
    of = lambda classes, number: class_subset_family(
        data, MLP((32,), number), number, classes, batch_size=64
    )
    return Families(of(train, 5), of(held_out, 3), data)


def learned_optimizer(config: Config) -> LearnedOptimizer:
    """The optimizer that is outer-trained."""
    if run := run_of(config):
        return build_optimizer(run.optimizer)[0]
    return mlp(preset=_preset(config))


def _preset(config: Config) -> str | None:
    return None if config.optimizer == "mlp" else config.optimizer


def picking_key(config: Config) -> jax.Array:
    """Of the outer-training tasks that thetas are evaluated on."""
    return jax.random.fold_in(jax.random.key(config.seed), 1)


def reporting_key(config: Config) -> jax.Array:
    """Of the tasks that are reported."""
    return jax.random.fold_in(jax.random.key(config.seed), 2)
