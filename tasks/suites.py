"""Suites of tasks to judge optimizers on: explicit and versioned.

A suite is a list; nothing about it is found out at run time. Held-out classes are those that
`class_split` with its default seed keeps from outer-training (7 of 10 classes are outer-trained on,
as in the configs). Raise a task's version whenever its numbers change, and the suite's whenever its
list or one of its tasks does.
"""

import dataclasses
import difflib
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
from tasks.text import char_family

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

    `axis` says what differs between them, if it is one thing.
    """

    name: str
    version: int
    description: str
    tasks: tuple[SuiteTask, ...]
    axis: str | None = None


def task_key(task: SuiteTask) -> Key:
    """The key its task is drawn with: the same in every evaluation."""
    return jax.random.key(zlib.crc32(task.name.encode()))


def suite(name: str) -> Suite:
    """Looks a suite up.

    Raises:
      ValueError: for an unknown name, with near ones.
    """
    if name not in SUITES:
        near = difflib.get_close_matches(name, SUITES, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known are: {', '.join(SUITES)}"
        raise ValueError(f"unknown suite {name!r}; {hint}")
    return SUITES[name]


def _held_out(data: ImageData, module, batch_size: int) -> TaskFamily:
    classes = class_split(data.num_classes, NUM_TRAIN_CLASSES)[1]
    return class_subset_family(data, module, len(classes), classes, batch_size)


def _digits(hidden_sizes: tuple[int, ...] = (32,), activation: str = "relu") -> TaskFamily:
    """The three held-out digit classes;
    32 is about the largest batch that their smallest split allows.
    """
    return _held_out(
        digits(),
        MLP(hidden_sizes=hidden_sizes, num_classes=3, activation=activation),
        batch_size=32,
    )


def _digits_cnn() -> TaskFamily:
    return _held_out(digits(), ConvNet(features=(16, 32), num_classes=3), batch_size=32)


def _fashion(image_size: int) -> ImageData:
    """2,000 images of a class and 1,000 to test on: more would only take longer to read."""
    return tfds_images("fashion_mnist", image_size=image_size, max_per_class=2000)


def _fashion_mlp(
    image_size: int, hidden_sizes: tuple[int, ...], activation: str = "relu"
) -> TaskFamily:
    data = _fashion(image_size)
    return _held_out(
        data, MLP(hidden_sizes=hidden_sizes, num_classes=3, activation=activation), batch_size=128
    )


def _fashion_cnn(image_size: int) -> TaskFamily:
    data = _fashion(image_size)
    return _held_out(data, ConvNet(features=(16, 16), num_classes=3), batch_size=64)


def _mnist1d(hidden_sizes: tuple[int, ...], activation: str = "relu") -> TaskFamily:
    return _held_out(
        mnist1d(),
        MLP(hidden_sizes=hidden_sizes, num_classes=3, activation=activation),
        batch_size=64,
    )


def _autoencoder() -> TaskFamily:
    return autoencoder_family(digits(), hidden_sizes=(32, 8, 32))


def _quadratic(dim: int) -> TaskFamily:
    return random_quadratic_family(dim, min_curvature=0.01, max_curvature=1.0)


def _task(
    name: str, description: str, build: Callable, *args, num_steps: int = 1000, **options
) -> SuiteTask:
    eval_every = options.pop("eval_every", max(1, num_steps // 100))
    return SuiteTask(
        name, functools.partial(build, *args), num_steps, eval_every, description, **options
    )


def _quick() -> Suite:
    tasks = (
        _task("quick_digits_mlp", "digits, held-out classes, MLP 32", _digits, num_steps=200),
        _task(
            "quick_digits_autoencoder", "digits, autoencoder 32-8-32", _autoencoder, num_steps=200
        ),
        _task(
            "quick_mnist1d_mlp",
            "MNIST-1D, held-out classes, MLP 64, tanh",
            _mnist1d,
            (64,),
            "tanh",
            num_steps=200,
            version=2,
        ),
        _task(
            "quick_quadratic",
            "quadratic, 20 dimensions",
            _quadratic,
            20,
            num_steps=200,
            loss_cap=100.0,
            version=2,
        ),
    )
    return Suite(
        "quick", 2, "Four small tasks, 200 steps each: a first look within two minutes.", tasks
    )


def _heldout() -> Suite:
    tasks = (
        _task("digits_mlp", "digits, held-out classes, MLP 32", _digits),
        _task(
            "digits_mlp_wide_tanh",
            "digits, held-out classes, MLP 128, tanh",
            _digits,
            (128,),
            "tanh",
        ),
        _task(
            "digits_mlp_deep_gelu",
            "digits, held-out classes, MLP 4 x 32, gelu",
            _digits,
            (32,) * 4,
            "gelu",
        ),
        _task(
            "digits_mlp_long",
            "digits, held-out classes, MLP 32, 5,000 steps",
            _digits,
            num_steps=5000,
        ),
        _task("digits_cnn", "digits, held-out classes, CNN 16-32", _digits_cnn),
        _task(
            "mnist1d_mlp",
            "MNIST-1D, held-out classes, MLP 64-64",
            _mnist1d,
            (64, 64),
            num_steps=2000,
            version=2,
        ),
        _task(
            "fashion_mlp",
            "Fashion-MNIST 8x8, held-out classes, MLP 64, silu",
            _fashion_mlp,
            8,
            (64,),
            "silu",
        ),
        _task("fashion_cnn", "Fashion-MNIST 14x14, held-out classes, CNN 16-16", _fashion_cnn, 14),
        _task(
            "digits_autoencoder", "digits, autoencoder 32-8-32, tanh", _autoencoder, num_steps=2000
        ),
        _task(
            "char_transformer",
            "Python help topics, one-block transformer",
            char_family,
            "transformer",
        ),
        _task("char_gru", "Python help topics, GRU 48", char_family, "gru", version=2),
        _task(
            "quadratic",
            "quadratic, 100 dimensions, condition number 100",
            _quadratic,
            100,
            loss_cap=1000.0,
            version=2,
        ),
    )
    about = (
        "Classes, data sets, widths, depths, activations and horizons "
        "that no config outer-trains on."
    )
    return Suite("heldout", 2, about, tasks)


def _width() -> Suite:
    tasks = [
        _task(f"width_{w}", f"digits, held-out classes, MLP {w}", _digits, (w,), axis_value=w)
        for w in (8, 32, 128, 512, 1024)
    ]
    return Suite("width", 1, "One hidden layer, wider and wider.", tuple(tasks), axis="width")


def _depth() -> Suite:
    tasks = [
        _task(
            f"depth_{d}",
            f"digits, held-out classes, MLP {d} x 32",
            _digits,
            (32,) * d,
            axis_value=d,
        )
        for d in (1, 2, 4, 6, 8, 10)
    ]
    return Suite("depth", 2, "Hidden layers of 32, deeper and deeper.", tuple(tasks), axis="depth")


def _horizon() -> Suite:
    tasks = [
        _task(
            f"horizon_{n}",
            f"digits, held-out classes, MLP 32, {n} steps",
            _digits,
            num_steps=n,
            axis_value=n,
        )
        for n in (100, 300, 1000, 3000, 10000)
    ]
    return Suite(
        "horizon",
        1,
        "The same task trained for longer and longer.",
        tuple(tasks),
        axis="inner steps",
    )


def _dataset() -> Suite:
    tasks = (
        _task("dataset_digits", "digits, held-out classes, MLP 32", _digits, axis_value="digits"),
        _task(
            "dataset_fashion",
            "Fashion-MNIST 8x8, MLP 32",
            _fashion_mlp,
            8,
            (32,),
            axis_value="fashion_mnist",
        ),
        _task(
            "dataset_mnist1d",
            "MNIST-1D, held-out classes, MLP 32",
            _mnist1d,
            (32,),
            version=2,
            axis_value="mnist1d",
        ),
    )
    return Suite("dataset", 2, "One hidden layer of 32 on other data.", tasks, axis="data set")


def _architecture() -> Suite:
    tasks = (
        _task("architecture_mlp", "digits, held-out classes, MLP 32", _digits, axis_value="MLP"),
        _task(
            "architecture_cnn", "digits, held-out classes, CNN 16-32", _digits_cnn, axis_value="CNN"
        ),
        _task(
            "architecture_autoencoder",
            "digits, autoencoder 32-8-32",
            _autoencoder,
            axis_value="autoencoder",
        ),
        _task(
            "architecture_transformer",
            "Python help topics",
            char_family,
            "transformer",
            axis_value="transformer",
        ),
        _task(
            "architecture_gru",
            "Python help topics",
            char_family,
            "gru",
            version=2,
            axis_value="GRU",
        ),
        _task(
            "architecture_quadratic",
            "100 dimensions",
            _quadratic,
            100,
            loss_cap=1000.0,
            version=2,
            axis_value="quadratic",
        ),
    )
    return Suite("architecture", 2, "Other inner models.", tasks, axis="architecture")


SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (_quick(), _heldout(), _width(), _depth(), _horizon(), _dataset(), _architecture())
}
