"""Runs a suite: every task with every optimizer, one cell at a time,
so that an interrupted run goes on.

A cell is one optimizer on one task: `cells/<task>/<label>.npz` holds its raw curves and `.json` its
tuning and its seconds (`learned_opt_lab.results.cells`). `evaluation.json` says what the folder is
an evaluation of; another evaluation does not go in. What is not asked for but numbers follow from
(code, data, versions) is kept with each cell, and a cell that was made with another is measured
again.
"""

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from learned_opt_lab.evaluation.costs.course import Course, each_cell
from learned_opt_lab.evaluation.costs.plan import Program
from learned_opt_lab.evaluation.costs.programs import reported_program, search_program
from learned_opt_lab.evaluation.costs.store import CellKind, CellStore, Place
from learned_opt_lab.evaluation.suite.entries import Entry
from learned_opt_lab.evaluation.suite.settings import Settings
from learned_opt_lab.evaluation.sweep import Factory, make_sweep
from learned_opt_lab.evaluation.timing import Timing, time_training
from learned_opt_lab.evaluation.tuning import baseline_content, contestant, tune
from learned_opt_lab.results import cells as cell_files
from learned_opt_lab.results import content, folder
from tasks import Suite

NUM_EVAL_BATCHES = 4
"""With one batch a point, the lowest validation loss of a run is a matter of luck: on the 81
validation images of the held-out digits tuned Adam's lowest smoothed loss was .017, half its mean
over the last tenth of the run."""
SPLITS = ("train", "outer_valid", "test")
BATCHES_A_POINT = len(SPLITS) * NUM_EVAL_BATCHES


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


def run_suite(
    out: Path,
    suite: Suite,
    entries: list[Entry],
    settings: Settings,
    course: Course | None = None,
    started: str = "",
) -> Results:
    """Runs what is missing and reads what is there.

    Args:
      out: a folder that `prepare_folder` has seen.
      suite: the tasks.
      entries: the optimizers, the reference among them.
      settings: seeds and budgets.
      course: how it goes; None goes on to the end and tells nobody.
      started: what `prepare_folder` returned.

    Returns:
      The cells of complete tasks, all of them unless a budget ended before.
    """
    kind = CellKind(
        content=lambda entry: _optimizer_content(entry, settings),
        twins=False,
        read=read_cell,
        write=write_cell,
        make=lambda at, entry, timing: run_cell(at, entry, settings, timing),
        programs=lambda at, entry: _programs(at, entry, settings),
        time=lambda at, entry: _timing(at, entry, settings),
    )
    store = CellStore(out, entries, settings, kind)
    finished = lambda cells, skipped: Results(cells, skipped, started)
    return each_cell(store, suite, course or Course(), finished)


def _optimizer_content(entry: Entry, settings: Settings) -> str:
    """Digest of an optimizer's code, with the configurations of a baseline's search."""
    if entry.searched is None:
        return content.code(entry.optimizer)
    who = contestant(entry.searched)
    configurations = content.data(who.baseline.configurations(settings.budget, settings.seed))
    parts = [baseline_content(who.baseline), configurations]
    return content.of_json([*parts, who.fingerprint] if who.fingerprint else parts)


def run_cell(at: Place, entry: Entry, settings: Settings, timing: Callable[[], Timing]) -> Cell:
    """Tunes (a baseline), trains and times one optimizer on one task."""
    record: dict[str, Any] = {"hyperparameters": None, "tuning": None}
    if entry.searched is not None:
        who = contestant(entry.searched)._replace(one_by_one=at.is_faster_one_by_one)
        tuned = tune(
            at.task,
            at.family,
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
    else:
        hyperparameters = entry.theta
    factory, extra_args = _factory(at, entry)
    one_configuration = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], hyperparameters)
    (curves,) = train(at, factory, one_configuration, extra_args)
    record.update(timing()._asdict(), plain_seconds_per_step=at.plain().seconds_per_step)
    return Cell(curves, record)


def _factory(at: Place, entry: Entry) -> tuple[Factory, tuple[str, ...]]:
    """An optimizer's factory, and what its update is given."""
    if entry.searched is None:
        return entry.optimizer.within(at.task.num_steps), ()
    who = contestant(entry.searched)
    return who.baseline.factory_for(at.task.num_steps), who.baseline.extra_args


def _timing(at: Place, entry: Entry, settings: Settings) -> Timing:
    """Of the training loop, at the first configuration of a search: all cost the same."""
    hyperparameters = entry.theta
    if entry.searched is not None:
        space = contestant(entry.searched).baseline.search_space(settings.budget, settings.seed)
        hyperparameters = {name: jnp.float32(values[0]) for name, values in space.items()}
    factory, extra_args = _factory(at, entry)
    return time_training(at.family, factory, hyperparameters, at.runs, extra_args=extra_args)


def _programs(at: Place, entry: Entry, settings: Settings) -> list[Program]:
    """What a cell runs: the runs that are reported, and a search."""
    programs = [reported_program(at.task, 1, settings.num_seeds, BATCHES_A_POINT)]
    if entry.searched is not None:
        programs.append(search_program(at, contestant(entry.searched), settings.budget, settings))
    return programs


def train(
    at: Place, factory: Factory, configurations: Any, extra_args: tuple[str, ...]
) -> list[dict[str, dict[str, NDArray]]]:
    """The runs that are reported, of each configuration: split -> metric -> raw values
    `[runs, points]`.
    """
    task = at.task
    sweep = make_sweep(
        at.family,
        factory,
        num_steps=task.num_steps,
        splits=SPLITS,
        eval_every=task.eval_every,
        num_eval_batches=NUM_EVAL_BATCHES,
        extra_args=extra_args,
    )
    curves = sweep(configurations, at.runs, one_by_one=at.is_faster_one_by_one())
    curves = jax.tree.map(np.asarray, curves)
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
