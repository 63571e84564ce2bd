"""Rows of a report: one optimizer on one task, measured against a reference."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learned_opt_lab.evaluation import measures, statistics
from learned_opt_lab.evaluation.suite.entries import Entry
from learned_opt_lab.evaluation.suite.run import SPLITS, Cell
from learned_opt_lab.evaluation.suite.scores import Finals, reference_finals
from tasks import SuiteTask

_NAMES = {"train": "train_loss", "outer_valid": "validation_loss", "test": "test_loss"}


def _losses(cell: Cell) -> dict[str, NDArray]:
    return {split: cell.curves[split]["loss"] for split in SPLITS}


def reference_of(task: SuiteTask, cell: Cell) -> dict[str, Any]:
    """What the others are measured against:
    losses of the tuned reference, and when its mean curve reached them.

    Where a run of it diverged it counts as one that made no progress.
    """
    losses, cap = _losses(cell), task.loss_cap
    curves = measures.cap_losses(losses["outer_valid"], cap)
    lost = measures.diverged(losses, cap)[:, None]
    curves = np.where(lost, np.minimum(curves, curves[:, :1]), curves)
    validation = curves.mean(axis=0, keepdims=True)
    start = float(measures.cap_losses(losses["test"], cap)[:, 0].mean())
    test = reference_finals(measures.final_losses(losses["test"], cap), start)
    target = float(measures.final_losses(validation, cap)[0])
    best = float(measures.smooth(validation, cap).min())
    steps = {
        name: float(measures.steps_to(validation, value, task.eval_every, cap)[0])
        for name, value in (("target", target), ("best", best))
    }
    return {
        "start": start,
        "test": float(test.mean()),
        "test_runs": test,
        "target": target,
        "best": best,
        "steps_to_target": steps["target"],
        "steps_to_best": steps["best"],
        "seconds_per_step": cell.record["seconds_per_step"],
    }


def _tuning(record: dict[str, Any], started: str) -> dict[str, Any] | None:
    """A search that this very evaluation made and, interrupted, read again is from no cache."""
    tuning = record["tuning"]
    if not tuning or "cached" not in tuning:
        return tuning
    return tuning | {"cached": tuning["cached"] and tuning["made"] < started}


def row_of(
    task: SuiteTask, entry: Entry, cell: Cell, reference: dict[str, Any], started: str
) -> dict[str, Any]:
    """What one optimizer did on one task.

    Args:
      task: of the suite.
      entry: the optimizer.
      cell: what was measured of it there.
      reference: what `reference_of` gives of the reference's cell.
      started: when the evaluation was: a search made before came from a cache.
    """
    losses, record = _losses(cell), cell.record
    has_diverged = measures.diverged(losses, task.loss_cap)
    final = {split: measures.final_losses(losses[split], task.loss_cap) for split in SPLITS}
    final = {
        split: np.where(has_diverged, np.maximum(f, reference["start"]), f)
        for split, f in final.items()
    }
    finals = Finals(
        final["test"][None],
        has_diverged[None],
        np.asarray([reference["start"]]),
        reference["test_runs"][None],
    )
    scores = finals.scores[0].tolist()
    overhead = np.maximum(0.0, record["seconds_per_step"] - record["plain_seconds_per_step"])
    return {
        "task": task.name,
        "optimizer": entry.label,
        "num_runs": len(scores),
        "normalized": {**finals.interval()._asdict(), "runs": scores},
        **{_NAMES[split]: _summary(values) for split, values in final.items()},
        **_metrics(cell),
        "start_loss": reference["start"],
        "target_loss": reference["target"],
        "best_loss": reference["best"],
        "steps_to_target": _steps(task, losses, reference, record, "target"),
        "steps_to_best": _steps(task, losses, reference, record, "best"),
        "seconds_per_step": record["seconds_per_step"],
        "overhead_seconds_per_step": float(overhead),
        "compile_seconds": record["compile_seconds"],
        "divergence_rate": float(has_diverged.mean()),
        "diverged_runs": _diverged_runs(losses, has_diverged, task.eval_every),
        "hyperparameters": record["hyperparameters"],
        "tuning": _tuning(record, started),
    }


def _diverged_runs(losses, has_diverged: NDArray, eval_every: int) -> list[dict[str, Any]]:
    first = lambda run: measures.first_non_finite_step(losses, run, eval_every)
    runs = np.flatnonzero(has_diverged).tolist()
    return [{"run": run, "first_non_finite_step": first(run)} for run in runs]


def _metrics(cell: Cell) -> dict[str, Any]:
    """`test_accuracy`, `validation_bits_per_byte`, ...: every metric that the task's loss gives."""
    return {
        _NAMES[split].replace("loss", metric): _summary(_final_metric(curves))
        for split in SPLITS
        for metric, curves in cell.curves[split].items()
        if metric != "loss"
    }


def _final_metric(curves: NDArray) -> NDArray:
    """`[runs]`, mean of the last tenth;
    nan where it was not measured, since it has no worst value as a loss has.
    """
    tail = np.asarray(curves, np.float64)[..., -max(1, curves.shape[-1] // 10) :]
    return tail.mean(axis=-1)


def _summary(values: NDArray) -> dict[str, Any]:
    interval = statistics.stratified_bootstrap(values[None], statistics.mean)
    return {**interval._asdict(), "runs": values.tolist()}


def _steps(
    task: SuiteTask, losses, reference: dict[str, Any], record: dict, name: str
) -> dict[str, Any]:
    """Steps and seconds to a loss of the reference, of the mean curve and of each run,
    and their ratios to its own.
    """
    curves, target, cap = losses["outer_valid"], reference[name], task.loss_cap
    mean_curve = measures.cap_losses(curves, cap).mean(axis=0, keepdims=True)
    steps = float(measures.steps_to(mean_curve, target, task.eval_every, cap)[0])
    runs = measures.steps_to(curves, target, task.eval_every, cap)
    own_steps = reference[f"steps_to_{name}"]
    # Where the reference never improved: no ratio.
    own_steps = own_steps if 0 < own_steps < math.inf else math.nan
    speed = record["seconds_per_step"] / reference["seconds_per_step"]
    return {
        "steps": steps,
        "seconds": steps * record["seconds_per_step"],
        "steps_ratio": steps / own_steps,
        "seconds_ratio": steps / own_steps * speed,
        "runs": runs.tolist(),
        "steps_ratio_runs": (runs / own_steps).tolist(),
        "seconds_ratio_runs": (runs / own_steps * speed).tolist(),
    }
