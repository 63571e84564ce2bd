"""Suites of tasks to judge optimizers on: explicit and versioned.

A suite is a list; nothing about it is found out at run time. Held-out classes are those that
`class_split` with its default seed keeps from outer-training (7 of 10 classes are outer-trained on,
as in the configs). Raise a task's version whenever its numbers change, and the suite's whenever its
list or one of its tasks does.
"""

import difflib

from tasks.real_suites import real, real_quick
from tasks.suite_tasks import (
    Suite,
    digits_autoencoder,
    digits_cnn,
    digits_mlp,
    fashion_cnn,
    fashion_mlp,
    mnist1d_mlp,
    quadratic,
    suite_task,
)
from tasks.text import char_family


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


def _quick() -> Suite:
    tasks = (
        suite_task(
            "quick_digits_mlp", "digits, held-out classes, MLP 32", digits_mlp, num_steps=200
        ),
        suite_task(
            "quick_digits_autoencoder",
            "digits, autoencoder 32-8-32",
            digits_autoencoder,
            num_steps=200,
        ),
        suite_task(
            "quick_mnist1d_mlp",
            "MNIST-1D, held-out classes, MLP 64, tanh",
            mnist1d_mlp,
            (64,),
            "tanh",
            num_steps=200,
            version=2,
        ),
        suite_task(
            "quick_quadratic",
            "quadratic, 20 dimensions",
            quadratic,
            20,
            num_steps=200,
            loss_cap=100.0,
            version=2,
        ),
    )
    return Suite(
        "quick", 2, "Four small tasks, 200 steps each: a first look within two minutes.", tasks
    )


_HELD_OUT = (
    suite_task("digits_mlp", "digits, held-out classes, MLP 32", digits_mlp),
    suite_task(
        "digits_mlp_wide_tanh",
        "digits, held-out classes, MLP 128, tanh",
        digits_mlp,
        (128,),
        "tanh",
    ),
    suite_task(
        "digits_mlp_deep_gelu",
        "digits, held-out classes, MLP 4 x 32, gelu",
        digits_mlp,
        (32,) * 4,
        "gelu",
    ),
    suite_task(
        "digits_mlp_long",
        "digits, held-out classes, MLP 32, 5,000 steps",
        digits_mlp,
        num_steps=5000,
    ),
    suite_task("digits_cnn", "digits, held-out classes, CNN 16-32", digits_cnn),
    suite_task(
        "mnist1d_mlp",
        "MNIST-1D, held-out classes, MLP 64-64",
        mnist1d_mlp,
        (64, 64),
        num_steps=2000,
        version=2,
    ),
    suite_task(
        "fashion_mlp",
        "Fashion-MNIST 8x8, held-out classes, MLP 64, silu",
        fashion_mlp,
        8,
        (64,),
        "silu",
    ),
    suite_task("fashion_cnn", "Fashion-MNIST 14x14, held-out classes, CNN 16-16", fashion_cnn, 14),
    suite_task(
        "digits_autoencoder",
        "digits, autoencoder 32-8-32, tanh",
        digits_autoencoder,
        num_steps=2000,
    ),
    suite_task(
        "char_transformer",
        "Python help topics, one-block transformer",
        char_family,
        "transformer",
    ),
    suite_task("char_gru", "Python help topics, GRU 48", char_family, "gru", version=2),
    suite_task(
        "quadratic",
        "quadratic, 100 dimensions, condition number 100",
        quadratic,
        100,
        loss_cap=1000.0,
        version=2,
    ),
)


def _heldout() -> Suite:
    about = (
        "Classes, data sets, widths, depths, activations and horizons "
        "that no config outer-trains on."
    )
    return Suite("heldout", 2, about, _HELD_OUT)


def _width() -> Suite:
    tasks = [
        suite_task(
            f"width_{w}", f"digits, held-out classes, MLP {w}", digits_mlp, (w,), axis_value=w
        )
        for w in (8, 32, 128, 512, 1024)
    ]
    return Suite("width", 1, "One hidden layer, wider and wider.", tuple(tasks), axis="width")


def _depth() -> Suite:
    tasks = [
        suite_task(
            f"depth_{d}",
            f"digits, held-out classes, MLP {d} x 32",
            digits_mlp,
            (32,) * d,
            axis_value=d,
        )
        for d in (1, 2, 4, 6, 8, 10)
    ]
    return Suite("depth", 2, "Hidden layers of 32, deeper and deeper.", tuple(tasks), axis="depth")


def _horizon() -> Suite:
    tasks = [
        suite_task(
            f"horizon_{n}",
            f"digits, held-out classes, MLP 32, {n} steps",
            digits_mlp,
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
        suite_task(
            "dataset_digits", "digits, held-out classes, MLP 32", digits_mlp, axis_value="digits"
        ),
        suite_task(
            "dataset_fashion",
            "Fashion-MNIST 8x8, MLP 32",
            fashion_mlp,
            8,
            (32,),
            axis_value="fashion_mnist",
        ),
        suite_task(
            "dataset_mnist1d",
            "MNIST-1D, held-out classes, MLP 32",
            mnist1d_mlp,
            (32,),
            version=2,
            axis_value="mnist1d",
        ),
    )
    return Suite("dataset", 2, "One hidden layer of 32 on other data.", tasks, axis="data set")


def _architecture() -> Suite:
    tasks = (
        suite_task(
            "architecture_mlp", "digits, held-out classes, MLP 32", digits_mlp, axis_value="MLP"
        ),
        suite_task(
            "architecture_cnn", "digits, held-out classes, CNN 16-32", digits_cnn, axis_value="CNN"
        ),
        suite_task(
            "architecture_autoencoder",
            "digits, autoencoder 32-8-32",
            digits_autoencoder,
            axis_value="autoencoder",
        ),
        suite_task(
            "architecture_transformer",
            "Python help topics",
            char_family,
            "transformer",
            axis_value="transformer",
        ),
        suite_task(
            "architecture_gru",
            "Python help topics",
            char_family,
            "gru",
            version=2,
            axis_value="GRU",
        ),
        suite_task(
            "architecture_quadratic",
            "100 dimensions",
            quadratic,
            100,
            loss_cap=1000.0,
            version=2,
            axis_value="quadratic",
        ),
    )
    return Suite("architecture", 2, "Other inner models.", tasks, axis="architecture")


SUITES: dict[str, Suite] = {
    each.name: each
    for each in (
        _quick(),
        _heldout(),
        _width(),
        _depth(),
        _horizon(),
        _dataset(),
        _architecture(),
        real(),
        real_quick(),
    )
}
