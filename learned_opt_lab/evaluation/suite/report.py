"""`report.json` and `curves.npz`: everything an evaluation found, from the raw curves of its cells.

Every number of the figures and of the page is taken from here. What is unknown or was never reached
is null.
"""

import math
import platform
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from learned_opt_lab.evaluation import measures, statistics
from learned_opt_lab.evaluation.suite import rankings, training_tasks
from learned_opt_lab.evaluation.suite.entries import Entry
from learned_opt_lab.evaluation.suite.run import FORMAT_VERSION, SPLITS, Cell, Results, Settings
from learned_opt_lab.results.folder import finite
from tasks import Suite, SuiteTask

_NAMES = {"train": "train_loss", "outer_valid": "validation_loss", "test": "test_loss"}


def build_report(
    suite: Suite, entries: list[Entry], settings: Settings, results: Results
) -> dict[str, Any]:
    """The content of `report.json`.

    Raises:
      ValueError: when no task could be run.
    """
    tasks = [task for task in suite.tasks if task.name not in results.skipped]
    if not tasks:
        raise ValueError(
            f"no task of suite {suite.name!r} could be run\n{next(iter(results.skipped.values()))}"
        )
    rows = []
    for task in tasks:
        cells = {entry.label: results.cells[task.name, entry.label] for entry in entries}
        reference = _reference(task, cells[settings.reference])
        rows.extend(
            _row(task, entry, cells[entry.label], reference, results.started) for entry in entries
        )
    report = {
        "format_version": FORMAT_VERSION,
        "suite": {
            "name": suite.name,
            "version": suite.version,
            "description": suite.description,
            "axis": suite.axis,
        },
        "settings": {**settings._asdict(), "cache_dir": None},
        "reference": settings.reference,
        "environment": _environment(),
        "definitions": measures.DEFINITIONS,
        "tasks": [_task(task) for task in tasks],
        "skipped": [{"task": name, "reason": reason} for name, reason in results.skipped.items()],
        "optimizers": [
            _with_sources(s, rows, suite)
            for s in rankings.summaries(entries, rows, settings.reference)
        ],
        "rows": rows,
        "probability_of_improvement": rankings.pairwise(entries, rows),
        "performance_profile": rankings.profiles(entries, rows),
        "diverged": [
            {"task": row["task"], "optimizer": row["optimizer"], **run}
            for row in rows
            for run in row["diverged_runs"]
        ],
    }
    return finite(report)


def curve_arrays(suite: Suite, results: Results) -> dict[str, NDArray]:
    """The content of `curves.npz`.

    `<task>/steps` `[points]`; for each optimizer `<task>/<label>/<split>/<metric>`
    `[runs, points]`, raw, and `<task>/<label>/seconds` `[points]`.
    """
    arrays = {}
    for task in suite.tasks:
        steps = np.arange(task.num_steps // task.eval_every + 1) * task.eval_every
        for (name, label), cell in results.cells.items():
            if name != task.name:
                continue
            arrays[f"{name}/steps"] = steps
            arrays[f"{name}/{label}/seconds"] = steps * cell.record["seconds_per_step"]
            for split, metrics in cell.curves.items():
                arrays.update(
                    {f"{name}/{label}/{split}/{metric}": curve for metric, curve in metrics.items()}
                )
    return arrays


def _task(task: SuiteTask) -> dict[str, Any]:
    names = ("name", "version", "description", "num_steps", "eval_every", "loss_cap", "axis_value")
    return {name: getattr(task, name) for name in names}


def _environment() -> dict[str, Any]:
    device = jax.devices()[0]
    return {
        "jax": jax.__version__,
        "python": platform.python_version(),
        "platform": device.platform,
        "device": device.device_kind,
        "num_devices": jax.device_count(),
    }


def _losses(cell: Cell) -> dict[str, NDArray]:
    return {split: cell.curves[split]["loss"] for split in SPLITS}


def _reference(task: SuiteTask, cell: Cell) -> dict[str, float]:
    """What the others are measured against:
    losses of the tuned reference, and when its mean curve reached them.
    """
    losses, cap = _losses(cell), task.loss_cap
    validation = measures.cap_losses(losses["outer_valid"], cap).mean(axis=0, keepdims=True)
    target = float(measures.final_losses(validation, cap)[0])
    best = float(measures.smooth(validation, cap).min())
    steps = {
        name: float(measures.steps_to(validation, value, task.eval_every, cap)[0])
        for name, value in (("target", target), ("best", best))
    }
    return {
        "start": float(measures.cap_losses(losses["test"], cap)[:, 0].mean()),
        "test": float(measures.final_losses(losses["test"], cap).mean()),
        "target": target,
        "best": best,
        "steps_to_target": steps["target"],
        "steps_to_best": steps["best"],
        "seconds_per_step": cell.record["seconds_per_step"],
    }


def _with_sources(summary: dict[str, Any], rows: list[dict], suite: Suite) -> dict[str, Any]:
    """A summary that says what came from a cache,
    and which tasks may not be new to a learned optimizer.
    """
    sources = {
        "tuning_source": _tuning_source(summary, rows),
        "training_tasks": training_tasks.about(suite, summary),
    }
    sources = {name: source for name, source in sources.items() if source}
    if not sources:
        return summary
    return (
        summary
        | sources
        | {"description": "; ".join([summary.get("description", ""), *sources.values()])}
    )


def _tuning_source(summary: dict[str, Any], rows: list[dict]) -> str | None:
    """On how many tasks a baseline's tuning was read from a cache, and when that was made;
    None for none.
    """
    tunings = [
        row["tuning"] for row in rows if row["optimizer"] == summary["label"] and row["tuning"]
    ]
    cached = [tuning for tuning in tunings if tuning.get("cached")]
    if not cached:
        return None
    days = sorted({tuning["made"][:10] for tuning in cached})
    made = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return (
        f"tuning read from the cache on {len(cached)} of {len(tunings)} tasks, made on {made} (UTC)"
    )


def _tuning(record: dict[str, Any], started: str) -> dict[str, Any] | None:
    """A search that this very evaluation made and, interrupted, read again is from no cache."""
    tuning = record["tuning"]
    if not tuning or "cached" not in tuning:
        return tuning
    return tuning | {"cached": tuning["cached"] and tuning["made"] < started}


def _row(
    task: SuiteTask, entry: Entry, cell: Cell, reference: dict[str, float], started: str
) -> dict[str, Any]:
    losses, record = _losses(cell), cell.record
    has_diverged = measures.diverged(losses, task.loss_cap)
    final = {split: measures.final_losses(losses[split], task.loss_cap) for split in SPLITS}
    final = {
        split: np.where(has_diverged, np.maximum(f, reference["start"]), f)
        for split, f in final.items()
    }
    scores = measures.normalized_scores(
        final["test"], has_diverged, reference["start"], reference["test"]
    )
    overhead = np.maximum(0.0, record["seconds_per_step"] - record["plain_seconds_per_step"])
    return {
        "task": task.name,
        "optimizer": entry.label,
        "num_runs": len(scores),
        "normalized": _summary(scores, statistics.interquartile_mean),
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


def _summary(values: NDArray, statistic=statistics.mean) -> dict[str, Any]:
    interval = statistics.stratified_bootstrap(values[None], statistic)
    return {**interval._asdict(), "runs": values.tolist()}


def _steps(
    task: SuiteTask, losses, reference: dict[str, float], record: dict, name: str
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
