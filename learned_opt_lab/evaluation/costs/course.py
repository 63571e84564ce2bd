"""The course of an evaluation: cell by cell, task by task, planned and within a budget.

All optimizers of a task come before the next task, so that what is complete is a fair comparison at
any time. Tasks come in the suite's order: the same ones are there on every machine, and what lies
beyond a budget need not be measured.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from learned_opt_lab.evaluation.costs.countdown import Countdown
from learned_opt_lab.evaluation.costs.measure import make_plan
from learned_opt_lab.evaluation.costs.plan import Plan
from learned_opt_lab.evaluation.costs.store import CellStore
from tasks import Suite, SuiteTask

Cells = dict[tuple[str, str], Any]
"""(task name, label) -> cell."""


class Course(NamedTuple):
    """How an evaluation goes, and who is told.

    Attributes:
      progress: called with cells done, cells in all, and what is being done.
      planned: called with the plan before the first cell; None plans nothing without a budget.
      max_seconds: no cell begins that would end later, by its planned seconds; but the first one
        that is missing does, so that many short calls come to an end.
      interim: called with the results of the complete tasks, after each task but the last, as long
        as that takes no more than a tenth of the time.
      clock: gives seconds.
    """

    progress: Callable[[int, int, str], None] = lambda done, total, what: None
    planned: Callable[[Plan], None] | None = None
    max_seconds: float | None = None
    interim: Callable[[Any], None] = lambda results: None
    clock: Callable[[], float] = time.monotonic


def each_cell(
    store: CellStore,
    suite: Suite,
    course: Course,
    finished: Callable[[Cells, dict[str, str]], Any],
) -> Any:
    """Reads and makes cells until all are there or the budget is used up.

    Args:
      store: the cells.
      suite: the tasks.
      course: how it goes.
      finished: makes the results of the cells of complete tasks, and of why others cannot be built.
    """
    return _Steps(store, suite, course, finished).run()


class _Steps:
    """The steps of `each_cell`, with what they share."""

    def __init__(self, store: CellStore, suite: Suite, course: Course, finished: Callable):
        self._store, self._suite, self._course = store, suite, course
        self._finished = finished
        self._begun, self._num_made = course.clock(), 0
        self._countdown = Countdown((), course.clock)
        self._interim_ended, self._interim_seconds = self._begun, 0.0

    def run(self) -> Any:
        self._plan()
        cells: Cells = {}
        for row, task in enumerate(self._suite.tasks):
            num_made = self._num_made
            of_task = self._task(row, task)
            if of_task is None:
                break
            cells |= of_task
            if self._num_made > num_made and row < len(self._suite.tasks) - 1:
                self._interim(cells)
        else:
            row = len(self._suite.tasks)
        self._tell(row, 0, "report")
        return self._finished(cells, self._store.skipped)

    def _plan(self) -> None:
        course = self._course
        if course.planned is None and course.max_seconds is None:
            return
        plan = make_plan(
            self._store, self._suite, course.max_seconds, course.progress, self._elapsed
        )
        self._countdown = Countdown(plan.seconds, course.clock, group=len(plan.labels))
        if course.planned is not None:
            course.planned(plan)

    def _task(self, row: int, task: SuiteTask) -> Cells | None:
        """All cells of a task; none of one that cannot be built; None where the budget ends."""
        store = self._store
        self._tell(row, 0, f"{task.name}: {store.entries[0].label}")
        if (place := store.place(task)) is None:
            return {}
        cells: Cells = {}
        of_twin: dict[str, Any] = {}
        for column, entry in enumerate(store.entries):
            if column:
                self._tell(row, column, f"{task.name}: {entry.label}")
            twin = store.twin(entry)
            cell = store.stored(place, entry)
            if cell is None and twin in of_twin:
                # Twins are measured once, so that their seconds tie as well.
                cell = store.make(place, entry, of_twin[twin])
            elif cell is None:
                if not self._may_begin():
                    return None
                self._num_made += 1
                cell = store.make(place, entry)
            cells[task.name, entry.label] = of_twin[twin] = cell
        return cells

    def _tell(self, row: int, column: int, what: str) -> None:
        number = len(self._store.entries)
        self._countdown.begins(row * number + column)
        self._course.progress(row * number + column, len(self._suite.tasks) * number, what)

    def _may_begin(self) -> bool:
        limit = self._course.max_seconds
        if limit is None or not self._num_made:
            return True
        return self._elapsed() + self._countdown.of_next() <= limit

    def _interim(self, cells: Cells) -> None:
        """Passes on what is complete, unless that takes more than a tenth of the time."""
        clock = self._course.clock
        start = clock()
        if start - self._interim_ended >= 9 * self._interim_seconds:
            self._course.interim(self._finished(dict(cells), dict(self._store.skipped)))
            self._interim_ended = clock()
            self._interim_seconds = self._interim_ended - start

    def _elapsed(self) -> float:
        return self._course.clock() - self._begun
