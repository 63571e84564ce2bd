"""Runs a suite: every task with every optimizer, one cell at a time,
so that an interrupted run goes on.

A cell is one optimizer on one task: `cells/<task>/<label>.npz` holds its raw curves and `.json` its
tuning and its seconds (`learned_opt_lab.results.cells`). `evaluation.json` says what the folder is
an evaluation of; another evaluation does not go in. What is not asked for but numbers follow from
(code, data, versions) is kept with each cell, and a cell that was made with another is measured
again.
"""

import functools
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from learned_opt_lab.drawing.text import file_name
from learned_opt_lab.evaluation.suite.entries import Entry
from learned_opt_lab.evaluation.suite.settings import Settings
from learned_opt_lab.evaluation.sweep import Factory, Runs, make_sweep
from learned_opt_lab.evaluation.timing import time_plain_gradient_descent, time_training
from learned_opt_lab.evaluation.tuning import (
    baseline_content,
    contestant,
    runs_of,
    task_content,
    tune,
)
from learned_opt_lab.results import cells as cell_files
from learned_opt_lab.results import content, folder
from tasks import Suite, SuiteTask, TaskFamily
from tasks.images import DatasetNotPrepared

NUM_EVAL_BATCHES = 4
"""With one batch a point, the lowest validation loss of a run is a matter of luck: on the 81
validation images of the held-out digits tuned Adam's lowest smoothed loss was .017, half its mean
over the last tenth of the run."""
SPLITS = ("train", "outer_valid", "test")


class Cell(NamedTuple):
    """One optimizer on one task.

    Attributes:
      curves: split -> metric -> raw values `[runs, points]`.
      record: `hyperparameters`, `tuning`, `seconds_per_step`, `plain_seconds_per_step`,
        `compile_seconds`.
    """

    curves: dict[str, dict[str, NDArray]]
    record: dict[str, Any]


class Place(NamedTuple):
    """A task that cells are made on.

    Attributes:
      task: of the suite.
      family: what it builds.
      made_of: digests of what its numbers follow from.
      plain_seconds: of a step of gradient descent, measured when first asked for.
    """

    task: SuiteTask
    family: TaskFamily
    made_of: dict[str, Any]
    plain_seconds: Callable[[], float]


class Results(NamedTuple):
    """All cells, and the tasks that could not be built.

    Attributes:
      cells: (task name, label) -> cell.
      skipped: task name -> reason.
      started: when the folder was made, in UTC: what was tuned before it came from a cache.
    """

    cells: dict[tuple[str, str], Cell]
    skipped: dict[str, str]
    started: str = ""


def run_suite(
    out: Path,
    suite: Suite,
    entries: list[Entry],
    settings: Settings,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
    started: str = "",
) -> Results:
    """Runs what is missing and reads what is there.

    Args:
      out: a folder that `prepare_folder` has seen.
      suite: the tasks.
      entries: the optimizers, the reference among them.
      settings: seeds and budgets.
      progress: called with cells done, cells in all, and what is being done.
      started: what `prepare_folder` returned.
    """

    def cell_of(at: Place, entry: Entry) -> Cell:
        stem = cell_stem(out, at.task, entry)
        made_of = at.made_of | {"optimizer_code": _optimizer_content(entry, settings)}
        cell = read_cell(stem, made_of)
        if cell is None:
            cell = run_cell(at.task, at.family, entry, settings, at.plain_seconds())
            write_cell(stem, cell, made_of)
        return cell

    cells, skipped = each_cell(suite, entries, settings, cell_of, progress)
    return Results(cells, skipped, started)


def each_cell(
    suite: Suite,
    entries: list[Entry],
    settings: Settings,
    cell_of: Callable[[Place, Entry], Any],
    progress: Callable[[int, int, str], None],
) -> tuple[dict[tuple[str, str], Any], dict[str, str]]:
    """Goes through all cells, task by task: (task name, label) -> what `cell_of` gives, and the
    tasks that could not be built.
    """
    cells, skipped = {}, {}
    total = len(suite.tasks) * len(entries)
    for row, task in enumerate(suite.tasks):
        progress(row * len(entries), total, f"{task.name}: {entries[0].label}")
        try:
            family = task.build()
        except DatasetNotPrepared as error:
            skipped[task.name] = str(error).splitlines()[0]
            continue
        made_of = task_content(task, family) | {"versions": content.environment()}
        plain = functools.cache(functools.partial(_plain_seconds, task, family, settings))
        for column, entry in enumerate(entries):
            if column:
                progress(row * len(entries) + column, total, f"{task.name}: {entry.label}")
            cells[task.name, entry.label] = cell_of(Place(task, family, made_of, plain), entry)
    progress(total, total, "report")
    return cells, skipped


def cell_stem(out: Path, task: SuiteTask, entry: Entry) -> Path:
    """Of the two files of a cell."""
    return out / "cells" / file_name(task.name) / file_name(entry.label)


def _plain_seconds(task: SuiteTask, family: TaskFamily, settings: Settings) -> float:
    runs = runs_of(task, "evaluate", settings.num_seeds, settings.seed)
    return time_plain_gradient_descent(family, runs).seconds_per_step


def _optimizer_content(entry: Entry, settings: Settings) -> str:
    """Digest of an optimizer's code, with the configurations of a baseline's search."""
    if entry.searched is None:
        return content.code(entry.optimizer)
    who = contestant(entry.searched)
    configurations = content.data(who.baseline.configurations(settings.budget, settings.seed))
    parts = [baseline_content(who.baseline), configurations]
    return content.of_json([*parts, who.fingerprint] if who.fingerprint else parts)


def run_cell(
    task: SuiteTask, family: TaskFamily, entry: Entry, settings: Settings, plain_seconds: float
) -> Cell:
    """Tunes (a baseline), trains and times one optimizer on one task."""
    runs = runs_of(task, "evaluate", settings.num_seeds, settings.seed)
    record: dict[str, Any] = {"hyperparameters": None, "tuning": None}
    if entry.searched is not None:
        who = contestant(entry.searched)
        tuned = tune(
            task,
            family,
            who,
            budget=settings.budget,
            num_seeds=settings.num_tuning_seeds,
            seed=settings.seed,
            cache_dir=settings.cache_dir,
        )
        chosen = tuned._asdict()
        told = who.baseline.told(chosen.pop("hyperparameters"))
        record = {"hyperparameters": told, "tuning": chosen}
        hyperparameters = jax.tree.map(jnp.float32, tuned.hyperparameters)
        factory, extra_args = who.baseline.factory_for(task.num_steps), who.baseline.extra_args
    else:
        hyperparameters, factory, extra_args = entry.theta, entry.optimizer.fastest, ()
    one_configuration = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], hyperparameters)
    (curves,) = train(task, family, factory, one_configuration, runs, extra_args)
    timing = time_training(family, factory, hyperparameters, runs, extra_args=extra_args)
    record.update(timing._asdict(), plain_seconds_per_step=plain_seconds)
    return Cell(curves, record)


def train(
    task: SuiteTask,
    family: TaskFamily,
    factory: Factory,
    configurations: Any,
    runs: Runs,
    extra_args: tuple[str, ...],
) -> list[dict[str, dict[str, NDArray]]]:
    """Of each configuration: split -> metric -> raw values `[runs, points]`."""
    sweep = make_sweep(
        family,
        factory,
        num_steps=task.num_steps,
        splits=SPLITS,
        eval_every=task.eval_every,
        num_eval_batches=NUM_EVAL_BATCHES,
        extra_args=extra_args,
    )
    curves = jax.tree.map(np.asarray, sweep(configurations, runs))
    number = jax.tree.leaves(configurations)[0].shape[0]
    return [jax.tree.map(operator.itemgetter(i), curves) for i in range(number)]


def write_cell(stem: Path, cell: Cell, made_of: dict[str, Any] | None = None) -> None:
    """Writes curves and record together."""
    arrays = {
        f"{split}/{metric}": c
        for split, metrics in cell.curves.items()
        for metric, c in metrics.items()
    }
    cell_files.write(stem, arrays, folder.finite(cell.record), made_of or {})


def read_cell(stem: Path, made_of: dict[str, Any] | None = None) -> Cell | None:
    """A finished cell, or None; see `learned_opt_lab.results.cells.read`."""
    stored = cell_files.read(stem, made_of)
    if stored is None:
        return None
    curves: dict[str, dict[str, NDArray]] = {}
    for name, array in stored.arrays.items():
        split, metric = name.split("/", 1)
        curves.setdefault(split, {})[metric] = array
    return Cell(curves, stored.record)
