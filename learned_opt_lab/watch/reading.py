"""What the files of a run say of it, while it goes on and after."""

import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from numpy.typing import NDArray

from learned_opt_lab.drawing.training_figures import read_curves
from outer_train.run import RunDirectory, directory, lock, metrics

MAX_DEPTH = 3
"""Folders below the one that is named in which runs are looked for."""
RECENT = 100
"""Outer steps whose pace says how long the rest will take."""
_NOTHING: dict[str, Any] = {}
_NO_ROWS: list[dict[str, Any]] = []
"""In place of what is not there: the same each time, so that it shows that nothing has changed."""
State = Literal["running", "stopped", "complete"]


class Watched(NamedTuple):
    """A run as its files tell it.

    Attributes:
      label: what it is called on pages, unlike all others.
      path: its directory.
      config: what `config.json` holds.
      versions: what `versions.json` holds; empty where there is none.
      rows: of `metrics.jsonl`.
      summary: of `summary.json`; None until the run is complete.
      curves: optimizer -> held-out losses `[tasks, steps]`.
      state: whether a process writes to it, and if none does, whether it is complete.
      trouble: lines that say what could not be read.
    """

    label: str
    path: Path
    config: dict[str, Any]
    versions: dict[str, Any]
    rows: list[dict[str, Any]]
    summary: dict[str, Any] | None
    curves: dict[str, NDArray]
    state: State
    trouble: tuple[str, ...]

    @property
    def num_outer_steps(self) -> int | None:
        """Of the whole run; None where its config does not say."""
        wanted = self.config.get("num_outer_steps")
        return wanted if type(wanted) is int and wanted > 0 else None

    @property
    def done(self) -> int:
        """Outer steps so far."""
        return self.rows[-1]["outer_step"] + 1 if self.rows else 0

    @property
    def seconds(self) -> float:
        """Of all outer steps, those left out that waited for a compilation."""
        return math.fsum(row.get("seconds") or 0.0 for row in self.rows)

    @property
    def steps_per_second(self) -> float | None:
        """Outer steps a second over the last `RECENT`; None before there are two."""
        timed = [s for row in self.rows[-RECENT:] if (s := row.get("seconds")) is not None]
        return len(timed) / total if (total := math.fsum(timed)) > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """At the pace of the last steps; None for a run that does not go on, or nobody knows."""
        pace, wanted = self.steps_per_second, self.num_outer_steps
        if self.state != "running" or pace is None or wanted is None:
            return None
        return max(wanted - self.done, 0) / pace


def find_runs(paths: Iterable[str | os.PathLike]) -> dict[str, Path]:
    """Label -> directory of each run that is meant, in the order given and each once.

    A folder that holds no run itself stands for the runs in it: seeds, or a sweep.

    Raises:
      ValueError: a path holds no run, and no folder in it does.
    """
    found = dict.fromkeys(run for path in paths for run in _runs_in(Path(path)))
    names = [os.path.abspath(run) for run in found]
    return {_label(name, names): run for name, run in zip(names, found, strict=True)}


def _runs_in(path: Path) -> list[Path]:
    if RunDirectory(path).config.exists():
        return [path]
    for depth in range(1, MAX_DEPTH + 1):
        configs = path.glob("/".join(["*"] * depth + ["config.json"])) if path.is_dir() else ()
        if runs := sorted((config.parent for config in configs), key=_in_order):
            return runs
    raise ValueError(f"{path} holds no run: it has no config.json, nor has a folder in it")


def _in_order(path: Path) -> tuple[str, int, str]:
    """`seed-10` comes after `seed-9`."""
    stem = path.name.rstrip("0123456789")
    digits = path.name[len(stem) :]
    return (f"{path.parent}/{stem}", int(digits[:18] or 0), path.name)


def _label(name: str, names: list[str]) -> str:
    """The shortest end of a path that no other one has."""
    parts = name.split(os.sep)
    ends = (os.sep.join(parts[-count:]) for count in range(1, len(parts) + 1))
    alone = (end for end in ends if sum(f"/{n}".endswith(f"/{end}") for n in names) == 1)
    return next(alone, name) or name


class Reader:
    """Reads runs again and again: a file that has not changed is not read twice."""

    def __init__(self, runs: dict[str, Path]):
        """Of `find_runs`; raises as `read` where a run cannot be read at all."""
        self._runs = runs
        self._known: dict[Path, tuple[tuple[int, int, int], Any, tuple[str, ...]]] = {}
        for path in runs.values():
            directory.open_run(path)

    def read(self) -> list[Watched]:
        """All runs as they are now. What is damaged or gone is left out, and said in `trouble`."""
        return [self._watched(label, RunDirectory(path)) for label, path in self._runs.items()]

    def _watched(self, label: str, run: RunDirectory) -> Watched:
        trouble: list[str] = []

        def known(path: Path, read: Callable[[Path, Callable[[str], None]], Any], none: Any) -> Any:
            value, told = self._read(path, read, none)
            trouble.extend(told)
            return value

        json_of = lambda path, tell: directory.read_object(path)
        summary = known(run.summary, json_of, None)
        return Watched(
            label=label,
            path=run.path,
            config=known(run.config, json_of, _NOTHING),
            versions=known(run.versions, json_of, _NOTHING),
            rows=known(run.metrics, _rows, _NO_ROWS),
            summary=summary,
            curves=known(run.held_out_curves, lambda path, tell: read_curves(path), _NOTHING),
            state=_state(run, summary, trouble.append),
            trouble=tuple(trouble),
        )

    def _read(
        self, path: Path, read: Callable[[Path, Callable[[str], None]], Any], none: Any
    ) -> tuple[Any, tuple[str, ...]]:
        """What `read` gives of a file, and what is wrong with it; `none` where there is no file."""
        try:
            status = path.stat()
        except OSError:
            return none, ()
        version = (status.st_mtime_ns, status.st_size, status.st_ino)
        if path not in self._known or self._known[path][0] != version:
            told: list[str] = []
            try:
                value = read(path, told.append)
            except (ValueError, OSError) as error:
                value = none
                told.append(str(error))
            self._known[path] = (version, value, tuple(told))
        return self._known[path][1:]


def _rows(path: Path, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """Rows of a `metrics.jsonl`; tells of the first one without what every run writes."""
    rows = metrics.read_rows(path, tell)
    for row in rows:
        if missing := [name for name in metrics.NEEDED if name not in row]:
            tell(f"{path} has no {missing[0]} in the row of outer step {row['outer_step']}")
            break
    return rows


def _state(run: RunDirectory, summary: dict[str, Any] | None, tell: Callable[[str], None]) -> State:
    try:
        lock.check(run.path)
    except ValueError:
        return "running"
    except OSError as error:  # nobody holds what is no lock
        tell(str(error))
    return "stopped" if summary is None else "complete"
