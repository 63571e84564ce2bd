"""Tuning with equally many trials, and the paired comparison, by hand."""

import jax
import numpy as np
import optax
import pytest
import scipy.stats

from learned_opt.hypergradient import marthe
from learned_opt.hypergradient.search import HyperLearningRateSearch
from learned_opt_lab.papers.donini2019 import image_models
from learned_opt_lab.papers.donini2019.hand_schedules import hand_schedule
from learned_opt_lab.papers.donini2019.image_classification_schedules import (
    against_all,
    paired_difference,
)
from learned_opt_lab.papers.donini2019.image_classification_tuning import (
    DEFAULT_TRIALS,
    FIXED,
    PAPER_TRIALS,
    UNTUNED,
    Setting,
    Trials,
    programs,
    step_costs,
    tune,
)
from learned_opt_lab.papers.schedule_runs import split_rows
from tasks.images.datasets import digits
from tasks.images.image_data import sample_images
from tasks.images.networks import MLP, classification_task


@pytest.mark.parametrize("trials", [*DEFAULT_TRIALS.values(), *PAPER_TRIALS.values()])
def test_every_method_has_as_many_trials(trials):
    searches = {rate: HyperLearningRateSearch(1e-3, np.zeros(1), ()) for rate in trials.online}
    counts = {name: len(trials.cells(name, searches)) for name in (*FIXED, "HD", "RTHO", "MARTHE")}
    assert set(counts.values()) == {len(trials.hand)}


def test_trials_of_marthe_go_down_from_what_the_search_found():
    trials = Trials((0.1,), (0.1, 0.2), {"HD": (1e-3,)}, (1.0, 0.1))
    searches = {
        0.1: HyperLearningRateSearch(1e-3, np.zeros(1), ()),
        0.2: HyperLearningRateSearch(1e-4, None, ()),
    }
    expected = [(0.1, 1e-3), (0.1, 1e-4), (0.2, 1e-4), (0.2, 1e-5)]
    np.testing.assert_allclose(trials.cells("MARTHE", searches), expected, rtol=1e-6)
    np.testing.assert_allclose(
        trials.cells("SGDR", searches), [(0.1, FIXED.index("SGDR"))], rtol=1e-6
    )


def test_tuning_takes_the_highest_mean_over_its_seeds():
    table = {0.1: (0.5, 0.7), 0.2: (0.9, 0.2), 0.3: (0.65, 0.6)}

    def train_all(cells, keys):
        seeds = [int(jax.random.key_data(key)[1]) for key in keys]
        last = [
            table[round(float(rate), 1)][seed] for (rate, _), seed in zip(cells, seeds, strict=True)
        ]
        return {"tuning_accuracy": np.stack([np.ones(len(last)), last], axis=1)}

    keys = jax.vmap(jax.random.key)(np.arange(2))
    cells = np.array([(0.1, 0), (0.2, 0), (0.3, 0)], np.float32)
    tuned = tune("HD", train_all, cells, keys)
    assert tuned["chosen"] == 2
    np.testing.assert_allclose([t["tuning_accuracy"] for t in tuned["trials"]], [0.6, 0.55, 0.625])
    alone = tune("SGDR", None, cells[:1], keys)  # is not run
    assert alone["chosen"] == 0
    assert alone["trials"] == [
        {"first_rate": pytest.approx(0.1), "hyper_learning_rate": None, "tuning_accuracy": None}
    ]


def test_a_difference_is_a_paired_t_interval():
    accuracies = {
        "constant": np.full(4, 0.99),
        "exponential": np.array([0.80, 0.82, 0.81, 0.83]),
        "staircase": np.array([0.7, 0.7, 0.7, 0.7]),
        "SGDR": np.array([0.6, 0.6, 0.6, 0.6]),
        "HD": np.array([0.81, 0.80, 0.80, 0.80]),
        "MARTHE": np.array([0.79, 0.82, 0.80, 0.82]),
    }
    row = against_all("MARTHE", accuracies)
    assert row["best_hand_schedule"] == "exponential"
    assert set(row["against"]) == set(accuracies) - {"MARTHE"}
    for name, against in row["against"].items():
        test = scipy.stats.ttest_rel(accuracies["MARTHE"], accuracies[name])
        interval = test.confidence_interval(0.95)
        np.testing.assert_allclose(against["interval_95"], [interval.low, interval.high], rtol=1e-9)
    np.testing.assert_allclose(row["mean_difference"], -0.0075)
    assert row["interval_95"] == row["against"]["exponential"]["interval_95"]
    assert row["within_noise"]
    worse = accuracies["exponential"] - [0.02, 0.021, 0.02, 0.021]
    assert not paired_difference(worse, accuracies["exponential"])["within_noise"]
    assert paired_difference(np.ones(1), np.ones(1))["interval_95"] is None


def test_the_cost_of_a_step_is_counted():
    """HD adds a gradient of the objective; RTHO and MARTHE a Hessian-vector product too."""
    costs = step_costs(batch_norm_setting())
    flops = {name: cost["flops_over_fixed"] for name, cost in costs.items()}
    assert flops["fixed"] == 1
    assert 1.4 < flops["HD"] < 2.5
    assert flops["HD"] + 0.9 < flops["RTHO"] < 5
    assert abs(flops["MARTHE"] - flops["RTHO"]) < 0.3
    # A tangent of weights and velocity, and the last step's derivative for an adaptive mu.
    states = {name: cost["state_bytes_over_fixed"] for name, cost in costs.items()}
    assert 1.4 < states["HD"] < states["RTHO"] < states["MARTHE"] < 2.6


def batch_norm_setting():
    data = digits()
    classes = np.arange(10)
    task = classification_task(
        image_models.VGG((8, "pool", 16), 10),
        lambda data, key, split: sample_images(data, key, split, classes, 32),
        (8, 8, 1),
        10,
    )
    rows = split_rows(data, "test", 20)
    return Setting(task, data, lambda rate: optax.sgd(rate, momentum=0.9), 20, 2, rows, rows)


def test_a_network_with_batch_normalization_is_trained_by_every_method():
    """The measurements are those of the averages that the training went on from."""
    setting = batch_norm_setting()
    keys = jax.random.split(jax.random.key(0), 1)
    runs = programs(setting, 1)[UNTUNED](np.array([(0.1, 1e-6)], np.float32), keys)
    assert runs["losses"][0, -3:].mean() < runs["losses"][0, 0] / 2
    assert runs["test_accuracy"][0, -1] > 0.3
    task, tx = setting.task, marthe(setting.inner, 0.1, meta_step=1e-6)
    key_init, key_steps = jax.random.split(keys[0])
    params, model_state = task.init(key_init)
    opt_state = tx.init(params)

    @jax.jit
    def step(params, model_state, opt_state, t):
        key_batch, key_loss, key_objective = jax.random.split(jax.random.fold_in(key_steps, t), 3)
        batch = task.sample_batch(setting.data, key_batch, "train")
        loss = lambda p: task.loss(p, model_state, key_loss, batch)
        (value, (new, _)), grads = jax.value_and_grad(loss, has_aux=True)(params)
        key_batch, _ = jax.random.split(key_objective)
        valid = task.sample_batch(setting.data, key_batch, "inner_valid")
        objective = lambda p: task.eval_loss(p, model_state, key_loss, valid)[0]
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = tx.update(
                grads,
                opt_state,
                params,
                value_fn=lambda p: loss(p)[0],
                objective_grad=jax.grad(objective)(params),
            )
        return optax.apply_updates(params, updates), new, opt_state, value

    for t in range(3):
        params, model_state, opt_state, value = step(params, model_state, opt_state, t)
        np.testing.assert_allclose(runs["losses"][0, t], value, rtol=1e-4)
    np.testing.assert_allclose(runs["rates"][0, 2], opt_state.learning_rate, rtol=1e-4)


def test_a_fixed_schedule_is_run_at_its_rates():
    data = digits()
    task = classification_task(
        MLP((4,), 10),
        lambda data, key, split: sample_images(data, key, split, np.arange(10), 8),
        (8, 8, 1),
        10,
    )
    rows = split_rows(data, "test", 20)
    setting = Setting(task, data, lambda rate: optax.sgd(rate, momentum=0.9), 20, 2, rows, rows)
    train_all = programs(setting, 2)["SGDR"]
    cells = np.array(
        [(0.1, FIXED.index(name)) for name in ("SGDR", "staircase", "constant", "SGDR")], np.float32
    )
    runs = train_all(cells, jax.random.split(jax.random.key(0), 4))
    for i, name in enumerate(("SGDR", "staircase", "constant", "SGDR")):
        expected = [float(hand_schedule(name, 0.1, 20)(np.int32(t))) for t in range(20)]
        np.testing.assert_allclose(runs["rates"][i], expected, rtol=1e-5)
    assert runs["test_accuracy"].shape == runs["tuning_accuracy"].shape == (4, 2)
