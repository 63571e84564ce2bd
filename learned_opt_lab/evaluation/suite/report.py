"""`report.json` and `curves.npz`: everything an evaluation found, from the raw curves of its cells.

Every number of the figures and of the page is taken from here. What is unknown or was never reached
is null.
"""

import functools
import platform
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from learned_opt_lab.evaluation import measures
from learned_opt_lab.evaluation.suite import descent, rankings, training_tasks
from learned_opt_lab.evaluation.suite.entries import Entry
from learned_opt_lab.evaluation.suite.rows import reference_of, row_of
from learned_opt_lab.evaluation.suite.run import Cell, Results
from learned_opt_lab.evaluation.suite.settings import (
    DEFAULT_REFERENCE,
    FORMAT_VERSION,
    Settings,
)
from learned_opt_lab.evaluation.tuning import contestant
from learned_opt_lab.results import made
from learned_opt_lab.results.folder import finite
from tasks import Suite, SuiteTask


def build_report(
    suite: Suite, entries: list[Entry], settings: Settings, results: Results
) -> dict[str, Any]:
    """The content of `report.json`.

    Raises:
      ValueError: when no task could be run.
    """
    label = settings.reference or DEFAULT_REFERENCE
    (entry,) = (entry for entry in entries if entry.label == label)
    cells = {task: cell for (task, name), cell in results.cells.items() if name == label}
    head = header(suite, settings, label, results.skipped)
    head["reference_is_tuned"] = num_configurations(entry, settings) > 1
    return finite(head | build_board(suite, entries, results, Against(entry, cells)))


def num_configurations(entry: Entry, settings: Settings) -> int:
    """That a search of its own tries of an optimizer; 0 where nothing is searched."""
    if entry.searched is None:
        return 0
    found = contestant(entry.searched).baseline.configurations(settings.budget, settings.seed)
    return len(next(iter(found.values())))


def header(
    suite: Suite, settings: Settings, reference: str | None, skipped: dict[str, str]
) -> dict[str, Any]:
    """What a report says besides its results; the reference is None where none is known.

    Raises:
      ValueError: when no task could be run.
    """
    return {
        "format_version": FORMAT_VERSION,
        "suite": {
            "name": suite.name,
            "version": suite.version,
            "description": suite.description,
            "axis": suite.axis,
        },
        "settings": {**settings._asdict(), "reference": reference, "cache_dir": None},
        "reference": reference,
        "environment": _environment(),
        "definitions": measures.DEFINITIONS | descent.DEFINITIONS,
        "tasks": [_task(task) for task in tasks_that_ran(suite, skipped)],
        "skipped": [{"task": name, "reason": reason} for name, reason in skipped.items()],
    }


def tasks_that_ran(suite: Suite, skipped: dict[str, str]) -> list[SuiteTask]:
    """The tasks that could be built.

    Raises:
      ValueError: when there is none.
    """
    tasks = [task for task in suite.tasks if task.name not in skipped]
    if not tasks:
        raise ValueError(
            f"no task of suite {suite.name!r} could be run\n{next(iter(skipped.values()))}"
        )
    return tasks


class Against(NamedTuple):
    """The reference: its entry, and task name -> its cell, which need not be one of the board's."""

    entry: Entry
    cells: dict[str, Cell]


def build_board(
    suite: Suite, entries: list[Entry], results: Results, against: Against
) -> dict[str, Any]:
    """Rows, ranks, pairs and profiles of optimizers that are compared with one another."""
    rows, own, tasks = [], [], tasks_that_ran(suite, results.skipped)
    references = {task.name: reference_of(task, against.cells[task.name]) for task in tasks}
    for task in tasks:
        row = functools.partial(
            row_of, task, reference=references[task.name], started=results.started
        )
        rows.extend(row(entry, results.cells[task.name, entry.label]) for entry in entries)
        own.append(row(against.entry, against.cells[task.name]))
    return {
        "optimizers": [
            _with_sources(s, rows, suite) for s in rankings.summaries(entries, rows, own)
        ],
        "rows": rows,
        "timing_warnings": rankings.timing_warnings(entries, rows),
        "probability_of_improvement": rankings.pairwise(entries, rows),
        "performance_profile": rankings.profiles(entries, rows),
        "descent": descent.descents(tasks, entries, results.cells, references),
        "diverged": [
            {"task": row["task"], "optimizer": row["optimizer"], **run}
            for row in rows
            for run in row["diverged_runs"]
        ],
    }


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
        **made.made_by(),
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
