"""Ablations of outer-training (arXiv 1810.10180, figure 8): what each part is worth at the same total of inner steps.

A cell is a variant and a seed: `cells/<variant>/<seed>.npz`, written whole or not at all, so an interrupted ablation
goes on. The outer loss of a truncation depends on its length and on where in their episodes the particles are, so
variants are compared otherwise: at each of a few points theta trains the same tasks, from fresh weights, for whole
episodes. The seeds of a variant that are missing are outer-trained side by side as one program.
"""

import json
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from evaluation.folder import prepare_folder as prepare
from evaluation.held_out import cap_losses
from evaluation.sweep import Runs, make_runs, make_sweep
from learned_opt.base import LearnedOptimizer
from outer_train.run_dir import write_json
from outer_train.side_by_side import SeedsResult, train_seeds
from outer_train.step import OuterStep
from tasks.base import TaskFamily

FORMAT_VERSION = 1
SPLITS = ("train", "outer_valid", "test")
MEASUREMENTS = 40
"""About so many of an episode; the mean over them is the episode's loss."""


class Variant(NamedTuple):
    """One way to outer-train.

    Attributes:
      name: of its folder and in results.
      label: of its line and row.
      description: what is JSON about it; another one in the same folder is refused.
      optimizer: the learned optimizer; variants with the same one share the program that evaluates.
      num_outer_steps: that make up the total of inner steps.
      make_step: `seeds -> the outer step of all of them`.
    """

    name: str
    label: str
    description: dict[str, Any]
    optimizer: LearnedOptimizer
    num_outer_steps: int
    make_step: Callable[[Sequence[int]], OuterStep]


class Settings(NamedTuple):
    """What all variants share.

    Attributes:
      seeds: numbers of the outer-training runs.
      seed: of the run's key, of the tasks that thetas are evaluated on, and of statistics.
      num_steps: inner steps of an episode.
      num_tasks: tasks of each of the two families that a theta is evaluated on.
      num_points: thetas evaluated of a run, after the fresh one.
      loss_cap: larger losses, and those that are not finite, count as this.
      seeds_at_once: seeds in one program.
    """

    seeds: tuple[int, ...]
    seed: int
    num_steps: int
    num_tasks: int
    num_points: int
    loss_cap: float
    seeds_at_once: int


class Problem(NamedTuple):
    """Families: those outer-training draws tasks from (the first is evaluated), and the held-out one."""

    families: tuple[TaskFamily, ...]
    held_out: TaskFamily


Cell = dict[str, NDArray]
"""`inner_steps` `[points]`; `outer_loss`, `truncation_inner_steps` `[outer steps]`, as trained; `outer_train/<split>`
and `held_out/<split>` `[points, tasks]`, mean loss of an episode; `held_out_final/<split>`, of its last tenth;
`seconds` of outer-training; `theta/<name>`."""


def prepare_folder(out: Path, wanted: dict[str, Any]) -> None:
    """Makes the folder, or checks that it holds this very ablation; variants may be added, and seeds.

    Raises:
      ValueError: where it holds another one, or other files.
    """
    prepare(out, "ablation_settings.json", wanted, "ablation", "choose another --out")


def run_cells(
    out: Path,
    problem: Problem,
    variants: Sequence[Variant],
    settings: Settings,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> dict[str, dict[int, Cell]]:
    """Runs what is missing and reads what is there: variant -> seed -> cell.

    Raises:
      ValueError: where a cell is of a variant of the same name that was something else.
    """
    evaluators: dict[LearnedOptimizer, Callable] = {}
    cells: dict[str, dict[int, Cell]] = {}
    total = len(variants) * len(settings.seeds)
    for row, variant in enumerate(variants):
        folder = out / "cells" / variant.name
        _check_variant(folder, variant)
        found = {seed: cell for seed in settings.seeds if (cell := read_cell(folder / f"{seed}.npz")) is not None}
        missing = [seed for seed in settings.seeds if seed not in found]
        while missing:
            together, missing = missing[: settings.seeds_at_once], missing[settings.seeds_at_once :]
            progress(row * len(settings.seeds) + len(found), total, f"{variant.name}: seeds {_listed(together)}")
            if variant.optimizer not in evaluators:
                evaluators[variant.optimizer] = _evaluator(problem, variant.optimizer, settings)
            made = run_seeds(problem, variant, settings, together, evaluators[variant.optimizer])
            for seed, cell in made.items():
                write_cell(folder / f"{seed}.npz", cell)
            found |= made
        cells[variant.name] = found
    progress(total, total, "table and figures")
    return cells


def run_seeds(
    problem: Problem, variant: Variant, settings: Settings, seeds: list[int], evaluate: Callable
) -> dict[int, Cell]:
    """Outer-trains some seeds of one variant side by side, and evaluates the thetas they went through."""
    key_theta, key_run = jax.random.split(jax.random.key(settings.seed))
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key_theta, np.asarray(seeds, np.int32))
    thetas = jax.device_get(jax.vmap(variant.optimizer.init)(keys))
    step = variant.make_step(seeds)
    datas = step.place_data(tuple(family.data for family in problem.families))
    trained = train_seeds(step, thetas, key_run, datas, variant.num_outer_steps, settings.num_points)
    points = [evaluate(jax.tree.map(lambda leaf, i=i: leaf[i], trained.thetas)) for i in range(len(trained.points))]
    return {seed: _cell(trained, points, column) for column, seed in enumerate(seeds)}


def _cell(trained: SeedsResult, points: list[dict[str, NDArray]], column: int) -> Cell:
    steps = np.concatenate([[0], trained.inner_steps[:, column]])
    final = jax.tree.map(lambda leaf: np.asarray(leaf[-1, column]), trained.thetas)
    named = jax.tree.leaves_with_path(final)
    return {
        "inner_steps": steps[trained.points],
        "outer_loss": trained.outer_loss[:, column],
        "truncation_inner_steps": trained.inner_steps[:, column],
        "seconds": np.asarray(trained.seconds.sum() / trained.outer_loss.shape[1]),
        **{name: np.stack([point[name][column] for point in points]) for name in points[0]},
        **{f"theta/{jax.tree_util.keystr(path, simple=True, separator='/')}": leaf for path, leaf in named},
    }


def _evaluator(problem: Problem, optimizer: LearnedOptimizer, settings: Settings) -> Callable:
    """`thetas, leaves [seeds, ...] -> {"<family>/<split>": [seeds, tasks]}`; the same tasks at every call."""
    every = measuring_interval(settings.num_steps)
    # Not the key of outer-training: no task is evaluated that a particle has seen in the same draw.
    key = jax.random.fold_in(jax.random.key(settings.seed), 1)
    families = {"outer_train": problem.families[0], "held_out": problem.held_out}
    sweeps: dict[str, tuple[Callable, Runs]] = {}
    for index, (name, family) in enumerate(families.items()):
        sweep = make_sweep(family, optimizer.optimizer, num_steps=settings.num_steps, splits=SPLITS, eval_every=every)
        sweeps[name] = sweep, make_runs(jax.random.fold_in(key, index), settings.num_tasks)

    def evaluate(thetas: Any) -> dict[str, NDArray]:
        losses = {}
        for name, (sweep, runs) in sweeps.items():
            for split, metrics in sweep(thetas, runs).items():
                curves = cap_losses(metrics["loss"], settings.loss_cap)[..., 1:]
                losses[f"{name}/{split}"] = curves.mean(axis=-1)
                losses[f"{name}_final/{split}"] = curves[..., -max(1, curves.shape[-1] // 10) :].mean(axis=-1)
        return losses

    return evaluate


def measuring_interval(num_steps: int) -> int:
    """The largest divisor of an episode's steps that gives `MEASUREMENTS` of it or more, else 1."""
    longest = max(1, num_steps // MEASUREMENTS)
    return max(every for every in range(1, longest + 1) if num_steps % every == 0)


def _check_variant(folder: Path, variant: Variant) -> None:
    path = folder / "variant.json"
    wanted = json.loads(json.dumps({"description": variant.description, "num_outer_steps": variant.num_outer_steps}))
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, wanted)
    elif json.loads(path.read_text()) != wanted:
        raise ValueError(f"{folder} holds cells of another variant {variant.name!r}; choose another --out")


def write_cell(path: Path, cell: Cell) -> None:
    """Writes a cell whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        np.savez(file, **cell)
    temporary.replace(path)


def read_cell(path: Path) -> Cell | None:
    """A finished cell, or None; a damaged one is run again."""
    try:
        # Opened here: NumPy leaves a file open that it cannot read.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
