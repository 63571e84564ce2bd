"""The cache of tuning goes by what the numbers follow from,
says what came from it, and never stands in the way.
"""

import dataclasses
import functools
import importlib
import os
import stat
import sys

import numpy as np
import pytest

from learned_opt.disk import files
from learned_opt_lab.evaluation import tuning
from learned_opt_lab.evaluation.baselines import BASELINES
from learned_opt_lab.results import cells
from tasks.suite_tasks import SuiteTask

MINE = """
import jax.numpy as jnp
import optax
from tasks.base import Task, TaskFamily

def family(dim):
    def loss(params, key, batch):
        return 1.0 * jnp.sum(params**2), {}
    task = Task(lambda key: jnp.ones(dim), loss, lambda data, key, split: data)
    return TaskFamily(lambda key: (), lambda params: task, jnp.zeros(2))

def optimizer(h):
    return optax.sgd(1.0 * h["learning_rate"])
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A user's module in a file; calling it with another text edits it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(text=MINE):
        (tmp_path / "mine_tuned.py").write_text(text)
        monkeypatch.delitem(sys.modules, "mine_tuned", raising=False)
        importlib.invalidate_caches()
        return importlib.import_module("mine_tuned")

    return write


@pytest.fixture
def searches(monkeypatch):
    """Searches made in place of real ones:
    the loss of configuration i after all steps is `losses[i]`.
    """
    made = []

    def make_sweep(family, factory, **options):
        def sweep(configurations, runs, one_by_one=False):
            losses = np.asarray(made_losses, float)[: len(next(iter(configurations.values())))]
            made.append(len(losses))
            return {"outer_valid": {"loss": np.repeat(losses[:, None, None], 2, axis=1)}}

        return sweep

    made_losses = [3.0] * 4 + [1.0] + [2.0] * 7
    monkeypatch.setattr(tuning, "make_sweep", make_sweep)
    made_losses_of = lambda losses: made_losses.__setitem__(slice(None), losses)
    return made, made_losses_of


def tune(task, family=None, name="sgd", cache=None, **options):
    told = []
    tuned = tuning.tune(
        task,
        family,
        name,
        **{"budget": 1, "num_seeds": 2, "cache_dir": cache, "warn": told.append, **options},
    )
    return tuned, told


def task_of(module, dim=2):
    return SuiteTask("mine", functools.partial(module.family, dim), 10, 5, "mine")


def test_an_edited_task_baseline_grid_or_data_is_searched_again(
    mine, searches, tmp_path, monkeypatch
):
    made, _ = searches
    run = functools.partial(tune, cache=tmp_path / "cache")
    tuned, told = run(task_of(mine()))
    assert (tuned.cached, tuned.index, told) == (False, 4, [])
    again, _ = run(task_of(mine()))
    assert again == tuned._replace(cached=True)
    assert again.made[:4].isdigit()
    assert len(made) == 1
    assert not run(task_of(mine(MINE.replace("return 1.0", "return 2.0"))))[0].cached
    assert not run(task_of(mine(), dim=3))[0].cached
    family = task_of(mine()).build()
    assert not run(task_of(mine()), family._replace(data=family.data + 1))[0].cached
    grid = lambda budget, seed: {"learning_rate": np.asarray([0.1, 0.3], np.float32)}
    monkeypatch.setitem(BASELINES, "sgd", BASELINES["sgd"]._replace(configurations=grid))
    assert run(task_of(mine()))[0].num_configurations == 2
    grid = lambda budget, seed: {"learning_rate": np.asarray([0.1, 0.4], np.float32)}
    monkeypatch.setitem(BASELINES, "sgd", BASELINES["sgd"]._replace(configurations=grid))
    assert not run(task_of(mine()))[0].cached
    for text, cached in ((MINE, False), (MINE.replace("sgd(1.0", "sgd(2.0"), False), (MINE, True)):
        monkeypatch.setitem(
            BASELINES, "sgd", BASELINES["sgd"]._replace(factory=mine(text).optimizer)
        )
        task = SuiteTask(
            "other", functools.partial(tuning_family, 2), 10, 5, "not of the edited file"
        )
        assert run(task)[0].cached is cached


def tuning_family(dim):
    import jax.numpy as jnp

    from tasks.base import Task, TaskFamily

    task = Task(
        lambda key: jnp.ones(dim),
        lambda p, key, batch: (jnp.sum(p), {}),
        lambda data, key, split: data,
    )
    return TaskFamily(lambda key: (), lambda params: task, jnp.zeros(2))


def test_another_version_is_searched_again(mine, searches, tmp_path, monkeypatch):
    task, made = task_of(mine()), searches[0]
    tune(task, cache=tmp_path)
    monkeypatch.setattr(tuning.content, "environment", lambda: {"jax": "another"})
    assert not tune(task, cache=tmp_path)[0].cached
    assert len(made) == 2


@pytest.mark.parametrize("kind", ["digit", "cut", "binary", "list"])
def test_a_damaged_outcome_is_told_and_searched_again(kind, mine, searches, tmp_path):
    task = task_of(mine())
    tuned, _ = tune(task, cache=tmp_path)
    (path,) = tmp_path.glob("mine.v1.sgd*.json")
    whole = path.read_bytes()
    bad = {
        "digit": whole.replace(b'"validation_loss": 1.0', b'"validation_loss": 1.5'),
        "cut": whole[: len(whole) // 2],
        "binary": b"\x80" + whole,
        "list": b"[]",
    }[kind]
    assert bad != whole
    path.write_bytes(bad)
    again, (line,) = tune(task, cache=tmp_path)
    assert again == tuned._replace(made=again.made)
    assert f"{path} is damaged" in line
    assert path.with_name(f"{path.name}.damaged").read_bytes() == bad
    assert tune(task, cache=tmp_path)[0].cached


@pytest.mark.parametrize("kind", ["full", "file", "no home"])
def test_a_cache_that_cannot_be_written_costs_a_warning(
    kind, mine, searches, tmp_path, monkeypatch
):
    def full(path, write):
        raise OSError(28, "No space left on device")

    cache = tmp_path / "cache"
    if kind == "full":
        monkeypatch.setattr(files, "_write_to_disk", full)
    elif kind == "file":
        cache.write_text("not a folder")
    else:
        monkeypatch.setattr(tuning, "default_cache_dir", lambda: None)
        cache = None
    tuned, (line,) = tune(task_of(mine()), cache=cache)
    assert (tuned.index, tuned.cached) == (4, False)
    assert "used, and not kept" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_cache_costs_a_warning(mine, searches, tmp_path):
    (tmp_path / "cache").mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    tuned, (line,) = tune(task_of(mine()), cache=tmp_path / "cache")
    assert tuned.index == 4
    assert "used, and not kept" in line


def test_what_is_not_finite_is_never_the_best(mine, searches, tmp_path):
    """nan counts as the cap, and among configurations at the cap one
    that was measured goes first.
    """
    _, losses = searches
    losses([np.nan, 50.0, np.inf] + [np.nan] * 8)
    tuned, (line,) = tune(task_of(mine()), cache=tmp_path)
    assert (tuned.index, tuned.validation_loss) == (1, 10.0)
    assert "no configuration stayed below the loss cap, 10" in line
    losses([np.nan, 9.0, 2.0] + [np.nan] * 8)
    assert tune(dataclasses.replace(task_of(mine()), version=2), cache=tmp_path)[0].index == 2


def test_an_outcome_is_sealed(tmp_path):
    files.write_json(tmp_path / "x.json", cells.sealed({"a": [1, 2.5]}))
    assert cells.read_sealed(tmp_path / "x.json")["a"] == [1, 2.5]
    (tmp_path / "x.json").write_text((tmp_path / "x.json").read_text().replace("2.5", "2.6"))
    with pytest.raises(ValueError, match=r"x\.json is damaged"):
        cells.read_sealed(tmp_path / "x.json")
