"""The course of an evaluation by a clock of its own, with cells that are made of numbers."""

import json

import numpy as np
import pytest

from learned_opt_lab.evaluation.costs import store as costs_store
from learned_opt_lab.evaluation.costs.course import Course, each_cell
from learned_opt_lab.evaluation.costs.plan import Program
from learned_opt_lab.evaluation.costs.store import CellKind, CellStore
from learned_opt_lab.evaluation.suite.entries import Entry
from learned_opt_lab.evaluation.suite.settings import Settings
from learned_opt_lab.evaluation.timing import Timing, Together

LABELS = ("a", "b", "twin of b")


class World:
    """Cells that take as many seconds as they say, and what was done."""

    def __init__(self, out, suite, monkeypatch):
        self.now, self.made, self.measured, self.reports, self.plans = 0.0, [], [], [], []
        self.out, self.suite, self.cells = out, suite, {}
        self.planned_seconds = 10.0
        plain = lambda family, runs: Timing(1.0, 1.0)
        monkeypatch.setattr(costs_store, "time_plain_gradient_descent", plain)
        together = lambda family, configurations, runs: Together(1, 1.0, 1.0)
        monkeypatch.setattr(costs_store, "time_together", together)

    def run(self, max_seconds=None, plan=True, clock=None):
        kind = CellKind(
            content=lambda entry: entry.label.rpartition(" ")[2],
            twins=True,
            read=lambda stem, made_of: self.cells.get(stem),
            write=lambda stem, cell, made_of: self.cells.update({stem: cell}),
            make=self._make,
            programs=lambda at, entry: [Program(1, 1, 1, 0, 0, 1.0)],
            time=self._time,
        )
        entries = [Entry(label, label) for label in LABELS]
        self.out.mkdir(exist_ok=True)
        course = Course(
            planned=self.plans.append if plan else None,
            max_seconds=max_seconds,
            interim=self.reports.append,
            clock=lambda: self.now,
        )
        finished = lambda cells, skipped: ({task for task, _ in cells}, set(skipped))
        return each_cell(
            CellStore(self.out, entries, Settings(), kind), self.suite, course, finished
        )

    def _make(self, at, entry, timing):
        self.made.append((at.task.name, entry.label))
        self.now += 10
        return len(self.made)

    def _time(self, at, entry):
        self.measured.append((at.task.name, entry.label))
        self.now += 1
        return Timing(1.0, self.planned_seconds)


@pytest.fixture
def world(suite, tmp_path, monkeypatch):
    return World(tmp_path / "out", suite, monkeypatch)


def test_all_optimizers_of_a_task_come_before_the_next(world):
    assert world.run() == ({"small", "large"}, {"absent"})
    assert world.made == [(task, label) for task in ("small", "large") for label in ("a", "b")]
    assert len(world.cells) == 6
    (plan,) = world.plans
    assert plan.seconds == (10, 10, 0, 10, 10, 0, 0, 0, 0)
    assert (plan.skipped, plan.guessed, plan.spent) == (("absent",), (), 4)
    assert world.reports[0] == ({"small"}, {"absent"})


def test_a_budget_ends_before_the_cell_that_would_end_later_and_it_goes_on(world):
    """What is measured is kept, and of a task that is not complete nothing is shown."""
    assert world.run(max_seconds=33) == ({"small"}, {"absent"})
    assert world.made == [("small", "a"), ("small", "b")]
    assert world.plans[0].reach() == (1, 3)
    assert world.run(max_seconds=15) == ({"small"}, {"absent"})
    assert world.made[2:] == [("large", "a")]
    assert world.run() == ({"small", "large"}, {"absent"})
    assert world.made[3:] == [("large", "b")]
    assert len(world.measured) == 4
    assert [sum(plan.seconds) for plan in world.plans] == [40, 20, 10]
    assert world.run() == ({"small", "large"}, {"absent"})
    assert len(world.made) == 4


def test_every_call_gets_on_and_measures_no_more_than_its_budget_needs(world):
    ends = [world.run(max_seconds=1) for _ in range(4)]
    assert [len(tasks) for tasks, _ in ends] == [0, 1, 1, 2]
    assert len(world.made) == 4
    assert world.plans[0].guessed == ("large", "absent")
    assert world.plans[0].seconds == (10, 10, 0, 10, 10, 10, 10, 10, 10)
    assert len(world.measured) == 4


def test_a_plan_that_is_too_low_is_corrected_by_what_cells_take(world):
    world.planned_seconds = 1.0
    # 4 of measuring, 10 of the first cell, which were planned as 1: the second would end at 24.
    assert world.run(max_seconds=23) == (set(), {"absent"})
    assert world.made == [("small", "a")]


def test_without_a_plan_nothing_is_measured(world):
    assert world.run(plan=False) == ({"small", "large"}, {"absent"})
    assert world.measured == []


def test_interim_reports_take_a_tenth_of_the_time(world):
    slow = []

    def interim(results):
        slow.append(results)
        world.now += 5

    world.reports = type("Reports", (), {"append": staticmethod(interim)})
    many = [vars(world.suite.tasks[0]) | {"name": f"t{i}"} for i in range(8)]
    tasks = tuple(type(world.suite.tasks[0])(**each) for each in many)
    world.suite = type(world.suite)(**vars(world.suite) | {"tasks": tasks})
    world.run(plan=False)
    # Tasks take 20: three of them for each further report of 5.
    assert [len(done) for done, _ in slow] == [1, 4, 7]


def test_what_was_measured_lies_in_the_folder(world):
    world.run()
    found = json.loads((world.out / "costs.json").read_text())
    assert len(found) == 8
    assert {name.split()[0] for name in found} == {"plain", "step", "1"}
    assert np.isfinite([kept["seconds"] for kept in found.values()]).all()
