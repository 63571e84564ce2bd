"""`metrics.jsonl`, one row an outer step, which trackers are told, too, when asked for."""

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any

from learned_opt.disk import files
from outer_train.processes._printable import printable
from outer_train.run.trackers import Tracker, numbers_of

FLUSH_EVERY = 5
"""Rows a killed run can lose."""
MAX_VALUE = 1e300
KNOWN = {
    "outer_step": ((int,), 0),
    "outer_loss": ((int, float, NoneType), -math.inf),
    "truncation_length": ((int, float, NoneType), 0),
    "inner_steps": ((int, float), 0),
    "num_live_inner_steps": ((int, float), 0),
    "num_non_finite": ((int, float), 0),
    "seconds": ((int, float, NoneType), 0),
}
"""Fields that are computed with: the types of their values, and the least one."""
NEEDED = (
    "outer_step",
    "outer_loss",
    "inner_steps",
    "num_live_inner_steps",
    "num_non_finite",
    "seconds",
)
"""Fields without which a run cannot go on or be summed up."""


class MetricsWriter:
    """Appends rows to `metrics.jsonl`, flushing every `FLUSH_EVERY` of them.

    A value that is not finite becomes null, since JSON has no nan.
    """

    def __init__(self, directory: str | os.PathLike, trackers: Sequence[Tracker] = ()):
        """Opens the file.

        Args:
          directory: the run directory; it exists.
          trackers: told the numbers of each row, and closed with the file.

        Raises:
          OSError: the file cannot be opened, or is a link or no regular file.
        """
        self._trackers = tuple(trackers)
        self._path = Path(directory) / "metrics.jsonl"
        self._file = files.open_to_append(self._path)
        self._unflushed = 0

    def write(self, row: Mapping[str, Any]) -> None:
        """Adds one row; `row["outer_step"]` says which.

        Raises:
          OSError: it cannot be written.
        """
        with naming(self._path):
            self._file.write(
                json.dumps({name: _finite(value) for name, value in row.items()}) + "\n"
            )
        self._unflushed += 1
        if self._unflushed >= FLUSH_EVERY:
            self.flush()
        for tracker in self._trackers:
            tracker.scalars(row["outer_step"], numbers_of(row))

    def flush(self, *, to_disk: bool = False) -> None:
        """Hands all rows to the operating system,
        and with `to_disk` waits until they would survive its crash.

        Raises:
          OSError: they cannot be written, for want of room for example.
        """
        with naming(self._path):
            self._file.flush()
            if to_disk:
                os.fsync(self._file.fileno())
        self._unflushed = 0

    def close(self) -> None:
        """Flushes and closes the file and the trackers; raises as `flush`."""
        try:
            with naming(self._path):
                self._file.close()
        finally:
            for tracker in self._trackers:
                tracker.close()


def read_rows(
    path: str | os.PathLike, on_broken: Callable[[str], None] | None = None
) -> list[dict[str, Any]]:
    """Rows of a `metrics.jsonl`; a last line that was cut short by a kill is left out,
    a missing file has none.

    Args:
      path: of the file.
      on_broken: called with what is wrong with a broken row, which is then left out.

    Raises:
      ValueError: a row is broken and `on_broken` is not given; it names file and line.
      OSError: the file cannot be read.
    """
    return [row for row, _ in _rows_and_ends(Path(path), on_broken)]


def cut(
    path: str | os.PathLike,
    num_outer_steps: int,
    on_broken: Callable[[str], None] | None = None,
    needed: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Drops the rows from outer step `num_outer_steps` on, which a resumed run writes again;
    returns those kept.

    With `on_broken`, broken rows are dropped too, and those without the fields `needed`.

    The kept rows are not written again, so it needs no room and cannot lose them, unless there are
    others between them.

    Raises:
      ValueError: as in `read_rows`.
      OSError: the file cannot be read or written, or is a link, and what it leads to somebody's.
    """
    path = Path(path)
    found = _rows_and_ends(path, on_broken)
    kept = [
        (row, end)
        for row, end in found
        if row["outer_step"] < num_outer_steps and row.keys() >= {*needed}
    ]
    if path.exists():
        with naming(path), files.open_in_place(path, os.O_WRONLY) as file:
            content = path.read_bytes()
            end = kept[-1][1] if kept else 0
            has_others = content[:end].count(b"\n") > len(kept)
            if end < len(content) and not has_others:
                file.truncate(end)
        if has_others:
            files.write_text(path, "".join(json.dumps(row) + "\n" for row, _ in kept))
    return [row for row, _ in kept]


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Gives an `OSError` that names no file, as those of a full disk, the file's name."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise type(error)(error.errno, error.strerror, str(path)) from error


def _rows_and_ends(
    path: Path, on_broken: Callable[[str], None] | None
) -> list[tuple[dict[str, Any], int]]:
    """Each row, and where its line ends in the file."""
    if not path.exists():
        return []
    if not path.is_file():  # a pipe would be waited for
        raise ValueError(f"{path} is no file")
    content = path.read_bytes()
    *lines, tail = content.split(b"\n")
    # After rows, any bytes are what a crash left. Alone they may be a file of the user's.
    if not lines and not _is_cut_off(tail):
        lines.append(tail)
    found, end = [], 0
    for number, line in enumerate(lines, 1):
        end += len(line) + 1
        try:
            found.append((_row(line), end))
        except (ValueError, RecursionError) as error:
            reason = f"{path}, line {number} is no row of metrics: {printable(str(error), 120)}"
            if on_broken is None:
                raise ValueError(reason) from error
            on_broken(reason)
    return found


def _is_cut_off(tail: bytes) -> bool:
    """Whether bytes are the start of a row, or what a crash of the machine puts in its place."""
    return b'{"'.startswith(tail.rstrip(b"\0")[:2])


def _row(line: bytes) -> dict[str, Any]:
    row = json.loads(line.decode())
    if not isinstance(row, dict):
        raise ValueError(f"got a {type(row).__name__}, must be an object")
    if "outer_step" not in row:
        raise ValueError("it has no outer_step")
    for name, value in row.items():
        if type(value) is int and not -(1 << 63) <= value < 1 << 63:
            raise ValueError(f"{name} has more than 64 bits")
    row = {name: _finite(value) for name, value in row.items()}
    for name, (kinds, least) in KNOWN.items():
        value = row.get(name)
        if name in row and (
            type(value) not in kinds or (value is not None and not least <= value < MAX_VALUE)
        ):
            raise ValueError(f"{name} is {value!r}")
    return row


def summarize(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The part of `summary.json` that the rows alone give.

    `outer_loss_first` and `outer_loss_last` are means over the first and last `outer_loss_window`
    rows. `inner_steps_per_second` leaves out the steps that waited for a compilation.
    """
    window = outer_loss_window(len(rows))
    timed = [row for row in rows if row["seconds"] is not None]
    seconds = sum(row["seconds"] for row in timed)
    return {
        "num_outer_steps": len(rows),
        "outer_loss_window": window,
        "outer_loss_first": mean_loss(rows[:window]),
        "outer_loss_last": mean_loss(rows[-window:]),
        "inner_steps": rows[-1]["inner_steps"] if rows else 0,
        "inner_steps_per_second": sum(row["num_live_inner_steps"] for row in timed) / seconds
        if seconds
        else None,
        "num_non_finite": sum(row["num_non_finite"] for row in rows),
    }


def outer_loss_window(num_rows: int) -> int:
    """How many rows at either end a run's first and last outer loss are means of: 5 %, at least 5,
    or half of them if there are fewer than 10.
    """
    return min(max(5, num_rows // 20), max(1, num_rows // 2))


def mean_loss(rows: list[dict[str, Any]]) -> float | None:
    """Mean outer loss over the rows in which it was finite; None if it never was."""
    losses = [row["outer_loss"] for row in rows if row["outer_loss"] is not None]
    return math.fsum(losses) / len(losses) if losses else None


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
