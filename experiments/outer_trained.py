"""Learned optimizers outer-trained for figures 5 to 7 of arXiv 1810.10180, and Adam tuned on the same runs.

Several seeds on each objective, side by side; the optimizer that is shown is the one with the lowest outer-training
loss, its own objective on the outer-training family. No held-out loss has a part in that choice.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from evaluation.baselines import baseline
from evaluation.held_out import LOSS_CAP, cap_losses
from evaluation.sweep import Runs, make_runs, make_sweep
from evaluation.timing import time_training
from experiments.scales import at_scale
from learned_opt.mlp import mlp
from outer_train import estimators, truncation
from outer_train.devices import PARTICLES, particle_mesh
from outer_train.problem import inner_problem
from outer_train.side_by_side import SeedsResult, outer_step_of_seeds, train_seeds
from tasks.base import TaskFamily
from tasks.classifiers import MLP, ConvNet
from tasks.datasets import digits, tfds_images
from tasks.families import class_split, class_subset_family
from tasks.image_data import ImageData

OBJECTIVES = {"validation": "valid", "training": "train"}
"""Name in results -> objective of the inner problem."""
OWN_SPLIT = {"validation": "outer_valid", "training": "train"}
BASELINES = {"adam": "Adam, 11 rates", "adam8": "Adam, 8 hyperparameters"}


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes that the experiments share; None stands for the scale's own, in `SIZES`.

    Attributes:
      scale: `"default"` is minutes on two cores: digits, MLP 64-32-5, persistent ES; `"paper"` is 32x32 ImageNet,
        3-layer CNNs, merged RP and ES, truncations growing from 50 to 10,000, and meant for accelerators.
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
    for name in ("num_seeds", "num_outer_steps", "num_steps", "num_pairs", "num_tasks", "budget", "num_points"):
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
        module: Callable = lambda outputs: ConvNet((32, 32, 32), outputs)  # noqa: E731
    else:
        data = digits((0.55, 0.15, 0.15, 0.15))
        num_train, num_classes, held_out_classes, batch_size = 7, 5, 3, 64
        module = lambda outputs: MLP((32,), outputs)  # noqa: E731
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


def outer_train(
    config: Config,
    family: TaskFamily,
    objective: str,
    outer_optimizer: optax.GradientTransformation | None = None,
    num_seeds: int | None = None,
) -> SeedsResult:
    """Outer-trains all seeds on one objective.

    Args:
      config: resolved.
      family: the tasks.
      objective: a key of `OBJECTIVES`.
      outer_optimizer: the scale's own if None.
      num_seeds: the config's if None.
    """
    optimizer = learned_optimizer(config)
    kwargs = {"num_loss_batches": 5} if config.scale == "paper" else {}
    problem = inner_problem(family, optimizer, config.num_steps, OBJECTIVES[objective], loss_clip=LOSS_CAP, **kwargs)
    if config.scale == "paper":
        schedule = truncation.linear(min(50, config.num_steps), config.num_steps, max(1, config.num_outer_steps // 2))
        kind = estimators.merged
    else:
        schedule, kind = truncation.constant(min(20, config.num_steps)), estimators.persistent_es
    longest = min(schedule.max_num_steps, config.num_steps)
    estimator = kind(problem, config.num_pairs, 0.01, PARTICLES, max_num_steps=longest, stagger=True)
    seeds = range(num_seeds or config.num_seeds)
    key_theta, key_run = jax.random.split(jax.random.key(config.seed))
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key_theta, np.asarray(seeds, np.int32))
    outer_optimizer = outer_optimizer or default_outer_optimizer(config)
    step = outer_step_of_seeds([estimator], outer_optimizer, schedule, particle_mesh(config.num_pairs), seeds)
    thetas = jax.device_get(jax.vmap(optimizer.init)(keys))
    datas = step.place_data((family.data,))
    return train_seeds(step, thetas, key_run, datas, config.num_outer_steps, config.num_points)


def default_outer_optimizer(config: Config) -> optax.GradientTransformation:
    """The paper's code's clip by value and constant rate, or a clip by norm and a half cosine."""
    if config.scale == "paper":
        return optax.chain(optax.clip(0.1), optax.adam(config.outer_learning_rate, b1=0.5))
    schedule = optax.cosine_decay_schedule(config.outer_learning_rate, config.num_outer_steps, 0.1)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))


class Evaluator(NamedTuple):
    """Runs thetas and baselines on the same runs of one family.

    Attributes:
      family: of the tasks.
      runs: their keys.
      num_steps: inner steps.
      every: inner steps between two measurements.
    """

    family: TaskFamily
    runs: Runs
    num_steps: int
    every: int

    def learned(self, config: Config) -> Callable[[Any], dict[str, NDArray]]:
        """`thetas, leaves [n, ...] -> split -> capped losses [n, runs, points]`; one compilation."""
        sweep = self._sweep(learned_optimizer(config).optimizer)
        return lambda thetas: _losses(sweep(thetas, self.runs))

    def tuned(self, name: str, budget: int, seed: int) -> "Tuned":
        """A baseline with its best configuration for each run, by the mean `outer_valid` loss of the very run."""
        entry = baseline(name)
        configurations = entry.configurations(budget, seed)
        sweep = self._sweep(entry.factory)
        number = len(next(iter(configurations.values())))
        parts = []
        for start in range(0, number, CHUNK):
            rows = np.minimum(np.arange(start, start + min(CHUNK, number)), number - 1)
            parts.append(_losses(sweep({k: v[rows] for k, v in configurations.items()}, self.runs)))
        losses = {split: np.concatenate([part[split] for part in parts])[:number] for split in parts[0]}
        chosen = losses["outer_valid"][..., 1:].mean(axis=-1).argmin(axis=0)
        runs = np.arange(len(chosen))
        values = {k: [float(v[i]) for i in chosen] for k, v in configurations.items()}
        common = int(losses["outer_valid"][..., 1:].mean(axis=(1, 2)).argmin())
        hyperparameters = {k: jnp.float32(v[common]) for k, v in configurations.items()}
        return Tuned({split: each[chosen, runs] for split, each in losses.items()}, values, hyperparameters, losses)

    def _sweep(self, factory):
        splits = ("train", "outer_valid", "test")
        return make_sweep(self.family, factory, num_steps=self.num_steps, splits=splits, eval_every=self.every)


CHUNK = 32
"""Configurations that run at once."""


class Tuned(NamedTuple):
    """A baseline after its search.

    Attributes:
      losses: split -> `[runs, points]`, each run with the configuration that is best for it.
      chosen: hyperparameter -> its value in each run.
      common: the configuration that is best on average, to time a step of.
      all_losses: split -> `[configurations, runs, points]`.
    """

    losses: dict[str, NDArray]
    chosen: dict[str, list[float]]
    common: dict[str, Any]
    all_losses: dict[str, NDArray]


def evaluator(family: TaskFamily, key: jax.Array, num_tasks: int, num_steps: int) -> Evaluator:
    """Measures about 60 times a run, on `num_tasks` tasks drawn from the family."""
    every = max(e for e in range(1, max(1, num_steps // 60) + 1) if num_steps % e == 0)
    return Evaluator(family, make_runs(key, num_tasks), num_steps, every)


def _losses(curves) -> dict[str, NDArray]:
    return {split: cap_losses(metrics["loss"], LOSS_CAP) for split, metrics in curves.items()}


def own_losses(losses: dict[str, NDArray], objective: str) -> NDArray:
    """Mean over episode and tasks of what was descended, `[n]`: the outer-training loss that seeds are chosen by."""
    return losses[OWN_SPLIT[objective]][..., 1:].mean(axis=(-2, -1))


class Picked(NamedTuple):
    """The seeds of one objective, and the one that is shown.

    Attributes:
      thetas: after outer-training, leaves `[seeds, ...]`.
      outer_losses: `[seeds]`, see `own_losses`.
      index: of the lowest.
    """

    thetas: Any
    outer_losses: NDArray
    index: int

    @property
    def theta(self) -> Any:
        """The one that is shown, leaves `[1, ...]`."""
        return jax.tree.map(lambda leaf: leaf[self.index : self.index + 1], self.thetas)

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {"picked_by": "outer_loss", "picked_seed": self.index, "outer_loss": self.outer_losses.tolist()}


def outer_train_and_pick(config: Config, made: Families) -> dict[str, Picked]:
    """Outer-trains the seeds on each objective, and picks by the outer-training loss."""
    on_outer_train = evaluator(made.outer_train, picking_key(config), config.num_tasks, config.num_steps)
    run = on_outer_train.learned(config)
    picked = {}
    for objective in OBJECTIVES:
        trained = outer_train(config, made.outer_train, objective)
        thetas = jax.tree.map(lambda leaf: leaf[-1], trained.thetas)
        losses = own_losses(run(thetas), objective)
        picked[objective] = Picked(thetas, losses, int(losses.argmin()))
    return picked


def picking_key(config: Config) -> jax.Array:
    """Of the outer-training tasks that thetas are evaluated on."""
    return jax.random.fold_in(jax.random.key(config.seed), 1)


def reporting_key(config: Config) -> jax.Array:
    """Of the tasks that are reported."""
    return jax.random.fold_in(jax.random.key(config.seed), 2)


def seconds_per_step(config: Config, on: Evaluator, theta: Any, tuned: dict[str, Tuned]) -> dict[str, float]:
    """Of one run alone: the learned optimizer with its overhead, and each baseline."""
    one = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), theta)
    found = {"learned": time_training(on.family, learned_optimizer(config).optimizer, one, on.runs)}
    for name, each in tuned.items():
        found[name] = time_training(on.family, baseline(name).factory, each.common, on.runs)
    return {name: timing.seconds_per_step for name, timing in found.items()}
