"""The cells of an evaluation: where they lie, what they are made of, how they are timed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from learned_opt_lab.drawing.text import file_name
from learned_opt_lab.evaluation.costs.ledger import NAME, Ledger
from learned_opt_lab.evaluation.costs.plan import Program
from learned_opt_lab.evaluation.suite.entries import Entry
from learned_opt_lab.evaluation.suite.settings import Settings
from learned_opt_lab.evaluation.timing import (
    Timing,
    Together,
    time_plain_gradient_descent,
    time_together,
)
from learned_opt_lab.evaluation.training import Runs
from learned_opt_lab.evaluation.tuning import runs_of, task_content
from learned_opt_lab.results import content
from tasks import SuiteTask, TaskFamily
from tasks.images import DatasetNotPrepared


class Place(NamedTuple):
    """A task that cells are made on.

    Attributes:
      task: of the suite.
      family: what it builds.
      made_of: digests of what its numbers follow from.
      runs: that are reported.
      plain: timing of gradient descent, measured when first asked for.
      together: of many runs of it, likewise.
    """

    task: SuiteTask
    family: TaskFamily
    made_of: dict[str, Any]
    runs: Runs
    plain: Callable[[], Timing]
    together: Callable[[], Together]

    def is_faster_one_by_one(self) -> bool:
        """How the runs of its cells are trained."""
        return self.together().is_faster_one_by_one


class CellKind(NamedTuple):
    """What an evaluation makes of an optimizer on a task.

    Attributes:
      content: of an optimizer, a digest of what its cell follows from.
      twins: whether optimizers of equal content share a cell.
      read: `(stem, made_of)` -> a finished cell, or None.
      write: `(stem, cell, made_of)`.
      make: `(place, entry, timing)` -> a cell.
      programs: `(place, entry)` -> what a cell runs.
      time: `(place, entry)` -> timing of its training loop.
    """

    content: Callable[[Entry], str]
    twins: bool
    read: Callable[[Path, dict[str, Any]], Any]
    write: Callable[[Path, Any, dict[str, Any]], None]
    make: Callable[[Place, Entry, Callable[[], Timing]], Any]
    programs: Callable[[Place, Entry], list[Program]]
    time: Callable[[Place, Entry], Timing]


class CellStore:
    """Reads and makes cells, and what a plan wants to know of them.

    Args:
      out: the folder.
      entries: the optimizers.
      settings: seeds and budgets.
      kind: of the cells.
    """

    def __init__(self, out: Path, entries: list[Entry], settings: Settings, kind: CellKind):
        self.entries, self.settings, self.kind = entries, settings, kind
        self.ledger = Ledger(out / NAME)
        self.skipped: dict[str, str] = {}
        """Task that could not be built -> reason."""
        self._out = out
        self._contents = {entry.label: kind.content(entry) for entry in entries}
        self._read: dict[Path, Any] = {}

    def place(self, task: SuiteTask) -> Place | None:
        """Builds a task; None for one that cannot be, and is noted as skipped."""
        try:
            family = task.build()
        except DatasetNotPrepared as error:
            self.skipped[task.name] = str(error).splitlines()[0]
            return None
        made_of = task_content(task, family) | {"versions": content.environment()}
        runs = runs_of(task, "evaluate", self.settings.num_seeds, self.settings.seed)
        measure = lambda: time_plain_gradient_descent(family, runs)
        name = ledger_name("plain", task, made_of)
        plain = lambda: Timing(*self.ledger.measured(name, 2, measure))
        together = lambda: self._together(place)
        place = Place(task, family, made_of, runs, plain, together)
        return place

    def stored(self, at: Place, entry: Entry) -> Any:
        """A finished cell, or None; a cell that was read is not read again."""
        stem = self._stem(at, entry)
        if stem not in self._read:
            self._read[stem] = self.kind.read(stem, self._made_of(at, entry))
        return self._read[stem]

    def make(self, at: Place, entry: Entry, twin: Any = None) -> Any:
        """Makes a cell and writes it, or writes that of a twin."""
        cell = twin
        if cell is None:
            cell = self.kind.make(at, entry, lambda: self.timing(at, entry))
        self.kind.write(self._stem(at, entry), cell, self._made_of(at, entry))
        return cell

    def timing(self, at: Place, entry: Entry) -> Timing:
        """Of the training loop of a cell, measured once."""
        made_of = self._made_of(at, entry) | {"fingerprint": entry.fingerprint}
        name = ledger_name("step", at.task, made_of)
        return Timing(*self.ledger.measured(name, 2, lambda: self.kind.time(at, entry)))

    def _together(self, at: Place) -> Together:
        """Of the largest program of all cells: an evaluation that goes on finds the same."""
        programs = [program for entry in self.entries for program in self.kind.programs(at, entry)]
        largest = max(programs, key=lambda program: program.num_runs)
        configurations, seeds = largest.num_configurations, largest.num_seeds
        runs = runs_of(at.task, "tune", seeds, self.settings.seed)
        name = ledger_name(f"{configurations} x {seeds} together", at.task, at.made_of)
        measure = lambda: time_together(at.family, configurations, runs)[1:]
        return Together(largest.num_runs, *self.ledger.measured(name, 2, measure))

    def twin(self, entry: Entry) -> str:
        """Equal for optimizers that share a cell."""
        return self._contents[entry.label] if self.kind.twins else entry.label

    def _made_of(self, at: Place, entry: Entry) -> dict[str, Any]:
        return at.made_of | {"optimizer_code": self._contents[entry.label]}

    def _stem(self, at: Place, entry: Entry) -> Path:
        return self._out / "cells" / file_name(at.task.name) / file_name(entry.label)


def ledger_name(what: str, task: SuiteTask, made_of: dict[str, Any]) -> str:
    """Of a measurement on a task, of what was made of this."""
    return f"{what} {task.name} {content.of_json(made_of)[:16]}"
