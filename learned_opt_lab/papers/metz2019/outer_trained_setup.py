"""What the figures of outer-trained optimizers share:
sizes, task families, the learned optimizer, keys.

Figures 5 to 7 of arXiv 1810.10180.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax

from learned_opt.per_parameter import mlp
from learned_opt_lab.papers.scales import at_scale
from tasks import TaskFamily
from tasks.images import (
    MLP,
    ConvNet,
    ImageData,
    class_split,
    class_subset_family,
    digits,
    tfds_images,
)

OBJECTIVES = {"validation": "valid", "training": "train"}
"""Name in results -> objective of the inner problem."""
OWN_SPLIT = {"validation": "outer_valid", "training": "train"}
RATES_TUNED = {"adam": "Adam", "rmsprop": "RMSProp", "momentum": "momentum"}
"""Baselines with 11 rates, tuned for each task."""
OVER_TASKS = "adam8"
"""Adam with eight hyperparameters: one configuration for all tasks, found on those of
outer-training. All are tuned against the loss that they are compared on."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes that the experiments share; None stands for the scale's own, in `SIZES`.

    Attributes:
      scale: `"default"` is minutes on two cores: digits, MLP 64-32-5, persistent ES; `"paper"` is
        32x32 ImageNet, 3-layer CNNs, merged RP and ES, truncations growing from 50 to 10,000, and
        meant for accelerators.
      num_seeds: outer-training runs on each objective.
      num_outer_steps: of each run.
      num_steps: inner steps of an episode, in outer-training and after.
      num_pairs: antithetic pairs of each run.
      outer_learning_rate: of Adam.
      num_tasks: task instances evaluated, each tuned for by itself.
      budget: configurations of the random search over Adam's eight hyperparameters.
      num_points: thetas evaluated of a run, after the fresh one.
      data_dir: of tensorflow-datasets.
      seed: of everything.
    """

    scale: Literal["default", "paper"] = "default"
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


SIZES = {
    "default": Config(
        num_seeds=3,
        num_steps=300,
        num_pairs=16,
        outer_learning_rate=5e-3,
        num_tasks=16,
        budget=64,
    ),
    "paper": Config(
        scale="paper",
        num_seeds=5,
        num_outer_steps=10_000,
        num_steps=10_000,
        num_pairs=64,
        outer_learning_rate=1e-5,
        num_tasks=100,
        budget=2000,
    ),
}


def resolve(config: Config, num_outer_steps: int = 1000) -> Config:
    """Fills in what is None from the scale's sizes.

    Args:
      config: as given.
      num_outer_steps: at the default scale; what five minutes allow depends on the experiment.

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


class Families(NamedTuple):
    """Outer-training tasks, held-out ones, and what both are made of."""

    outer_train: TaskFamily
    held_out: TaskFamily
    data: ImageData
    held_out_classes: tuple[int, ...]


def families(config: Config) -> Families:
    """Tasks of 5 of 7 digits and of the other 3, or of 10 of ImageNet's 700 and 300 classes."""
    if config.scale == "paper":
        data = tfds_images("imagenet_resized/32x32", data_dir=config.data_dir)
        num_train, num_classes, held_out_classes, batch_size = 700, 10, 10, 128
        module: Callable = lambda outputs: ConvNet((32, 32, 32), outputs)
    else:
        data = digits((0.55, 0.15, 0.15, 0.15))
        num_train, num_classes, held_out_classes, batch_size = 7, 5, 3, 64
        module = lambda outputs: MLP((32,), outputs)
    train, held_out = class_split(data.num_classes, num_train)
    return Families(
        class_subset_family(data, module(num_classes), num_classes, train, batch_size),
        class_subset_family(data, module(held_out_classes), held_out_classes, held_out, batch_size),
        data,
        held_out,
    )


def learned_optimizer(config: Config):
    """The optimizer that is outer-trained: the paper's, or the library's default."""
    return mlp(preset="metz2019") if config.scale == "paper" else mlp()


def picking_key(config: Config) -> jax.Array:
    """Of the outer-training tasks that thetas are evaluated on."""
    return jax.random.fold_in(jax.random.key(config.seed), 1)


def reporting_key(config: Config) -> jax.Array:
    """Of the tasks that are reported."""
    return jax.random.fold_in(jax.random.key(config.seed), 2)
