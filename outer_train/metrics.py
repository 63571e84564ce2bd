"""`metrics.jsonl`, one row an outer step, and TensorBoard when asked for."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FLUSH_EVERY = 5
"""Rows a killed run can lose."""


class MetricsWriter:
    """Appends rows to `metrics.jsonl`, flushing every `FLUSH_EVERY` of them.

    A value that is not finite becomes null, since JSON has no nan.
    """

    def __init__(self, directory: str | os.PathLike, *, tensorboard: bool = False):
        """Opens the files.

        Args:
          directory: the run directory; it exists.
          tensorboard: also write scalars to `directory/tensorboard`.

        Raises:
          ValueError: TensorBoard is asked for and tensorboardX is not installed.
        """
        self._summary = _summary_writer(Path(directory) / "tensorboard") if tensorboard else None
        self._file = (Path(directory) / "metrics.jsonl").open("a", encoding="utf-8")
        self._unflushed = 0

    def write(self, row: Mapping[str, Any]) -> None:
        """Adds one row; `row["outer_step"]` says which."""
        self._file.write(json.dumps({name: _finite(value) for name, value in row.items()}) + "\n")
        self._unflushed += 1
        if self._unflushed >= FLUSH_EVERY:
            self.flush()
        if self._summary is not None:
            for name, value in row.items():
                if isinstance(value, int | float) and name != "outer_step":
                    self._summary.add_scalar(name, value, row["outer_step"])

    def flush(self) -> None:
        """Hands all rows to the operating system."""
        self._file.flush()
        self._unflushed = 0

    def close(self) -> None:
        """Flushes and closes the files."""
        self._file.close()
        if self._summary is not None:
            self._summary.close()


def read_rows(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Rows of a `metrics.jsonl`; a last line that was cut short by a kill is left out, a missing file has none."""
    path = Path(path)
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def cut(path: str | os.PathLike, num_outer_steps: int) -> list[dict[str, Any]]:
    """Drops the rows from outer step `num_outer_steps` on, which a resumed run writes again; returns those kept."""
    rows = [row for row in read_rows(path) if row["outer_step"] < num_outer_steps]
    temporary = Path(f"{os.fspath(path)}.tmp")
    temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    os.replace(temporary, path)
    return rows


def summarize(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The part of `summary.json` that the rows alone give.

    `outer_loss_first` and `outer_loss_last` are means over the first and last 5 % of the rows, at least 5 (or half of
    them, if there are fewer than 10). `inner_steps_per_second` leaves out the steps that waited for a compilation.
    """
    window = min(max(5, len(rows) // 20), max(1, len(rows) // 2))
    timed = [row for row in rows if row["seconds"] is not None]
    seconds = sum(row["seconds"] for row in timed)
    return {
        "num_outer_steps": len(rows),
        "outer_loss_window": window,
        "outer_loss_first": mean_loss(rows[:window]),
        "outer_loss_last": mean_loss(rows[-window:]),
        "inner_steps": rows[-1]["inner_steps"] if rows else 0,
        "inner_steps_per_second": sum(row["num_live_inner_steps"] for row in timed) / seconds if seconds else None,
        "num_non_finite": sum(row["num_non_finite"] for row in rows),
    }


def mean_loss(rows: list[dict[str, Any]]) -> float | None:
    """Mean outer loss over the rows in which it was finite; None if it never was."""
    losses = [row["outer_loss"] for row in rows if row["outer_loss"] is not None]
    return math.fsum(losses) / len(losses) if losses else None


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _summary_writer(directory: Path):
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ValueError(f"TensorBoard was asked for, but tensorboardX is not installed ({error})") from error
    return SummaryWriter(str(directory))
