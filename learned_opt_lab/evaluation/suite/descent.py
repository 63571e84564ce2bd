"""All tasks in one curve: the score of every optimizer on its way, over steps and over seconds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learned_opt_lab.evaluation import measures, statistics
from learned_opt_lab.evaluation.suite.entries import Entry
from learned_opt_lab.evaluation.suite.run import Cell
from tasks import SuiteTask

DEFINITIONS = {
    "descent": "the smoothed test loss on the scale of the normalized score, at shares of the "
    "reference's steps and seconds; interquartile mean over tasks and runs; a run that is over "
    "stays where it ended"
}
LONGEST = 2.0
"""Seconds go as far as the slowest optimizer's, and at most so many times the reference's."""
_NUM_POINTS = 41


def descents(
    tasks: Sequence[SuiteTask],
    entries: Sequence[Entry],
    cells: Mapping[tuple[str, str], Cell],
    references: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    """For each unit, `steps` and `seconds`: the shares of the reference's run, and for each
    optimizer the interquartile mean of its scores there, over tasks and runs.

    A score is the smoothed test loss on the scale of the normalized score, 0 where the reference
    ends and 1 where it starts, so that the last one over steps is the normalized score. A run that
    is over stays where it ended; one that is no longer finite stays at the worst score.

    Args:
      tasks: that all entries ran on.
      entries: the optimizers.
      cells: what was measured, by task and label.
      references: what `reference_of` gives, by task.
    """
    curves = {
        entry.label: [
            (
                _scores(task, cells[task.name, entry.label], references[task.name]),
                cells[task.name, entry.label].record["seconds_per_step"]
                / references[task.name]["seconds_per_step"],
            )
            for task in tasks
        ]
        for entry in entries
    }
    slowest = max(ratio for of_tasks in curves.values() for _, ratio in of_tasks)
    found: dict[str, Any] = {}
    for unit, longest in (("steps", 1.0), ("seconds", float(np.clip(slowest, 1.0, LONGEST)))):
        shares = np.linspace(0.0, longest, _NUM_POINTS)
        scores = {}
        for label, of_tasks in curves.items():
            runs = [
                _at(shares, each, 1.0 if unit == "steps" else ratio) for each, ratio in of_tasks
            ]
            scores[label] = statistics.interquartile_mean(np.stack(runs), (0, 1)).tolist()
        found[unit] = {"shares": shares.tolist(), "scores": scores}
    return found


def _at(shares: NDArray, scores: NDArray, end: float) -> NDArray:
    """Scores, `[runs, points]`, of runs that end at a share, at others: `[runs, shares]`."""
    points = np.linspace(0.0, end, scores.shape[-1])
    return np.stack([np.interp(shares, points, run) for run in scores])


def _scores(task: SuiteTask, cell: Cell, reference: Mapping[str, float]) -> NDArray:
    """`[runs, points]`."""
    raw = np.asarray(cell.curves["test"]["loss"])
    losses = measures.smooth(raw, task.loss_cap)
    lost = np.logical_or.accumulate(~np.isfinite(raw), axis=-1)
    return measures.normalized_scores(losses, lost, reference["start"], reference["test"])
