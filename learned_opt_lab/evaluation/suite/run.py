"""Runs a suite: every task with every optimizer, one cell at a time,
so that an interrupted run goes on.

A cell is one optimizer on one task: `cells/<task>/<label>.npz` holds its raw curves and `.json` its
tuning and its seconds (`learned_opt_lab.results.cells`). `evaluation.json` says what the folder is
an evaluation of; another evaluation does not go in. What is not asked for but numbers follow from
(code, data, versions) is kept with each cell, and a cell that was made with another is measured
again.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from learned_opt_lab.drawing.text import file_name
from learned_opt_lab.evaluation.baselines import baseline
from learned_opt_lab.evaluation.suite.entries import Entry
from learned_opt_lab.evaluation.sweep import Factory, Runs, make_sweep
from learned_opt_lab.evaluation.timing import time_plain_gradient_descent, time_training
from learned_opt_lab.evaluation.tuning import (
    TUNING_VERSION,
    baseline_content,
    now,
    runs_of,
    task_content,
    tune,
)
from learned_opt_lab.results import cells as cell_files
from learned_opt_lab.results import content, folder
from tasks import Suite, SuiteTask, TaskFamily
from tasks.images import DatasetNotPrepared

FORMAT_VERSION = 3
NUM_EVAL_BATCHES = 4
"""With one batch a point, the lowest validation loss of a run is a matter of luck: on the 81
validation images of the held-out digits tuned Adam's lowest smoothed loss was .017, half its mean
over the last tenth of the run."""
SPLITS = ("train", "outer_valid", "test")


class Settings(NamedTuple):
    """What an evaluation does besides the suite and the optimizers.

    Attributes:
      num_seeds: runs of each task that are reported.
      num_tuning_seeds: runs of each configuration in a baseline's search, other runs than those
        reported.
      budget: configurations of a random search.
      seed: of runs and searches.
      reference: label of the baseline everything is measured against.
      cache_dir: of tuning results; None is the default.
    """

    num_seeds: int = 5
    num_tuning_seeds: int = 3
    budget: int = 64
    seed: int = 0
    reference: str = "adam"
    cache_dir: Path | None = None


class Cell(NamedTuple):
    """One optimizer on one task.

    Attributes:
      curves: split -> metric -> raw values `[runs, points]`.
      record: `hyperparameters`, `tuning`, `seconds_per_step`, `plain_seconds_per_step`,
        `compile_seconds`.
    """

    curves: dict[str, dict[str, NDArray]]
    record: dict[str, Any]


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


def prepare_folder(out: Path, suite: Suite, entries: list[Entry], settings: Settings) -> str:
    """Makes the folder, or checks that it holds this very evaluation; returns when it was made.

    Raises:
      ValueError: where it holds another one, or other files.
    """
    wanted = describe(suite, entries, settings)
    started = {"started": now()}
    found = folder.prepare_folder(
        out, "evaluation.json", wanted, "evaluation", "choose another folder", beside=started
    )  # fmt: skip
    return found.get("started", "")


def describe(suite: Suite, entries: list[Entry], settings: Settings) -> dict[str, Any]:
    """What makes two evaluations the same one."""
    return {
        "format_version": FORMAT_VERSION,
        "tuning_version": TUNING_VERSION,
        "suite": suite.name,
        "suite_version": suite.version,
        "optimizers": {entry.label: entry.fingerprint for entry in entries},
        **{name: value for name, value in settings._asdict().items() if name != "cache_dir"},
    }


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
    cells, skipped = {}, {}
    total = len(suite.tasks) * len(entries)
    for row, task in enumerate(suite.tasks):
        progress(row * len(entries), total, f"{task.name}: {entries[0].label}")
        try:
            family = task.build()
        except DatasetNotPrepared as error:
            skipped[task.name] = str(error).splitlines()[0]
            continue
        of_task, plain_seconds = (
            task_content(task, family) | {"versions": content.environment()},
            None,
        )
        for column, entry in enumerate(entries):
            if column:
                progress(row * len(entries) + column, total, f"{task.name}: {entry.label}")
            stem = out / "cells" / file_name(task.name) / file_name(entry.label)
            made_of = of_task | {"optimizer_code": _optimizer_content(entry, settings)}
            cell = read_cell(stem, made_of)
            if cell is None:
                if plain_seconds is None:
                    runs = runs_of(task, "evaluate", settings.num_seeds, settings.seed)
                    plain_seconds = time_plain_gradient_descent(family, runs).seconds_per_step
                cell = run_cell(task, family, entry, settings, plain_seconds)
                write_cell(stem, cell, made_of)
            cells[task.name, entry.label] = cell
    progress(total, total, "report")
    return Results(cells, skipped, started)


def _optimizer_content(entry: Entry, settings: Settings) -> str:
    """Digest of an optimizer's code, with the configurations of a baseline's search."""
    if entry.baseline is None:
        return content.code(entry.optimizer)
    known = baseline(entry.baseline)
    configurations = content.data(known.configurations(settings.budget, settings.seed))
    return content.of_json([baseline_content(known), configurations])


def run_cell(
    task: SuiteTask, family: TaskFamily, entry: Entry, settings: Settings, plain_seconds: float
) -> Cell:
    """Tunes (a baseline), trains and times one optimizer on one task."""
    runs = runs_of(task, "evaluate", settings.num_seeds, settings.seed)
    record: dict[str, Any] = {"hyperparameters": None, "tuning": None}
    if entry.baseline is not None:
        tuned = tune(
            task,
            family,
            entry.baseline,
            budget=settings.budget,
            num_seeds=settings.num_tuning_seeds,
            seed=settings.seed,
            cache_dir=settings.cache_dir,
        )
        chosen = tuned._asdict()
        record = {"hyperparameters": chosen.pop("hyperparameters"), "tuning": chosen}
        hyperparameters = jax.tree.map(jnp.float32, tuned.hyperparameters)
        factory, extra_args = baseline(entry.baseline).factory, baseline(entry.baseline).extra_args
    else:
        hyperparameters, factory, extra_args = entry.theta, entry.optimizer.fastest, ()
    curves = _train(task, family, factory, hyperparameters, runs, extra_args)
    timing = time_training(family, factory, hyperparameters, runs, extra_args=extra_args)
    record.update(timing._asdict(), plain_seconds_per_step=plain_seconds)
    return Cell(curves, record)


def _train(
    task: SuiteTask,
    family: TaskFamily,
    factory: Factory,
    hyperparameters: Any,
    runs: Runs,
    extra_args: tuple[str, ...],
) -> dict[str, dict[str, NDArray]]:
    sweep = make_sweep(
        family,
        factory,
        num_steps=task.num_steps,
        splits=SPLITS,
        eval_every=task.eval_every,
        num_eval_batches=NUM_EVAL_BATCHES,
        extra_args=extra_args,
    )
    one_configuration = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], hyperparameters)
    return jax.tree.map(lambda curve: np.asarray(curve)[0], sweep(one_configuration, runs))


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
