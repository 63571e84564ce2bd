"""What suites are made of: tasks by name, and the families that they are drawn from."""

import dataclasses
import functools
import zlib
from collections.abc import Callable

import jax

from tasks.analytic.random_quadratic import random_quadratic_family
from tasks.base import Key, TaskFamily
from tasks.images._mnist1d import mnist1d
from tasks.images.autoencoder import autoencoder_family
from tasks.images.class_subsets import class_split, class_subset_family
from tasks.images.datasets import digits, tfds_images
from tasks.images.image_data import ImageData
from tasks.images.networks import MLP, ConvNet

NUM_TRAIN_CLASSES = 7


@dataclasses.dataclass(frozen=True)
class SuiteTask:
    """One task of a suite.

    Attributes:
      name: unique among all tasks of one version; part of file names.
      build: makes the family; the task itself is the draw with `task_key`. Reads data, so it may
        raise `tasks.images.datasets.DatasetNotPrepared`.
      num_steps: inner steps of a run.
      eval_every: inner steps between measurements.
      description: one line for reports.
      axis_value: where the task stands on the axis of a per-axis suite.
      loss_cap: the worst a loss can count.
      version: raised whenever the task's numbers change.
    """

    name: str
    build: Callable[[], TaskFamily]
    num_steps: int
    eval_every: int
    description: str
    axis_value: float | str | None = None
    loss_cap: float = 10.0
    version: int = 1


@dataclasses.dataclass(frozen=True)
class Suite:
    """A named, versioned list of tasks.

    Attributes:
      name: of the suite.
      version: raised whenever its tasks change.
      description: one line for reports.
      tasks: of it.
      axis: what differs between them, if it is one thing.
      num_seeds: runs of each task that an evaluation reports unless it is told otherwise.
      num_tuning_seeds: the same of each configuration in a search.
      budgets: the same of configurations in the league of equal budgets.
      leagues: that it runs; without any, each baseline has a search of its own.
    """

    name: str
    version: int
    description: str
    tasks: tuple[SuiteTask, ...]
    axis: str | None = None
    num_seeds: int = 5
    num_tuning_seeds: int = 3
    budgets: tuple[int, ...] = (1, 5, 11, 64)
    leagues: tuple[str, ...] = ()


def task_key(task: SuiteTask) -> Key:
    """The key its task is drawn with: the same in every evaluation."""
    return jax.random.key(zlib.crc32(task.name.encode()))


def _held_out(data: ImageData, module, batch_size: int) -> TaskFamily:
    classes = class_split(data.num_classes, NUM_TRAIN_CLASSES)[1]
    return class_subset_family(data, module, len(classes), classes, batch_size)


def digits_mlp(hidden_sizes: tuple[int, ...] = (32,), activation: str = "relu") -> TaskFamily:
    """The three held-out digit classes;
    32 is about the largest batch that their smallest split allows.
    """
    return _held_out(
        digits(),
        MLP(hidden_sizes=hidden_sizes, num_classes=3, activation=activation),
        batch_size=32,
    )


def digits_cnn() -> TaskFamily:
    """The three held-out digit classes, by a CNN."""
    return _held_out(digits(), ConvNet(features=(16, 32), num_classes=3), batch_size=32)


def _fashion(image_size: int) -> ImageData:
    """2,000 images of a class and 1,000 to test on: more would only take longer to read."""
    return tfds_images("fashion_mnist", image_size=image_size, max_per_class=2000)


def fashion_mlp(
    image_size: int, hidden_sizes: tuple[int, ...], activation: str = "relu"
) -> TaskFamily:
    """Three held-out classes of Fashion-MNIST, by an MLP."""
    data = _fashion(image_size)
    return _held_out(
        data, MLP(hidden_sizes=hidden_sizes, num_classes=3, activation=activation), batch_size=128
    )


def fashion_cnn(image_size: int) -> TaskFamily:
    """Three held-out classes of Fashion-MNIST, by a CNN."""
    data = _fashion(image_size)
    return _held_out(data, ConvNet(features=(16, 16), num_classes=3), batch_size=64)


def mnist1d_mlp(hidden_sizes: tuple[int, ...], activation: str = "relu") -> TaskFamily:
    """The three held-out classes of MNIST-1D, by an MLP."""
    return _held_out(
        mnist1d(),
        MLP(hidden_sizes=hidden_sizes, num_classes=3, activation=activation),
        batch_size=64,
    )


def digits_autoencoder() -> TaskFamily:
    """Digits by way of eight numbers."""
    return autoencoder_family(digits(), hidden_sizes=(32, 8, 32))


def quadratic(dim: int) -> TaskFamily:
    """Quadratics of condition number 100 at most."""
    return random_quadratic_family(dim, min_curvature=0.01, max_curvature=1.0)


def suite_task(
    name: str, description: str, build: Callable, *args, num_steps: int = 1000, **options
) -> SuiteTask:
    """The task whose family `build(*args)` makes; measured a hundred times if not told."""
    eval_every = options.pop("eval_every", max(1, num_steps // 100))
    return SuiteTask(
        name, functools.partial(build, *args), num_steps, eval_every, description, **options
    )
