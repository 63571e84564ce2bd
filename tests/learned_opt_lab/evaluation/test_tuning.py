"""The search: chooses the lowest validation loss, on runs of its own,
and is cached by everything that matters.
"""

import dataclasses
import json

import jax
import numpy as np
import pytest

from learned_opt_lab.evaluation import tuning
from learned_opt_lab.evaluation.baselines import BASELINES
from learned_opt_lab.evaluation.measures import final_losses
from learned_opt_lab.evaluation.sweep import make_sweep
from tasks.suite_tasks import SuiteTask


@pytest.fixture(scope="module")
def task(regression_family):
    return SuiteTask(
        "regression", lambda: regression_family(batch_size=8), 10, 5, "linear regression"
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def tuned(task, cache):
    return tuning.tune(task, task.build(), "sgd", budget=1, num_seeds=2, cache_dir=cache)


def test_chooses_the_lowest_final_validation_loss(task, tuned):
    runs = tuning.runs_of(task, "tune", 2, 0)
    sweep = make_sweep(task.build(), BASELINES["sgd"].factory, num_steps=10, eval_every=5)
    curves = sweep(BASELINES["sgd"].configurations(1, 0), runs)["outer_valid"]["loss"]
    scores = final_losses(curves, task.loss_cap).mean(axis=1)
    np.testing.assert_allclose(tuned.scores, scores, rtol=1e-6)
    assert tuned.index == np.argmin(scores)
    assert tuned.hyperparameters["learning_rate"] == pytest.approx(10 ** (-4 + 0.5 * tuned.index))
    assert tuned.num_configurations == 11
    assert not tuned.cached


def test_runs_for_tuning_are_other_runs_of_the_same_task(task):
    tune, evaluate = (tuning.runs_of(task, role, 3, 0) for role in ("tune", "evaluate"))
    np.testing.assert_array_equal(
        jax.random.key_data(tune.task), jax.random.key_data(evaluate.task)
    )
    seeds = np.concatenate([jax.random.key_data(tune.seed), jax.random.key_data(evaluate.seed)])
    assert len(np.unique(seeds, axis=0)) == 6


def test_second_search_is_read_from_the_cache(task, cache, tuned, monkeypatch):
    monkeypatch.setattr(tuning, "make_sweep", None)
    again = tuning.tune(task, None, "sgd", budget=1, num_seeds=2, cache_dir=cache)
    assert again == tuned._replace(cached=True)
    # A grid has its own number of configurations, so its budget is no part of the key.
    assert tuning.tune(task, None, "sgd", budget=500, num_seeds=2, cache_dir=cache).cached


@pytest.mark.parametrize(
    "change", [{"num_seeds": 3}, {"seed": 1}, {"version": 2}, {"num_steps": 20}, {"damage": True}]
)
def test_anything_else_is_searched_again(change, task, cache, tuned, monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("searched")

    monkeypatch.setattr(tuning, "make_sweep", refuse)
    (path,) = cache.glob("regression.v1.sgd.11x2.seed0.*.json")
    text = path.read_text()
    if change.pop("damage", False):
        path.write_text(text[: len(text) // 2])
    fields = {key: change.pop(key) for key in ("version", "num_steps") if key in change}
    try:
        with pytest.raises(RuntimeError, match="searched"):
            tuning.tune(
                dataclasses.replace(task, **fields),
                None,
                "sgd",
                **{"budget": 1, "num_seeds": 2, "cache_dir": cache, **change},
            )
    finally:
        path.write_text(text)
    assert json.loads(text)["key"]["task"] == "regression"


def test_budget_is_spent_in_chunks_that_change_nothing(task, tmp_path, monkeypatch):
    whole = tuning.tune(
        task, task.build(), "adam8", budget=7, num_seeds=1, cache_dir=tmp_path / "a"
    )
    monkeypatch.setattr(tuning, "CHUNK", 3)
    parts = tuning.tune(
        task, task.build(), "adam8", budget=7, num_seeds=1, cache_dir=tmp_path / "b"
    )
    assert len(parts.scores) == 7
    np.testing.assert_allclose(parts.scores, whole.scores, rtol=1e-5)
    assert len(list((tmp_path / "a").glob("regression.v1.adam8.7x1.*"))) == 1
