"""Figures 5 to 7 of arXiv 1810.10180 in small:
what is picked and by what, tuning on each run, numbers of the results.

Outer-training is replaced by given thetas, and but for one test inner training by given losses; the
slow tests run all.
"""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.base import Mlp
from learned_opt_lab.cli.main import main
from learned_opt_lab.papers.metz2019 import (
    held_out_curves,
    out_of_distribution,
    outer_trained,
    outer_trained_evaluation,
    outer_training_curves,
)
from learned_opt_lab.papers.metz2019.outer_trained_evaluation import Evaluator, Searched
from learned_opt_lab.papers.metz2019.outer_trained_setup import (
    RUNS,
    Config,
    families,
    learned_optimizer,
    resolve,
    run_of,
)
from learned_opt_lab.papers.registry import EXPERIMENTS
from learned_opt_lab.runs import catalog
from outer_train.side_by_side import SeedsResult

SMALL = Config(
    num_seeds=2, num_outer_steps=4, num_steps=20, num_pairs=2, num_tasks=4, budget=3, num_points=2
)
SECONDS = {"learned": 2e-3, "adam": 1e-3, "rmsprop": 1e-3, "momentum": 1e-3, "adam8": 1e-3}
NAMES = ("outer_training_curves", "held_out_curves", "out_of_distribution")


def thetas_of(config, num_seeds):
    """Seed 0 is fresh; seed 1 follows the gradient over its root mean square,
    as Adam at a rate of about .01 does.
    """
    optimizer = learned_optimizer(config)
    fresh = optimizer.init(jax.random.key(0))
    adam = jax.tree.map(jnp.zeros_like, fresh)
    # Inputs: parameter, gradient, five momenta; momentum .9 through two ReLUs, up and down.
    adam["layer_0"]["weights"] = adam["layer_0"]["weights"].at[3, :2].set(jnp.array([1.0, -1.0]))
    adam["layer_1"]["weights"] = adam["layer_1"]["weights"].at[:2, 0].set(jnp.array([10.0, -10.0]))
    return jax.tree.map(
        lambda a, b: np.stack([np.asarray(a), np.asarray(b)][:num_seeds]), fresh, adam
    )


def fake_training(config, family, objective, cells, outer_optimizer=None, num_seeds=None):
    num_seeds = num_seeds or config.num_seeds
    last = thetas_of(config, num_seeds)
    first = jax.tree.map(lambda leaf: np.stack([leaf[0]] * num_seeds), last)
    return SeedsResult(
        thetas=jax.tree.map(lambda a, b: np.stack([a, b]), first, last),
        points=np.array([0, 4]),
        outer_loss=np.ones((4, num_seeds), np.float32),
        inner_steps=80 * np.arange(1, 5)[:, None] * np.ones((1, num_seeds), int),
        seconds=np.array([8.0]),
    )


@pytest.fixture
def without_outer_training(monkeypatch):
    monkeypatch.setattr(outer_trained, "outer_train", fake_training)


@pytest.fixture
def without_inner_training(monkeypatch):
    """Losses of 1 for the fresh theta, of .5 for the other; the rates' 0.7 tuned, 0.9 at 1e-3;
    adam8 0.6.
    """

    def curves(levels, on):
        points = on.num_steps // on.every + 1
        return {
            split: np.multiply.outer(levels, np.ones((4, points)))
            for split in ("train", "outer_valid", "test")
        }

    def learned(on, config):
        return lambda thetas: curves(
            np.where(thetas["layer_1"]["weights"].max(axis=(1, 2)) == 10.0, 0.5, 1.0), on
        )

    def searched(on, name, budget, seed, cells):
        levels = np.full(budget, 0.6)
        if name != "adam8":
            levels = np.array([1.0, 1.0, 0.9, 0.7, *[2.0] * 7])
        return Searched({"learning_rate": np.arange(len(levels))}, curves(levels, on))

    def given(on, name, configurations, cells, piece):
        return curves(np.full(len(configurations["learning_rate"]), 0.6), on)

    monkeypatch.setattr(Evaluator, "learned", learned)
    monkeypatch.setattr(Evaluator, "searched", searched)
    monkeypatch.setattr(Evaluator, "given", given)


@pytest.fixture
def given_seconds(monkeypatch):
    """A learned step takes twice Adam's time."""
    monkeypatch.setattr(outer_trained_evaluation, "seconds_per_step", lambda *_: SECONDS)


def test_held_out_curves(without_outer_training, without_inner_training, given_seconds, tmp_path):
    result = held_out_curves.run(SMALL, tmp_path)
    rows = result["optimizers"]
    assert {name: row["final_test_loss"] for name, row in rows.items()} == pytest.approx(
        {"validation": 0.5, "training": 0.5, "adam8": 0.6}
        | dict.fromkeys(("adam", "rmsprop", "momentum"), 0.7)
    )
    # Flat curves are at Adam's best from the start:
    # at step 0, where the ratio counts one measurement of Adam.
    assert rows["validation"]["tasks_reaching_adams_best"] == 4
    assert rows["validation"]["seconds_per_step"] == 2e-3
    assert result["outer_training"]["training"] == {
        "picked_by": "outer_loss", "picked_seed": 1, "outer_loss": [1.0, 0.5]
    }  # fmt: skip
    assert result["differences"]["adam"]["values"] == pytest.approx([0.2] * 4)
    assert result["differences"]["adam"]["share_of_tasks_learned_is_lower"] == 1
    assert result["differences"]["training"]["estimate"] == 0
    assert result["validation_against_training_objective"]["final"]["validation"] == pytest.approx(
        0.75
    )
    assert (tmp_path / "held_out_curves.png").stat().st_size > 10_000


@pytest.mark.slow
def test_held_out_curves_of_real_runs(without_outer_training, monkeypatch, tmp_path):
    monkeypatch.setattr(
        outer_trained_evaluation,
        "seconds_per_step",
        lambda *_: SECONDS,
    )
    result = held_out_curves.run(SMALL, tmp_path)
    for objective in ("validation", "training"):
        assert result["outer_training"][objective]["picked_seed"] == 1
        assert np.argmin(result["outer_training"][objective]["outer_loss"]) == 1
    rows = result["optimizers"]
    curves = np.load(tmp_path / "curves.npz")
    assert curves["validation/test"].shape == (4, 21)
    # The same theta on the same tasks and batches, whatever it was outer-trained on.
    np.testing.assert_allclose(curves["training/test"], curves["validation/test"])
    assert result["validation_against_training_objective"]["episode"]["difference"][
        "estimate"
    ] == pytest.approx(0)
    assert rows["validation"]["test_loss"] == pytest.approx(curves["validation/test"][:, 1:].mean())
    differences = (curves["adam/test"] - curves["validation/test"])[:, 1:].mean(axis=1)
    np.testing.assert_allclose(result["differences"]["adam"]["values"], differences)
    assert (
        result["differences"]["adam"]["share_of_tasks_learned_is_lower"] == (differences > 0).mean()
    )
    assert rows["adam"]["median_steps_ratio"] == pytest.approx(1)
    assert rows["adam"]["median_seconds_ratio"] == pytest.approx(1)
    assert rows["adam"]["tasks_reaching_adams_best"] == 4
    assert len(result["chosen"]["adam"]["validation"]["learning_rate"]) == 4
    # One configuration for all tasks.
    assert np.ndim(result["chosen"]["adam8"]["training"]["learning_rate"]) == 0
    assert json.loads((tmp_path / "result.json").read_text())["num_tasks"] == 4
    assert (tmp_path / "held_out_curves.png").stat().st_size > 10_000


def test_outer_training_curves(without_outer_training, without_inner_training, tmp_path):
    result = outer_training_curves.run(SMALL, tmp_path)
    for objective in ("validation", "training"):
        row = result["objectives"][objective]
        assert (row["picked_seed"], row["outer_loss"], row["untrained"]) == (
            1,
            [1.0, 0.5],
            [1.0, 1.0],
        )
        # Two seeds shared eight seconds.
        assert (row["inner_steps"], row["seconds"]) == (320, 4.0)
        assert (row["adam"], row["adam8"]) == (pytest.approx(0.7), pytest.approx(0.6))
    curves = np.load(tmp_path / "curves.npz")
    np.testing.assert_array_equal(curves["validation/outer_loss"], [[1.0, 1.0], [1.0, 0.5]])
    assert {len(row["outer_loss"]) for row in result["outer_optimizers"].values()} == {2}
    assert next(iter(result["outer_optimizers"])) == "Adam"
    assert (tmp_path / "outer_training_curves.png").stat().st_size > 10_000


def test_out_of_distribution_shifts_build():
    shifts = out_of_distribution.shifts(resolve(SMALL))
    data = families(resolve(SMALL)).data
    sizes = {}
    for name, shift in shifts.items():
        params = jax.eval_shape(
            lambda key, m=shift.module: m.init(key, jnp.zeros((1, *data.image_shape))),
            jax.random.key(0),
        )
        sizes[name] = [leaf.size for leaf in jax.tree.leaves(params)]
    assert len(sizes["deeper"]) == 8  # three hidden layers and the last, kernel and bias
    assert max(sizes["wider"]) == 64 * 320 == 10 * 64 * 32
    assert len(sizes["cnn_6"]) == 14
    assert shifts["longer"].horizon == 10


def test_out_of_distribution(without_outer_training, without_inner_training, tmp_path):
    result = out_of_distribution.run(SMALL, tmp_path)
    assert list(result["shifts"]) == ["wider", "deeper", "cnn_6", "longer"]
    for name, row in result["shifts"].items():
        assert row["num_steps"] == (200 if name == "longer" else 20)
        found = {
            optimizer: row[optimizer]["final_test_loss"]
            for optimizer in ("validation", "adam", "adam_1e-3")
        }
        assert found == {
            "validation": 0.5,
            "adam": pytest.approx(0.7),
            "adam_1e-3": pytest.approx(0.9),
        }
        assert row["no_worse_than_untuned_adam"]
        assert row["validation"]["diverged"] == 0
    assert result["outer_training"]["validation"] == {
        "picked_by": "outer_loss", "picked_seed": 1, "outer_loss": [1.0, 0.5]
    }  # fmt: skip


@pytest.mark.parametrize("scale", ["small", "paper"])
def test_a_scale_with_the_papers_method_is_a_config_that_train_has(scale):
    config = resolve(Config(scale=scale))
    assert run_of(config) == catalog.load(RUNS[scale])[0]
    assert run_of(config, "training").problem.objective == "train"
    assert run_of(resolve(Config(scale=scale, optimizer="mlp"))).optimizer == Mlp()
    assert run_of(resolve(SMALL)) is None


def test_the_papers_method_builds_in_small(fashion_mnist_dir):
    """3 of 5 classes, and of the other 5; the merged estimator over truncations that grow."""
    few = dataclasses.replace(SMALL, scale="small", data_dir=str(fashion_mnist_dir))
    config = resolve(few)
    made = families(config)
    assert made.data.image_shape == (14, 14, 1)
    for family in (made.outer_train, made.held_out):
        task = family.task(family.sample(jax.random.key(0)))
        params = jax.eval_shape(task.init, jax.random.key(1))
        shapes = {leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim > 1}
        assert shapes == {(3, 3, 1, 16), (3, 3, 16, 16), (16, 3)}
    training = outer_trained.outer_training(config, made.outer_train, "training")
    step, thetas = training.step([0, 1]), training.thetas([0, 1])
    state = jax.eval_shape(step.init, thetas, training.key)
    _, metrics = jax.eval_shape(step.step, state, training.key, (made.data,))
    assert "weight_reparameterization" in metrics
    assert list(out_of_distribution.shifts(config)) == ["cnn_6"]


def test_names_and_bad_input(tmp_path, capsys):
    assert set(NAMES) <= EXPERIMENTS.keys()
    with pytest.raises(ValueError, match="num_seeds must be at least 1, got 0"):
        resolve(Config(num_seeds=0))
    assert (
        main(["reproduce", "held_out_curves", "--out", str(tmp_path / "o"), "--num-tasks", "0"])
        == 2
    )
    assert "num_tasks must be at least 1" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.mark.usefixtures("optimized")
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_with_outer_training(name, tmp_path):
    sizes = [
        "--num-outer-steps",
        "4",
        "--num-steps",
        "20",
        "--num-pairs",
        "2",
        "--num-tasks",
        "4",
        "--budget",
        "3",
    ]
    command = [
        "reproduce",
        name,
        "--out",
        str(tmp_path / name),
        "--num-points",
        "2",
        "--num-seeds",
        "2",
        *sizes,
    ]
    assert main(command) == 0
    assert json.loads((tmp_path / name / "result.json").read_text())["scale"] == "default"
