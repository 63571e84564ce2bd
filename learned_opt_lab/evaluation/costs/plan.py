"""What an evaluation will cost, from what a step of each cell costs: arithmetic alone.

A cell compiles a program or two of many runs at once. Measured of it is its training loop of one
run alone, which the cell keeps in any case. What many runs at once cost is measured for plain
gradient descent, once a task; an optimizer is taken to gain as much by it. Where one by one is
faster, the cell trains so.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

MEASURED_SHARE = 1 / 3
"""Of a training step, what a loss on one batch costs: forward, but not back."""


class Program(NamedTuple):
    """A compiled program of a cell.

    Attributes:
      num_configurations: that run at once.
      num_seeds: of each of them.
      num_calls: how often it is called.
      num_steps: of each run.
      num_batches: that each run is measured on, in all.
      compilation: seconds it compiles, over those of the training loop of one run alone.
    """

    num_configurations: int
    num_seeds: int
    num_calls: int
    num_steps: int
    num_batches: int
    compilation: float

    @property
    def num_runs(self) -> int:
        """That are trained at once."""
        return self.num_configurations * self.num_seeds


class Measured(NamedTuple):
    """What was measured of a cell and of its task, in seconds.

    Attributes:
      step: of one run alone.
      compilation: of the training loop of one run.
      plain_step: of one run of plain gradient descent alone.
      num_together: runs of plain gradient descent in one program.
      together: a step of them all.
    """

    step: float
    compilation: float
    plain_step: float
    num_together: int
    together: float


def program_seconds(program: Program, measured: Measured) -> float:
    """Compilation, steps and measurements of a program."""
    plain = _together(program.num_runs, measured)
    # A step without an optimizer to speak of is the least there is.
    step = plain * max(measured.step / measured.plain_step, 1.0)
    once = program.num_steps * step + program.num_batches * plain * MEASURED_SHARE
    return program.compilation * measured.compilation + program.num_calls * once


def _together(num_runs: int, measured: Measured) -> float:
    """A step of so many runs at once of plain gradient descent: on a line between, and beyond, what
    was measured.
    """
    if measured.num_together == 1:
        return num_runs * measured.plain_step
    slope = (measured.together - measured.plain_step) / (measured.num_together - 1)
    return measured.plain_step + max(slope, 0.0) * (num_runs - 1)


class Plan(NamedTuple):
    """The cells of an evaluation in their order, with what each will cost.

    Attributes:
      tasks: names, in order; those that cannot be built among them.
      labels: of the optimizers, in order.
      seconds: of each cell, task by task; 0 for one that is there or cannot be made.
      skipped: tasks that cannot be built.
      guessed: tasks that were not measured, since the budget ends before them; their cells are
        taken to cost what an optimizer's others do on average.
      num_seeds: runs of each cell that are reported.
      max_seconds: the budget, or None.
      spent: of the budget, on measuring.
    """

    tasks: tuple[str, ...]
    labels: tuple[str, ...]
    seconds: tuple[float, ...]
    skipped: tuple[str, ...] = ()
    guessed: tuple[str, ...] = ()
    num_seeds: int = 1
    max_seconds: float | None = None
    spent: float = 0.0

    def of_task(self, task: str) -> tuple[float, ...]:
        """Seconds of the cells of a task."""
        first = self.tasks.index(task) * len(self.labels)
        return self.seconds[first : first + len(self.labels)]

    @property
    def to_run(self) -> list[str]:
        """The tasks that can be built."""
        return [task for task in self.tasks if task not in self.skipped]

    def reach(self) -> tuple[int, int]:
        """Tasks that are complete, and cells that are there, when the budget ends."""
        left = math.inf if self.max_seconds is None else self.max_seconds - self.spent
        num_tasks = num_cells = 0
        for task in self.to_run:
            for seconds in self.of_task(task):
                left -= seconds
                if seconds and left < 0:
                    return num_tasks, num_cells
                num_cells += 1
            num_tasks += 1
        return num_tasks, num_cells


def lines(plan: Plan) -> list[str]:
    """The plan in words: all of it, each task, how far the budget gets."""
    total = len(plan.to_run)
    sizes = ((total, "task"), (len(plan.labels), "optimizer"), (plan.num_seeds, "seed"))
    size = " x ".join(_count(*each) for each in sizes)
    num_cells = sum(seconds > 0 for seconds in plan.seconds)
    if not num_cells:
        return [f"cost: nothing, all cells are there; in all {size}"]
    found = [
        f"cost: about {minutes(sum(plan.seconds))} for {_count(num_cells, 'cell')}; in all {size}"
    ]
    of_tasks = {task: sum(plan.of_task(task)) for task in plan.to_run if task not in plan.guessed}
    of_tasks = {task: minutes(seconds) for task, seconds in of_tasks.items() if seconds}
    width, most = (max(map(len, words), default=0) for words in (of_tasks, of_tasks.values()))
    found += [f"  {task:<{width}}  {told:>{most}}" for task, told in of_tasks.items()]
    if plan.guessed:
        first, *others = plan.guessed
        names = f"{first} and {len(others)} more" if others else first
        found.append(f"  guessed by the others, since the budget ends before: {names}")
    if plan.max_seconds is not None:
        num_tasks, num_there = plan.reach()
        tasks = f"{num_tasks} of {_count(total, 'task')}"
        cells = f"{num_there} of {_count(total * len(plan.labels), 'cell')}"
        found.append(f"a budget of {minutes(plan.max_seconds)} gets as far as {tasks}, {cells}")
    return found


def with_guesses(seconds: Sequence[float | None], num_labels: int) -> tuple[float, ...]:
    """Planned seconds where None is what an optimizer's cells cost on average; of an optimizer of
    which none is known, what all do.

    Args:
      seconds: of each cell, task by task; 0 for one that is there.
      num_labels: optimizers.
    """
    known = [s for s in seconds if s]
    mean = sum(known) / len(known) if known else 0.0

    def guess(column: int) -> float:
        own = [s for s in seconds[column::num_labels] if s]
        return sum(own) / len(own) if own else mean

    return tuple(guess(i % num_labels) if s is None else s for i, s in enumerate(seconds))


def minutes(seconds: float) -> str:
    """A time in words, as exact as an estimate is."""
    if seconds < 60:
        return f"{max(seconds, 0):.0f} seconds"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.{0 if seconds >= 600 else 1}f} minutes"
    return f"{seconds / 3600:.1f} hours"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
