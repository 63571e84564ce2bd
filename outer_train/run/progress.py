"""What a run shows while it goes on: nothing, or on a terminal a bar, plain lines elsewhere."""

import contextlib
import functools
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

PLAIN_EVERY_SECONDS = 5.0
"""Between two plain lines."""
RECENT_ROWS = 50
"""Whose pace the time left is told by."""


class Progress(Protocol):
    """Told each row once; `close` ends the display."""

    def update(self, row: Mapping[str, Any], smoothed_loss: float | None) -> None:
        """Shows the row."""

    def close(self) -> None:
        """Ends the display."""


def make_progress(num_outer_steps: int, first_step: int) -> Progress:
    """The display that suits standard output.

    One that cannot be shown any more does not end the run.
    """
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    return DispensableProgress(
        lambda: (RichProgress if is_terminal else PlainProgress)(num_outer_steps, first_step)
    )


class DispensableProgress:
    """Another display, without which the run goes on once it fails:
    its reader is gone, the terminal, the disk full.
    """

    def __init__(self, make: Callable[[], Progress]):
        """Makes the display."""
        self._shown: Progress | None = None
        self._attempt(lambda: setattr(self, "_shown", make()))

    def update(self, row: Mapping[str, Any], smoothed_loss: float | None) -> None:
        """Shows the row if it still can."""
        if self._shown is not None:
            self._attempt(lambda: self._shown.update(row, smoothed_loss))

    def close(self) -> None:
        """Ends the display if it still can."""
        if self._shown is not None:
            self._attempt(lambda: self._shown.close())

    def _attempt(self, show: Callable[[], None]) -> None:
        try:
            show()
        except (OSError, ValueError, SystemExit):
            # A closed stream is a ValueError; rich ends programs on broken pipes.
            self._shown = None


class Clock:
    """Rates and the time left, from the rows themselves; compilation is left out."""

    def __init__(self, num_outer_steps: int, first_step: int):
        """Starts at `first_step` of `num_outer_steps`."""
        self.num_outer_steps = num_outer_steps
        self._seconds = self._inner_steps = 0
        self._recent: deque[float] = deque(maxlen=RECENT_ROWS)
        self.done = first_step

    def add(self, row: Mapping[str, Any]) -> None:
        """Counts the row."""
        self.done = row["outer_step"] + 1
        if row["seconds"] is not None:
            self._recent.append(row["seconds"])
            self._seconds += row["seconds"]
            self._inner_steps += row["num_live_inner_steps"]

    @property
    def inner_steps_per_second(self) -> float:
        """Mean since the first step; 0 before the second."""
        return self._inner_steps / self._seconds if self._seconds else 0.0

    @property
    def time_left(self) -> str:
        """Hours, minutes and seconds at the pace of the last rows: truncations may grow."""
        if not self._recent:
            return "--:--"
        pace = sum(self._recent) / len(self._recent)
        minutes, seconds = divmod(round((self.num_outer_steps - self.done) * pace), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"


def describe(row: Mapping[str, Any], smoothed_loss: float | None, clock: Clock) -> str:
    """One line: outer loss, truncation length, the merge's share of RP,
    inner steps a second, time left.
    """
    loss = "nan" if smoothed_loss is None else f"{smoothed_loss:.4f}"
    parts = [f"outer loss {loss}", f"truncation {row['truncation_length']}"]
    if row.get("weight_reparameterization") is not None:
        parts.append(f"RP share {row['weight_reparameterization']:.2f}")
    if row["num_non_finite"]:
        parts.append(f"non-finite {row['num_non_finite']}")
    parts += [f"{clock.inner_steps_per_second:,.0f} inner steps/s", f"ETA {clock.time_left}"]
    return "  ".join(parts)


class PlainProgress:
    """A line at the start, at the first step, then every few seconds, and at the last step."""

    def __init__(self, num_outer_steps: int, first_step: int):
        """Says that the first step is compiled."""
        self._clock = Clock(num_outer_steps, first_step)
        self._shown = -float("inf")
        if first_step < num_outer_steps:
            print(f"outer step {first_step}/{num_outer_steps}  compiling", flush=True)

    def update(self, row: Mapping[str, Any], smoothed_loss: float | None) -> None:
        """Prints the row if it is time."""
        self._clock.add(row)
        last = self._clock.done == self._clock.num_outer_steps
        if last or time.monotonic() - self._shown >= PLAIN_EVERY_SECONDS:
            self._shown = time.monotonic()
            counter = f"outer step {self._clock.done}/{self._clock.num_outer_steps}"
            print(f"{counter}  {describe(row, smoothed_loss, self._clock)}", flush=True)

    def close(self) -> None:
        """Nothing to end."""


class RichProgress:
    """A bar that stays in place."""

    def __init__(self, num_outer_steps: int, first_step: int):
        """Draws the bar."""
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        self._clock = Clock(num_outer_steps, first_step)
        self._bar = Bar(
            TextColumn("outer step"),
            MofNCompleteColumn(),
            BarColumn(20),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )
        self._task = self._bar.add_task("compiling", total=num_outer_steps, completed=first_step)
        self._bar.start()

    def update(self, row: Mapping[str, Any], smoothed_loss: float | None) -> None:
        """Moves the bar."""
        self._clock.add(row)
        text = describe(row, smoothed_loss, self._clock)
        self._bar.update(self._task, completed=self._clock.done, description=text)

    def close(self) -> None:
        """Leaves the last state on the screen."""
        self._bar.stop()


class NoProgress:
    """Shows nothing."""

    def update(self, row: Mapping[str, Any], smoothed_loss: float | None) -> None:
        """Nothing to show."""

    def close(self) -> None:
        """Nothing to end."""


class Show(NamedTuple):
    """Where a run tells what there is to tell: `QUIET`, `TERMINAL`, or functions of your own.

    Attributes:
      tell: called with a line of news: what is scored, the numbers at the end.
      warn: called with a line for what is wrong and does not end the run: a damaged checkpoint, a
        worker that died.
      progress: called with the run's outer steps and the first to come; its result is told each
        row.
      during: called with what is done next and takes long; what it gives is entered for as long
        as that takes, and then called with the share that is done, if that is known. If None, it is
        a line of news.
    """

    tell: Callable[[str], None]
    warn: Callable[[str], None]
    progress: Callable[[int, int], Progress]
    during: Callable[[str], AbstractContextManager[Callable[[float], None]]] | None = None

    def phase(self, what: str) -> AbstractContextManager[Callable[[float], None]]:
        """Shows what is done within it: as `during` does, or else as a line of news."""
        if self.during is not None:
            return self.during(what)
        self.tell(what)
        return contextlib.nullcontext(lambda share: None)


def _warn_on_the_terminal(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody needs to read it
        print(f"warning: {line}", file=sys.stderr, flush=True)


QUIET = Show(
    lambda line: None,
    functools.partial(warnings.warn, stacklevel=2),
    lambda steps, first: NoProgress(),
)
"""Nothing is printed, and what is wrong is a Python warning."""
TERMINAL = Show(functools.partial(print, flush=True), _warn_on_the_terminal, make_progress)
"""News and progress go to standard output, warnings to standard error."""
