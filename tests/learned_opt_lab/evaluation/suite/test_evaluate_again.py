"""An evaluation goes on from its cells: after an edit, a kill, a full disk; it has one writer."""

import dataclasses
import functools
import importlib
import threading

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.base import LearnedOptimizer
from learned_opt.disk import files
from learned_opt_lab.evaluation.suite import run as suite_run
from learned_opt_lab.evaluation.suite._evaluate import evaluate
from learned_opt_lab.evaluation.suite.entries import Entry
from tests.support.lab.tiny import SGD, entries

evaluate_module = importlib.import_module("learned_opt_lab.evaluation.suite._evaluate")


def test_a_half_written_cell_is_run_again(tmp_path):
    cell = suite_run.Cell({"test": {"loss": np.ones((2, 3))}}, {"seconds_per_step": 1.0})
    stem = tmp_path / "cells" / "a.b"
    suite_run.write_cell(stem, cell)
    assert suite_run.read_cell(stem).curves["test"]["loss"].sum() == 6
    (tmp_path / "cells" / "a.b.json").unlink()
    assert suite_run.read_cell(stem) is None


def test_an_edited_optimizer_is_measured_again(suite, settings, tmp_path, monkeypatch, capsys):
    made = []

    def run_cell(at, entry, settings, timing):
        made.append((at.task.name, entry.label))
        return suite_run.Cell({"test": {"loss": np.ones((2, 3))}}, {"seconds_per_step": 1.0})

    monkeypatch.setattr(suite_run, "run_cell", run_cell)
    optimizers = [Entry("one", "one", optimizer=SGD, theta=jnp.float32(1)), *entries()[-1:]]
    run = functools.partial(suite_run.run_suite, tmp_path, suite, settings=settings)
    run(optimizers)
    run(optimizers)
    assert made == [(task, label) for task in ("small", "large") for label in ("one", "nan")]
    edited = LearnedOptimizer(SGD.init, lambda theta: optax.sgd(2 * theta))
    run([optimizers[0]._replace(optimizer=edited), optimizers[1]])
    assert made[4:] == [("small", "one"), ("large", "one")]
    assert "made with another optimizer_code; it is measured again" in capsys.readouterr().err


@pytest.mark.parametrize("change", [{"num_steps": 40}, {"eval_every": 1}, {"version": 2}])
def test_a_changed_task_is_measured_again(change, suite, settings, tmp_path, monkeypatch, capsys):
    made = []

    def run_cell(at, entry, settings, timing):
        made.append(at.task.name)
        return suite_run.Cell({"test": {"loss": np.ones((2, 3))}}, {"seconds_per_step": 1.0})

    monkeypatch.setattr(suite_run, "run_cell", run_cell)
    first, *others = suite.tasks
    changed = dataclasses.replace(first, **change)
    for tasks in (suite.tasks, (changed, *others)):
        of_tasks = dataclasses.replace(suite, tasks=tasks)
        suite_run.run_suite(tmp_path, of_tasks, entries()[-1:], settings)
    assert made == ["small", "large", "small"]
    name = {"version": "task_version"}.get(*change, *change)
    assert f"made with another {name}" in capsys.readouterr().err


def test_an_evaluation_goes_on_once_the_disk_has_room(suite, settings, tmp_path, monkeypatch):
    made = []

    def run_cell(at, entry, settings, timing):
        made.append((at.task.name, entry.label))
        return suite_run.Cell({"test": {"loss": np.ones((2, 3))}}, {"seconds_per_step": 1.0})

    def full(path, write):
        if path.name == ".two%2Fsame.npz.pending":
            raise OSError(28, "No space left on device")
        written(path, write)

    written = files._write_to_disk
    monkeypatch.setattr(suite_run, "run_cell", run_cell)
    with monkeypatch.context() as patch:
        patch.setattr(files, "_write_to_disk", full)
        with pytest.raises(OSError, match=r"No space left on device: .*two%2Fsame\.npz"):
            evaluate(tmp_path / "out", suite, entries(), settings)
    assert [label for _, label in made] == ["adam", "one", "two/same"]
    assert not list((tmp_path / "out").rglob(".*"))
    suite_run.run_suite(tmp_path / "out", suite, entries(), settings)
    assert made[3:] == [("small", label) for label in ("two/same", "nan")] + [
        ("large", label) for label in ("adam", "one", "two/same", "nan")
    ]


def test_two_evaluations_at_once_are_refused(suite, settings, tmp_path, monkeypatch):
    """The second one, here in another thread, leaves the folder as it is."""
    refused = []

    def second(*args):
        try:
            evaluate(tmp_path / "out", suite, entries(), settings)
        except ValueError as error:
            refused.append(str(error))

    def first(*args):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate_module, "run_suite", first)
    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path / "out", suite, entries(), settings)
    (reason,) = refused
    assert "is being written by" in reason
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {"evaluation.json", "made.json"}
