"""The parts of the schedule experiments against plain loops and closed forms;
the experiments at small size.
"""

import functools
import json
import os

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_lab.papers.donini2019 import (
    image_classification_figures,
    image_classification_schedules,
    image_models,
    lr_schedules,
)
from learned_opt_lab.papers.donini2019.hand_schedules import hand_schedule
from learned_opt_lab.papers.donini2019.lr_schedules_summary import (
    json_ready,
    summary,
    where_decayed,
    widest_stretch,
)
from learned_opt_lab.papers.schedule_runs import Recording, over_runs, rows_of, split_rows, train
from tasks.base import Task
from tasks.images.datasets import digits


def regression_task():
    def sample_batch(data, key, split):
        del split
        return jax.random.normal(key, (4, 2)) * data

    return Task(
        init=lambda key: jax.random.normal(key, (2,)),
        loss=lambda params, key, batch: (jnp.mean((batch @ params - 1.0) ** 2), {}),
        sample_batch=sample_batch,
    )


def test_train_is_a_plain_optax_loop_for_every_run_of_the_axis():
    task, tx = regression_task(), optax.sgd(0.1, momentum=0.9)

    def one(key, data):
        measure = lambda params, model_state, data: {"params": params}
        objective = lambda params, model_state, key, data: jnp.sum(params**2)
        recording = Recording(lambda state, i: 0.1 * i.astype(jnp.float32), measure, num_points=2)
        return train(task, objective, tx, recording, data, key, 6)

    keys = jax.random.split(jax.random.key(0), 3)
    at_once, in_turn = (
        over_runs(one, one_by_one=flag)(keys, jnp.float32(2)) for flag in (False, True)
    )
    assert at_once.measures["params"].shape == (3, 2, 2)
    np.testing.assert_allclose(at_once.rates[0], 0.1 * np.arange(6), rtol=1e-6)
    np.testing.assert_allclose(at_once.measures["params"], in_turn.measures["params"], rtol=1e-5)
    for i, key in enumerate(keys):
        key_init, key_steps = jax.random.split(key)
        params = task.init(key_init)
        state = tx.init(params)
        for t in range(6):
            key_batch, _, _ = jax.random.split(jax.random.fold_in(key_steps, t), 3)
            batch = task.sample_batch(jnp.float32(2), key_batch, "train")
            loss, grads = jax.value_and_grad(lambda p, batch=batch: task.loss(p, None, batch)[0])(
                params
            )
            np.testing.assert_allclose(at_once.losses[i, t], loss, rtol=1e-5)
            updates, state = tx.update(grads, state)
            params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(at_once.measures["params"][i, -1], params, rtol=1e-5)


def test_calling_over_runs_again_compiles_nothing():
    traced = []

    def one(x, data):
        traced.append(x)
        return x * data

    program = over_runs(one)
    for scale in (1.0, 2.0):
        np.testing.assert_array_equal(
            program(jnp.arange(3.0), jnp.float32(scale)), scale * np.arange(3)
        )
    assert len(traced) == 1


def test_split_rows_cover_a_split_or_every_class_of_it():
    data = digits()
    whole = rows_of(data, split_rows(data, "inner_valid"))
    assert len(whole["label"]) == int(data.counts[1].sum())
    few = rows_of(data, split_rows(data, "test", 40))
    assert len(few["label"]) == 40
    assert set(np.asarray(few["label"])) == set(range(10))


def test_summary_by_hand():
    runs = {
        "accuracy": np.array([[0.5, 0.5], [0.9, 0.92], [0.93, 0.91], [0.1, 0.1]]),
        "test_accuracy": np.zeros((4, 2)),
        "loss": np.array([[1.0, 3.0], [1.0, 1.0], [1.0, 1.0], [np.nan, 1.0]]),
        "rates": np.full((4, 2, 20), 0.2) * np.linspace(1, 0.05, 20),
    }
    row = summary((1e-4, 1e-3, 1e-2, 1e-1), runs, 0.2)
    assert row["best_hyper_learning_rate"] == 1e-2
    assert row["usable_decades"] == pytest.approx(1)
    assert row["loss"][0] == 2
    np.testing.assert_allclose(row["lowest_rate_over_first"], 0.05)
    np.testing.assert_allclose(row["last_rates_over_first"], 0.075)
    assert json_ready(row)["loss"][3] is None
    decay = where_decayed(row)
    assert decay["at_the_best"]
    np.testing.assert_allclose(
        [r["below_best"] for r in decay["where"]], [0.42, 0.01, 0, 0.82], atol=1e-12
    )
    assert where_decayed(row, below=0.04) == {"below": 0.04, "at_the_best": False, "where": []}


def test_widest_stretch_is_the_longest_run_of_neighbours():
    positions = np.array([-3.0, -2.0, -1.0, 0.0, 0.5, 2.0])
    assert widest_stretch(positions, np.array([1, 1, 0, 1, 1, 1], bool)) == 2
    assert widest_stretch(positions, np.array([0, 0, 1, 0, 0, 0], bool)) == 0


@pytest.mark.parametrize(
    ("name", "epochs", "expected"),
    [
        ("exponential", (0, 1, 100), (0.1, 0.099, 0.1 * 0.99**100)),
        ("staircase", (0, 59, 60, 150), (0.1, 0.1, 0.01, 0.001)),
        ("SGDR", (0, 5, 10, 20, 30, 70), (0.1, 0.05, 0.1, 0.05, 0.1, 0.1)),
    ],
)
def test_hand_schedules_in_epochs(name, epochs, expected):
    schedule = hand_schedule(name, 0.1, num_steps=2000)
    rates = [float(schedule(jnp.int32(10 * epoch))) for epoch in epochs]
    np.testing.assert_allclose(rates, expected, rtol=1e-3)


def test_conv3x3_is_a_convolution():
    images = jax.random.normal(jax.random.key(0), (2, 7, 7, 3))
    for stride in (1, 2):
        module = image_models.Conv3x3(4, stride)
        params = module.init(jax.random.key(1), images)
        kernel = params["params"]["kernel"].reshape(3, 3, 3, 4)
        reference = nn.Conv(4, (3, 3), strides=stride, padding=1, use_bias=False)
        expected = reference.apply({"params": {"kernel": kernel}}, images)
        np.testing.assert_allclose(module.apply(params, images), expected, rtol=1e-4, atol=1e-5)


def test_paper_networks_have_the_known_sizes():
    """Without biases of convolutions: VGG-11 9.2 M, ResNet-18 11.2 M parameters at 32x32x3."""
    images, key = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32), jax.random.key(0)
    for module, expected in (
        (image_models.VGG(num_classes=10), 9.23e6),
        (image_models.ResNet(num_classes=100), 11.22e6),
    ):
        shapes = jax.eval_shape(functools.partial(module.init, train=False), key, images)
        count = sum(x.size for x in jax.tree.leaves(shapes["params"]))
        assert count == pytest.approx(expected, rel=2e-3)


def test_bad_configs_are_refused(tmp_path):
    with pytest.raises(ValueError, match="num_seeds must be the largest"):
        lr_schedules.run(lr_schedules.Config(num_seeds=2), tmp_path)
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        lr_schedules.run(lr_schedules.Config(num_steps=0), tmp_path)
    with pytest.raises(ValueError, match=r"settings are vgg_sgdm and resnet_adam, got \['lstm'\]"):
        image_classification_schedules.run(
            image_classification_schedules.Config(settings=("lstm",)), tmp_path
        )


@pytest.mark.parametrize(
    ("given", "sizes"),
    [
        ({}, (8, 600, None, 32, 12)),
        ({"num_epochs": 2}, (8, None, 2, 32, 12)),
        ({"scale": "small"}, (28, None, 5, 128, 6)),
        ({"scale": "paper", "num_seeds": 1}, (None, None, 200, 128, 1)),
    ],
)
def test_sizes_of_a_scale_are_those_that_are_not_given(given, sizes):
    config = image_classification_schedules.resolve(image_classification_schedules.Config(**given))
    names = ("image_size", "num_steps", "num_epochs", "batch_size", "num_seeds")
    assert tuple(getattr(config, name) for name in names) == sizes


@pytest.mark.usefixtures("optimized")
def test_lr_schedules_at_small_size(tmp_path):
    """MARTHE learns faster than the constant rate it starts from,
    and LRS-OPT ends lowest on its seeds.
    """
    config = lr_schedules.Config(
        num_steps=128,
        num_seeds=3,
        num_lrs_seeds=3,
        num_lrs_iterations=60,
        hyper_learning_rates=(1e-6, 1e-5),
        num_sensitivity_seeds=1,
        first_rates=(0.01, 0.1),
        mus=(0.0, 1.0),
    )
    result = lr_schedules.run(config, tmp_path)
    assert json.loads((tmp_path / "result.json").read_text()) == json.loads(json.dumps(result))
    assert (tmp_path / "figure_2.png").exists()
    assert (tmp_path / "sensitivity.png").exists()
    assert result["online"]["MARTHE"]["best_accuracy"] > result["constant"]["accuracy"] + 0.1
    assert result["lrs_opt"]["loss"] < min(result["lrs_opt"]["online_losses_on_its_seeds"].values())


@pytest.mark.usefixtures("optimized")
@pytest.mark.skipif(not os.environ.get("TFDS_DATA_DIR"), reason="TFDS_DATA_DIR is not set")
def test_image_classification_at_small_size(tmp_path):
    config = image_classification_schedules.Config(
        image_size=8,
        num_steps=100,
        batch_size=32,
        num_seeds=2,
        num_tuning_seeds=1,
        num_points=2,
        num_search_steps=20,
        max_examples=500,
    )
    result = image_classification_schedules.run(config, tmp_path)
    for setting in config.settings:
        methods = result[setting]["methods"]
        assert set(methods) == set(image_classification_figures.STYLES)
        trials = {name: len(row["trials"]) for name, row in methods.items()}
        assert trials.pop("MARTHE untuned") == 1
        assert set(trials.values()) == {6}
        for marthe in ("marthe", "marthe_untuned"):
            assert {"HD", "RTHO", "SGDR"} < set(result[setting][marthe]["against"])
        assert 2 < result[setting]["step_costs"]["MARTHE"]["flops_over_fixed"] < 6
        assert methods["MARTHE"]["accuracy"] > 0.4
        assert (tmp_path / f"{setting}.png").exists()


@pytest.mark.usefixtures("optimized")
@pytest.mark.skipif(not os.environ.get("TFDS_DATA_DIR"), reason="TFDS_DATA_DIR is not set")
def test_marthe_is_within_half_a_point_of_hd_rtho_and_the_best_hand_schedule(tmp_path):
    config = image_classification_schedules.Config()
    result = image_classification_schedules.run(config, tmp_path)
    for setting in config.settings:
        row = result[setting]["marthe"]
        for name in ("HD", "RTHO", row["best_hand_schedule"]):
            assert row["against"][name]["mean_difference"] > -0.005, name
