"""Columns of the page's tables: a short heading, what it means, and where its numbers stand."""

import math
import re
from typing import Any, NamedTuple

from learned_opt_lab.drawing.text import format_number
from learned_opt_lab.evaluation.page.boards import Board


class Column(NamedTuple):
    """A column of numbers.

    Attributes:
      heading: a word or two.
      path: of the number, or of its interval, within an optimizer or a row.
      meaning: shown where the pointer rests on the heading.
    """

    heading: str
    path: str
    meaning: str


_SCORES = (
    Column("score", "normalized", "normalized score: 0 is the reference, lower is better"),
    Column(
        "better",
        "improvement_over_reference",
        "probability that a run ends below one of the reference",
    ),
    Column("won", "against_reference.won", "tasks with a lower test loss than the reference"),
    Column("lost", "against_reference.lost", "tasks with a higher test loss than the reference"),
)
_RATIOS = (
    Column(
        "steps",
        "steps_to_best.steps_ratio",
        "steps to the reference's lowest validation loss, over its own",
    ),
    Column("seconds", "steps_to_best.seconds_ratio", "the same in seconds"),
)
_SPEED = Column(
    "speed, steps",
    "speed.steps",
    "area under the profile of steps to the reference's lowest validation loss: 1 for the fastest "
    "on every task, 0 for one that never gets there in four times the fastest's",
)
_SPEED_IN = {
    "seconds": "the same in seconds",
    "seconds_with_tuning": "the same in seconds, those of its search included",
}
_REST = (
    Column("reached", "steps_to_best.tasks_reached", "tasks on which that loss is reached"),
    Column(
        "valid ≤",
        "validation_at_most_reference.tasks",
        "tasks on which the final validation loss is at most the reference's",
    ),
    Column(
        "time a step",
        "against_reference.seconds_per_step_ratio",
        "seconds a step over the reference's, geometric mean over tasks",
    ),
    Column("diverged", "divergence_rate", "share of runs that diverged"),
)
_OF_LEAGUES = (
    Column("search, s", "cost.seconds", "seconds of all runs of the search, over all tasks"),
)
_ROWS = (
    Column("score", "normalized", "normalized score: 0 is the reference, lower is better"),
    Column("test", "test_loss", "test loss, mean of the last tenth"),
    Column("validation", "validation_loss", "validation loss, mean of the last tenth"),
    Column("training", "train_loss", "training loss, mean of the last tenth"),
    Column("steps", "steps_to_target.steps", "steps to the reference's final validation loss"),
    Column("ratio", "steps_to_target.steps_ratio", "these steps over the reference's own"),
    Column("seconds", "steps_to_target.seconds", "seconds to the same loss"),
    Column("s a step", "seconds_per_step", "seconds a training step"),
    Column("diverged", "divergence_rate", "share of runs that diverged"),
)


def ranking_columns(board: Board) -> tuple[Column, ...]:
    """Of the table of optimizers.

    A board of a league says how fast each is by its profile: a ratio to the reference's steps is
    infinite as soon as a quarter of the runs never reach its best.
    """
    fast = _RATIOS
    if board.budget:
        seconds = Column("speed, s", f"speed.{board.seconds}", _SPEED_IN[board.seconds])
        fast = (_SPEED, seconds)
    return _SCORES + fast + _REST + (_OF_LEAGUES if board.budget > 1 else ())


def row_columns() -> tuple[Column, ...]:
    """Of the table of tasks and optimizers."""
    return _ROWS


def metrics_of(row: dict[str, Any]) -> list[tuple[str, str]]:
    """(name, key) of what a row's task measures beside its loss.

    A metric's name is its task's own; one that is no plain word has no path.
    """
    names = [name for name in row if re.fullmatch(r"test_[A-Za-z]\w*", name)]
    return [
        (name.removeprefix("test_").replace("_", " "), name)
        for name in names
        if name != "test_loss"
    ]


def chosen(row: dict[str, Any], board: Board) -> str:
    """The hyperparameters of a row; in a league those that are not the optimizer's default."""
    hyperparameters = row["hyperparameters"] or {}
    defaults = {o["label"]: o.get("default") for o in board.content["optimizers"]}
    default = defaults[row["optimizer"]]
    shown = {
        name: value
        for name, value in hyperparameters.items()
        if default is None or not _same(value, default.get(name))
    }
    chosen = ", ".join(f"{name} {format_number(value)}" for name, value in shown.items())
    return chosen or ("default" if hyperparameters else "not tuned")


def _same(value: Any, default: Any) -> bool:
    """Words, or numbers that went through float32."""
    if isinstance(value, float) and isinstance(default, float):
        return math.isclose(value, default, rel_tol=1e-6)
    return value == default
