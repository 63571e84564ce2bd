"""How far a long command is: a bar with the time left on a terminal, one line a cell elsewhere.

What has no cells to count shows the time it has taken, from its first second on.
"""

import contextlib
import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from learned_opt_lab.cli import output
from learned_opt_lab.drawing.text import plain

if TYPE_CHECKING:
    from learned_opt_lab.evaluation.costs.countdown import Countdown
    from learned_opt_lab.evaluation.costs.plan import Plan
    from outer_train.run import Show

Progress = Callable[[int, int, str], None]
"""Called with cells done, cells in all, and what is being done."""


class Planned:
    """Progress with the time left by a plan, once there is one.

    Args:
      show: shows cells done, cells in all, what is being done, and the time left in words.
      say: prints a line.
    """

    def __init__(self, show: Callable[[int, int, str, str], None], say: Callable[[str], None]):
        self._show, self._say = show, say
        self._countdown: Countdown | None = None

    def plan(self, plan: "Plan") -> None:
        """Prints what will be done, and counts down from now."""
        from learned_opt_lab.evaluation.costs.countdown import Countdown
        from learned_opt_lab.evaluation.costs.plan import lines

        for line in lines(plan):
            self._say(line)
        limit = None if plan.max_seconds is None else plan.max_seconds - plan.spent
        self._countdown = Countdown(plan.seconds, max_seconds=limit, group=len(plan.labels))

    def tell(self, done: int, total: int, what: str) -> None:
        """Shows where it is."""
        if self._countdown is not None:
            self._countdown.begins(done)
        self._show(done, total, what, self.left())

    def left(self) -> str:
        """The time left in words; none without a plan."""
        from learned_opt_lab.evaluation.costs.plan import minutes

        return "" if self._countdown is None else f"{minutes(self._countdown.left())} left"


@contextlib.contextmanager
def planned_progress() -> Iterator[Planned]:
    """Of an evaluation that says what it will cost."""
    if not sys.stderr.isatty():
        say = functools.partial(output.say, of_errors=True)
        show = lambda done, total, what, left: say(
            f"[{done}/{total}] {what}" + (f" ({left})" if left else "")
        )
        yield Planned(show, say)
        return
    from rich.progress import ProgressColumn
    from rich.text import Text

    class Left(ProgressColumn):
        """The time left by the plan."""

        def render(self, task) -> Text:
            return Text(planned.left())

    bar = _bar(Left())
    handle = bar.add_task("", total=None)
    show = lambda done, total, what, left: bar.update(
        handle, completed=done, total=total, description=plain(what)
    )
    say = lambda line: bar.console.print(plain(line), markup=False, highlight=False)
    planned = Planned(show, say)
    with bar:
        yield planned


@contextlib.contextmanager
def shown_progress() -> Iterator[Progress]:
    """Of a command without a plan: the time left as if all cells were alike."""
    if not sys.stderr.isatty():
        yield lambda done, total, what: output.say(f"[{done}/{total}] {what}", of_errors=True)
        return
    from rich.progress import TimeRemainingColumn

    with _bar(TimeRemainingColumn()) as bar:
        handle = bar.add_task("", total=None)
        yield lambda done, total, what: bar.update(
            handle, completed=done, total=total, description=plain(what)
        )


@contextlib.contextmanager
def phase(what: str, *, says: bool = True) -> Iterator[Callable[[float], None]]:
    """Of work without cells: what it is, a bar that moves, the seconds so far, and the time left
    once what is given has been called with the share that is done.

    Without a terminal it is a line among what the command prints, if it `says` so.
    """
    if not sys.stderr.isatty():
        if says:
            output.say(what)
        yield lambda share: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    description = TextColumn("{task.description}", markup=False)
    columns = (description, BarColumn(20), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        handle = bar.add_task(plain(what), total=None)
        first: list[float] = []

        def tell(share: float) -> None:
            if not first:  # what came before was compilation
                bar.columns = (*columns, TimeRemainingColumn())
                bar.reset(handle, total=1.0 - share)
                first.append(share)
            bar.update(handle, completed=share - first[0])

        yield tell


def load(*modules: str) -> None:
    """Imports what a command is about to use, and shows that something moves: JAX takes seconds."""
    with phase("starting", says=False):
        for module in modules:
            importlib.import_module(module)


def of_runs() -> "Show":
    """Where a run tells what there is to tell, with what moves while it takes long."""
    from learned_opt_lab.runs import TERMINAL

    return TERMINAL._replace(
        tell=output.say, warn=lambda line: TERMINAL.warn(plain(line)), during=phase
    )


def _bar(time_left):
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), time_left)
    description = TextColumn("{task.description}", markup=False)
    return Progress(*columns, description, console=Console(stderr=True))
