"""Tuning with equally many trials, and the paired comparison, by hand."""

import jax
import numpy as np
import optax
import pytest
import scipy.stats

from learned_opt.hypergradient.search import HyperLearningRateSearch
from learned_opt_lab.papers.donini2019.hand_schedules import hand_schedule
from learned_opt_lab.papers.donini2019.image_classification_tuning import (
    DEFAULT_TRIALS,
    FIXED,
    PAPER_TRIALS,
    Setting,
    Trials,
    paired_difference,
    programs,
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


def test_paired_difference_is_a_paired_t_interval_against_the_best_hand_schedule():
    accuracies = {
        "constant": np.full(4, 0.99),
        "exponential": np.array([0.80, 0.82, 0.81, 0.83]),
        "staircase": np.array([0.7, 0.7, 0.7, 0.7]),
        "SGDR": np.array([0.6, 0.6, 0.6, 0.6]),
        "MARTHE": np.array([0.79, 0.82, 0.80, 0.82]),
    }
    row = paired_difference(accuracies)
    test = scipy.stats.ttest_rel(accuracies["MARTHE"], accuracies["exponential"])
    interval = test.confidence_interval(0.95)
    assert row["best_hand_schedule"] == "exponential"
    np.testing.assert_allclose(row["mean_difference"], -0.0075)
    np.testing.assert_allclose(row["interval_95"], [interval.low, interval.high], rtol=1e-9)
    assert row["within_noise"]
    assert not paired_difference(
        accuracies | {"MARTHE": accuracies["exponential"] - [0.02, 0.021, 0.02, 0.021]}
    )["within_noise"]


def test_a_fixed_schedule_is_run_at_its_rates():
    data = digits()
    task = classification_task(
        MLP((4,), 10),
        lambda data, key, split: sample_images(data, key, split, np.arange(10), 8),
        (8, 8, 1),
        10,
    )
    plain = task.loss
    task = task._replace(
        loss=lambda params, key, batch: (
            (loss := plain(params, key, batch))[0],
            loss[1] | {"cross_entropy": loss[0]},
        )
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
