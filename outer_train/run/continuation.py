"""Whether the files of a run fit together, so that it can go on;
and what the user allows where they do not.
"""

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from learned_opt.disk import files
from outer_train.run import checkpoint_files
from outer_train.run import metrics as metrics_lib
from outer_train.run.directory import RunDirectory, outer_steps_done


class Allowed(NamedTuple):
    """What a run may go on without.

    Attributes:
      restart: start again at outer step 0 where no checkpoint can be read; the rows there are kept
        under another name.
      missing_rows: go on though rows of `metrics.jsonl` are missing or broken; they stay missing.
      changed_config: go on though `config.json` was changed since the run began; for those who read
        it.
    """

    restart: bool = False
    missing_rows: bool = False
    changed_config: bool = False


STRICT = Allowed()


def rows_so_far(
    run: RunDirectory,
    step: int,
    checkpoint_every: int,
    allowed: Allowed,
    warn: Callable[[str], None],
) -> list[dict[str, Any]]:
    """The rows of the first `step` outer steps; those after them are cut off, to be written again.

    Args:
      run: whose newest checkpoint is of outer step `step`; 0 if it has none.
      step: the outer step to go on from.
      checkpoint_every: outer steps between two checkpoints.
      allowed: what may be missing.
      warn: called with a line for what is missing and allowed.

    Raises:
      ValueError: checkpoints or rows are missing or broken and that is not allowed; nothing has
        been changed.
      OSError: the files cannot be read or written.
    """
    broken: list[str] = []
    rows = metrics_lib.read_rows(run.metrics, broken.append if allowed.missing_rows else None)
    if step == 0 and rows and (lost := _lost_checkpoints(run, len(rows), checkpoint_every)):
        if not allowed.restart:
            raise ValueError(
                f"{lost}, but {run.metrics} has {len(rows)} rows\n"
                "put the checkpoints back, or start again at outer step 0 by --allow-restart"
            )
        warn(
            f"{lost}; starting again at outer step 0, the rows so far are in "
            f"{_free_name(run.metrics)}"
        )
        os.rename(run.metrics, _free_name(run.metrics))
        return []
    if defect := _defect(rows, step):
        if not allowed.missing_rows:
            raise ValueError(
                f"{run.metrics} {defect}, but the newest checkpoint is of outer step {step}\n"
                "put the rows back, or go on without them by --allow-missing-rows"
            )
        warn(f"{run.metrics} {defect}; going on without")
    if broken:
        warn(f"{broken[0]}; the rows as they were are in {_free_name(run.metrics)}")
        files.write_atomically(
            _free_name(run.metrics), lambda file: file.write(run.metrics.read_bytes())
        )
    return metrics_lib.cut(run.metrics, step, broken.append, metrics_lib.NEEDED)


def _lost_checkpoints(run: RunDirectory, num_rows: int, checkpoint_every: int) -> str | None:
    """Says so if there was a checkpoint;
    without one, rows are what a run leaves that was killed early.
    """
    if newest := outer_steps_done(run):
        return (
            f"the checkpoints in {run.checkpoints} are gone, the newest was of outer step {newest}"
        )
    # More rows than that are written only after a checkpoint was begun, which leaves traces.
    if num_rows > checkpoint_every and not checkpoint_files.has_traces(run.checkpoints):
        return f"the checkpoints in {run.checkpoints} are gone"
    return None


def _defect(rows: list[dict[str, Any]], step: int) -> str | None:
    """What is wrong with the rows of the first `step` outer steps."""
    kept = [row for row in rows if row["outer_step"] < step]
    numbers = [row["outer_step"] for row in kept]
    if not numbers and step:
        return "is missing or has no rows"
    if numbers != list(range(len(numbers))):
        number = next(i for i, found in enumerate(numbers) if found != i)
        return f"has no row of outer step {number} in its place"
    if len(numbers) < step:
        return f"ends with the row of outer step {len(numbers) - 1}"
    for row in kept:
        if missing := [name for name in metrics_lib.NEEDED if name not in row]:
            return f"has no {missing[0]} in the row of outer step {row['outer_step']}"
    return None


def _free_name(path: Path) -> Path:
    names = (Path(f"{path}.old-{number}") for number in itertools.count(1))
    return next(name for name in names if not os.path.lexists(name))
