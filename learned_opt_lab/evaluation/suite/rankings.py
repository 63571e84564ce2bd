"""From the rows of a report, one for each task and optimizer, to what holds over all tasks:
ranks, pairs, profiles.

Inside, what was never reached is infinity and what is unknown is nan; both are null in
`report.json`.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learned_opt_lab.evaluation import measures, statistics
from learned_opt_lab.evaluation.suite.entries import Entry
from learned_opt_lab.evaluation.suite.scores import finals_of

TIMING_TOLERANCE = 1.25
"""Largest ratio of seconds a step of optimizers whose steps cost the same."""


def _column(rows: list[dict], label: str, *path: str) -> NDArray:
    """`[tasks, runs]` of one optimizer."""
    values = []
    for row in rows:
        if row["optimizer"] == label:
            value = row
            for key in path:
                value = value[key]
            values.append(value)
    return np.asarray(values, np.float64)


def summaries(
    entries: list[Entry], rows: list[dict], reference_rows: list[dict]
) -> list[dict[str, Any]]:
    """One summary for each optimizer, best first: by interquartile mean, then by mean, of the
    normalized scores, then by how many runs diverged, then by how many were not finite.

    Equal ones share a rank. An optimizer whose score is unknown stands behind all others.

    Args:
      entries: the optimizers.
      rows: one for each task and optimizer.
      reference_rows: those of the reference, one for each task; they need not be among the rows.
    """
    reference_scores = np.asarray([row["normalized"]["runs"] for row in reference_rows], float)
    summaries = []
    for entry in entries:
        own = [row for row in rows if row["optimizer"] == entry.label]
        finals = finals_of(own, reference_rows)
        summary = {
            "label": entry.label,
            "spec": entry.spec,
            "kind": entry.kind,
            "fingerprint": entry.fingerprint,
            **entry.details,
            "normalized": finals.interval()._asdict(),
            "normalized_mean": finals.interval(statistics.mean)._asdict(),
            "improvement_over_reference": statistics.probability_of_improvement_interval(
                finals.scores, reference_scores
            )._asdict(),
            **_divergence(own),
            "validation_at_most_reference": _at_most(rows, entry.label, reference_rows),
            "against_reference": _against(rows, entry.label, reference_rows),
            **{
                f"steps_to_{name}": _ratios(rows, entry.label, f"steps_to_{name}")
                for name in ("target", "best")
            },
        }
        summaries.append(summary | {"verdict": verdict_of(summary)})
    keys = [_place(summary) for summary in summaries]
    ranked = [
        {"rank": 1 + sum(k < key for k in keys), **s}
        for key, s in zip(keys, summaries, strict=True)
    ]
    return sorted(ranked, key=_place)


def _divergence(rows: list[dict]) -> dict[str, Any]:
    """How many of an optimizer's runs diverged, and on how many tasks all of them."""
    runs = [run for row in rows for run in row["diverged_runs"]]
    lost = [run for run in runs if run["first_non_finite_step"] is not None]
    return {
        "divergence_rate": float(np.mean([row["divergence_rate"] for row in rows])),
        "num_diverged_runs": len(runs),
        "num_non_finite_runs": len(lost),
        "num_lost_tasks": sum(len(row["diverged_runs"]) == row["num_runs"] for row in rows),
    }


def _place(summary: dict[str, Any]) -> tuple:
    """What optimizers are sorted by; nan, which compares with nothing, is behind everything."""
    scores = [summary[name]["estimate"] for name in ("normalized", "normalized_mean")]
    scores += [summary["divergence_rate"], summary["num_non_finite_runs"]]
    return tuple((math.isnan(score), 0.0 if math.isnan(score) else score) for score in scores)


def verdict_of(summary: dict[str, Any]) -> str:
    """How an optimizer did against the reference, in words that both intervals must bear out.

    "beats" only where the normalized score's interval lies below 0 and that of the probability of
    improvement above 1/2; "loses to" the other way round; else they are level. Who loses all runs
    of a task beats nobody.
    """
    score, better = summary["normalized"], summary["improvement_over_reference"]
    ends = [interval[name] for interval in (score, better) for name in ("low", "high")]
    if np.isnan(ends).any():
        return "cannot be compared with"
    if score["high"] < 0 and better["low"] > 0.5 and not summary["num_lost_tasks"]:
        return "beats"
    if score["low"] > 0 and better["high"] < 0.5:
        return "loses to"
    return "is level with"


def _against(rows: list[dict], label: str, reference_rows: list[dict]) -> dict[str, Any]:
    """On how many tasks the mean final test loss is lower than the reference's, and on how many
    higher; and the seconds a step over the reference's, geometric mean over tasks.
    """
    reference = {row["task"]: row for row in reference_rows}
    own = [row for row in rows if row["optimizer"] == label]
    speeds = [row["seconds_per_step"] / reference[row["task"]]["seconds_per_step"] for row in own]
    ratio = float(np.exp(np.mean(np.log(speeds))))
    return _won_and_lost(own, reference_rows) | {"seconds_per_step_ratio": ratio}


def _won_and_lost(rows: list[dict], other_rows: list[dict]) -> dict[str, int]:
    """On how many of the tasks that one has the mean final test loss is lower than the other's, and
    on how many higher.
    """
    other = {row["task"]: row["test_loss"]["estimate"] for row in other_rows}
    losses = [(row["test_loss"]["estimate"], other[row["task"]]) for row in rows]
    return {
        "won": sum(mine < theirs for mine, theirs in losses),
        "lost": sum(mine > theirs for mine, theirs in losses),
        "num_tasks": len(losses),
    }


def timing_warnings(entries: list[Entry], rows: list[dict]) -> list[dict[str, Any]]:
    """Tasks on which optimizers of one architecture, whose steps cost the same, differ in measured
    seconds a step by more than `TIMING_TOLERANCE`: something else ran on the machine.
    """
    groups: dict[tuple[str, str], list[dict]] = {}
    architectures = {entry.label: entry.architecture for entry in entries}
    for row in rows:
        groups.setdefault((row["task"], architectures[row["optimizer"]]), []).append(row)
    found = []
    for (task, _), group in groups.items():
        seconds = [row["seconds_per_step"] for row in group]
        ratio = max(seconds) / min(seconds)
        if ratio > TIMING_TOLERANCE:
            labels = [row["optimizer"] for row in group]
            found.append({"task": task, "optimizers": labels, "seconds_per_step_ratio": ratio})
    return found


def _at_most(rows: list[dict], label: str, reference_rows: list[dict]) -> dict[str, int]:
    """On how many of the tasks on which both are known the final validation loss is no higher
    than the reference's.
    """
    reference = {row["task"]: row["validation_loss"]["estimate"] for row in reference_rows}
    final = {
        row["task"]: row["validation_loss"]["estimate"] for row in rows if row["optimizer"] == label
    }
    tasks = [task for task in final if not np.isnan([final[task], reference[task]]).any()]
    return {
        "tasks": sum(final[task] <= reference[task] for task in tasks),
        "num_tasks": len(tasks),
    }


def _ratios(rows: list[dict], label: str, name: str) -> dict[str, Any]:
    """Interquartile means over tasks and runs of the ratios to the reference's own;
    tasks without a ratio left out.
    """
    own = [
        row for row in rows if row["optimizer"] == label and not np.isnan(row[name]["steps_ratio"])
    ]
    if not own:
        return {"steps_ratio": None, "seconds_ratio": None, "tasks_reached": 0, "num_tasks": 0}
    intervals = {
        f"{unit}_ratio": statistics.stratified_bootstrap(
            _column(own, label, name, f"{unit}_ratio_runs")
        )._asdict()
        for unit in ("steps", "seconds")
    }
    reached = sum(math.isfinite(row[name]["steps"]) for row in own)
    return {**intervals, "tasks_reached": reached, "num_tasks": len(own)}


def pairwise(entries: list[Entry], rows: list[dict]) -> list[dict[str, Any]]:
    """How often a run of x ends below a run of y, and on how many tasks x does, for all ordered
    pairs.
    """
    of = {entry.label: [r for r in rows if r["optimizer"] == entry.label] for entry in entries}
    scores = {entry.label: _column(rows, entry.label, "normalized", "runs") for entry in entries}
    return [
        {
            "x": x,
            "y": y,
            **statistics.probability_of_improvement_interval(scores[x], scores[y])._asdict(),
            **_won_and_lost(of[x], of[y]),
        }
        for x in scores
        for y in scores
        if x != y
    ]


def profiles(entries: list[Entry], rows: list[dict]) -> dict[str, Any]:
    """Share of runs at or below each normalized score."""
    scores = {entry.label: _column(rows, entry.label, "normalized", "runs") for entry in entries}
    known = np.concatenate([values.ravel() for values in scores.values()])
    lowest = max(-1.0, min([-0.01, *known[~np.isnan(known)].tolist()]))
    positive = np.geomspace(0.01, measures.WORST_SCORE, 60)
    thresholds = np.concatenate([np.linspace(lowest, 0.01, 60, endpoint=False), positive])
    return {
        "thresholds": thresholds.tolist(),
        "shares": {
            label: statistics.performance_profile(s, thresholds).tolist()
            for label, s in scores.items()
        },
    }
