"""Curves over all tasks by hand: straight lines from 1 to where each optimizer ends."""

import types

import numpy as np
import pytest

from learned_opt_lab.evaluation.suite.descent import LONGEST, descents
from learned_opt_lab.evaluation.suite.entries import Entry

NUM_POINTS = 9  # So few that nothing is smoothed.
REFERENCE = {"start": 3.0, "test": 1.0, "seconds_per_step": 1e-3}


def cell_of(end, seconds_per_step=1e-3, num_runs=2):
    loss = np.tile(np.linspace(3.0, end, NUM_POINTS), (num_runs, 1))
    record = {"seconds_per_step": seconds_per_step}
    return types.SimpleNamespace(curves={"test": {"loss": loss}}, record=record)


def descent_of(**cells):
    tasks = [types.SimpleNamespace(name=name, loss_cap=100.0) for name in ("a", "b")]
    entries = [Entry(label, label) for label in cells]
    of_tasks = {(task.name, label): cell for task in tasks for label, cell in cells.items()}
    return descents(tasks, entries, of_tasks, {task.name: REFERENCE for task in tasks})


def test_scores_fall_from_one_to_where_a_run_ends():
    found = descent_of(reference=cell_of(1.0), better=cell_of(0.8), slow=cell_of(1.0, 4e-3))
    steps, seconds = found["steps"], found["seconds"]
    shares = np.asarray(steps["shares"])
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert steps["scores"]["reference"] == pytest.approx(1 - shares)
    assert steps["scores"]["better"] == pytest.approx(1 - 1.1 * shares)
    assert steps["scores"]["slow"] == steps["scores"]["reference"]
    shares = np.asarray(seconds["shares"])
    assert shares[-1] == LONGEST
    assert seconds["scores"]["reference"] == pytest.approx(np.maximum(1 - shares, 0))
    assert seconds["scores"]["slow"] == pytest.approx(1 - shares / 4)


def test_a_run_that_is_lost_stays_at_the_worst_score():
    lost = cell_of(0.5)
    for run in lost.curves["test"]["loss"]:
        run[4] = np.nan
    scores = descent_of(lost=lost)["steps"]["scores"]["lost"]
    shares = np.linspace(0, 1, len(scores))
    assert (np.asarray(scores)[shares >= 0.5] == 2.0).all()
    assert (np.asarray(scores)[shares <= 0.375] <= 1.0).all()
