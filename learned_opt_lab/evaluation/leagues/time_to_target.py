"""Time-to-target profiles of optimizers over tasks, as AlgoPerf draws them (arXiv 2306.07179).

Of each task and optimizer the time to a validation target is the median over runs, infinite where
that never reaches it. Divided by the shortest time on the task it is a ratio. A profile is the
share of tasks whose ratio is at most `tau`, for `tau` from 1 to `MAX_RATIO`; its score is the area
under it, 1 for the fastest on all tasks.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learned_opt_lab.evaluation import statistics

MAX_RATIO = 4.0
UNITS = ("steps", "seconds", "seconds_with_tuning")
"""Inner steps; steps times measured seconds a step; the same after all runs of the search."""
_RATIOS = np.geomspace(1.0, MAX_RATIO, 61)


def ratios_to_fastest(times: NDArray) -> NDArray:
    """Times divided by the shortest on their task; infinite where the target was not reached.

    A time of zero, of a target that needs no training, is the shortest: only zeros have ratio 1.

    Args:
      times: `[..., optimizers, tasks]`, infinite where never reached.
    """
    shortest = times.min(axis=-2, keepdims=True)
    known = np.isfinite(times)
    safe = np.where(known & (shortest > 0), times, np.inf) / np.where(
        np.isfinite(shortest) & (shortest > 0), shortest, 1.0
    )
    return np.where(known & (times == shortest), 1.0, safe)


def shares_within(ratios: NDArray, thresholds: NDArray) -> NDArray:
    """Share of tasks with a ratio at or below each threshold: `[optimizers, thresholds]`."""
    # The last digits of a ratio are those of two divisions.
    return (ratios[..., None] <= thresholds * (1 + 1e-12)).mean(axis=-2)


def scores(ratios: NDArray) -> NDArray:
    """Area under each profile from 1 to `MAX_RATIO`, in [0, 1]: `[..., optimizers]`."""
    return np.clip((MAX_RATIO - ratios) / (MAX_RATIO - 1.0), 0.0, 1.0).mean(axis=-1)


def time_to_target(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Profiles and scores of the optimizers that have rows, on all time axes.

    Args:
      rows: of a board, every optimizer on the same tasks, with `cost`.
      name: "steps_to_target" or "steps_to_best".
    """
    labels = list(dict.fromkeys(row["optimizer"] for row in rows))
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    found = {(row["optimizer"], row["task"]): row for row in rows}
    table = [[found[label, task] for task in tasks] for label in labels]
    return {
        "tasks": tasks,
        "max_ratio": MAX_RATIO,
        "ratios": _RATIOS.tolist(),
        "units": {unit: _profile(table, labels, name, _TIMES[unit]) for unit in UNITS},
    }


_TIMES: dict[str, Callable[[NDArray, dict[str, Any]], NDArray]] = {
    "steps": lambda steps, row: steps,
    "seconds": lambda steps, row: steps * row["seconds_per_step"],
    "seconds_with_tuning": lambda steps, row: (
        steps * row["seconds_per_step"] + row["cost"]["seconds"]
    ),
}


def _profile(
    table: list[list[dict]], labels: list[str], name: str, time: Callable
) -> dict[str, Any]:
    runs = np.asarray(
        [[time(np.asarray(row[name]["runs"], float), row) for row in line] for line in table]
    )
    times = np.median(runs, axis=-1)
    ratios = ratios_to_fastest(times)
    middle, low, high = scores(ratios), *_score_intervals(runs)
    return {
        "times": dict(zip(labels, times.tolist(), strict=True)),
        "ratios_to_fastest": dict(zip(labels, ratios.tolist(), strict=True)),
        "shares": dict(zip(labels, shares_within(ratios, _RATIOS).tolist(), strict=True)),
        "scores": {
            label: statistics.Interval(*map(float, values))._asdict()
            for label, *values in zip(labels, middle, low, high, strict=True)
        },
    }


def _score_intervals(runs: NDArray, seed: int = 0) -> tuple[NDArray, NDArray]:
    """Percentile bootstrap of the scores, runs resampled within each task and the same for every
    optimizer; nan with one run.

    Args:
      runs: times `[optimizers, tasks, runs]`.
      seed: of NumPy's generator.
    """
    number = runs.shape[-1]
    if number < 2:
        unknown = np.full(runs.shape[0], np.nan)
        return unknown, unknown
    generator = np.random.default_rng(seed)
    picks = generator.integers(number, size=(statistics.NUM_RESAMPLES, 1, *runs.shape[1:]))
    drawn = np.median(np.take_along_axis(runs[None], picks, axis=-1), axis=-1)
    ends = [statistics.interval_of(column) for column in scores(ratios_to_fastest(drawn)).T]
    low, high = np.transpose(ends)
    return low, high
