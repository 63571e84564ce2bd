"""What a command came to, and how it is told: in words, as JSON, or in one line."""

import contextlib
import contextvars
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple, TextIO

from learned_opt_lab.drawing import text

_RESULTS: contextvars.ContextVar[TextIO | None] = contextvars.ContextVar("results", default=None)
FLAGS = ("--json", "--quiet")
"""Every command takes them, wherever they stand."""


class Mode(NamedTuple):
    """How a command is to tell what it does.

    Attributes:
      as_json: one object on standard output at the end, and all else on standard error.
      quiet: nothing but errors and the last line, or the object.
    """

    as_json: bool = False
    quiet: bool = False


class Outcome(NamedTuple):
    """What a command came to; a plain exit status says no more than that.

    Attributes:
      status: the exit status.
      found: for `--json`: scores, and which files were written.
      line: what it means, in one line.
      next: the command that one would try next.
      error: what went wrong, though the work is done or can go on.
    """

    status: int = 0
    found: Mapping[str, Any] = {}
    line: str = ""
    next: str = ""
    error: str = ""


def mode_of(argv: Sequence[str]) -> tuple[Mode, list[str]]:
    """The mode that the flags ask for, and the words without them.

    Example:
      >>> mode_of(["quick", "--json"])
      (Mode(as_json=True, quiet=False), ['quick'])
    """
    rest = [word for word in argv if word not in FLAGS]
    return Mode(*(flag in argv for flag in FLAGS)), rest


@contextlib.contextmanager
def directed(mode: Mode) -> Iterator[None]:
    """Within it, what is printed goes where the mode wants it; what `result` says is seen in all
    of them.
    """
    with contextlib.ExitStack() as stack:
        stack.callback(_RESULTS.reset, _RESULTS.set(sys.stderr if mode.as_json else sys.stdout))
        if mode.quiet:
            sink = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stderr(sink))
        if mode.as_json or mode.quiet:
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield


def say(*lines: str, of_errors: bool = False) -> None:
    """Prints lines in which a name of anybody's may stand, a folder's, a label, a task: nothing in
    them is a command to the terminal, and none is two.

    Args:
      lines: what is said.
      of_errors: on standard error.
    """
    for line in lines:
        print(text.plain(line), file=sys.stderr if of_errors else sys.stdout, flush=True)


def result(line: str) -> None:
    """Prints a line that is a result before the command ends: where a page is served."""
    print(text.plain(line), file=_RESULTS.get() or sys.stdout, flush=True)


def end(mode: Mode, command: str, outcome: Outcome | int) -> int:
    """Tells the outcome, and gives the exit status."""
    found = Outcome(outcome) if isinstance(outcome, int) else outcome
    if found.error:
        say(found.error, of_errors=True)
    if mode.as_json:
        told = {"verdict": found.line or None, "next": found.next or None}
        everything = {"command": command, "status": found.status, **found.found, **told}
        print(json.dumps(plain(everything), allow_nan=False))
    elif found.line:
        say(found.line)
    if found.next and not (mode.as_json or mode.quiet):
        say(f"next: {found.next}")
    return found.status


def plain(value: Any) -> Any:
    """A value as JSON has it: paths are text, and what is not finite is null."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(each) for each in value]
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
