"""Ablations of outer-training (arXiv 1810.10180, figure 8):
what each part is worth at the same total of inner steps.

A cell is a variant and a seed: `cells/<variant>/<seed>.npz` and `.json`
(`learned_opt_lab.results.cells`), written whole or not at all, so an interrupted ablation goes on.
The outer loss of a truncation depends on its length and on where in their episodes the particles
are, so variants are compared otherwise: at each of a few points theta trains the same tasks, from
fresh weights, for whole episodes. The seeds of a variant that are missing are outer-trained side by
side as one program.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from learned_opt import LearnedOptimizer
from learned_opt.disk import files
from learned_opt_lab.ablation.scoring import evaluator
from learned_opt_lab.results import cells as cell_files
from learned_opt_lab.results import content, folder
from outer_train import OuterStep, SeedsResult, compiled_ahead, train_seeds
from tasks import Feed, TaskFamily

FORMAT_VERSION = 3
KEPT = ("truncation_length", "variance_", "weight_")
"""How the names of the metrics begin that a cell keeps of each outer step."""


class Variant(NamedTuple):
    """One way to outer-train.

    Attributes:
      name: of its folder and in results.
      label: of its line and row.
      description: what is JSON about it; another one in the same folder is refused.
      optimizer: the learned optimizer; variants with the same one share the program that evaluates.
      num_outer_steps: that make up the total of inner steps.
      families: those it is outer-trained on.
      make_step: `seeds -> the outer step of all of them`.
      group: what it is compared within.
      seeds: how many of the settings' seeds are run; all if None.
      outer_rate: of the outer optimizer.
      rates: outer rate -> outer loss after a short run, of those that it was chosen among.
      saved_as: name and arguments of the optimizer, for files of theta.
    """

    name: str
    label: str
    description: dict[str, Any]
    optimizer: LearnedOptimizer
    num_outer_steps: int
    families: tuple[TaskFamily, ...]
    make_step: Callable[[Sequence[int]], OuterStep]
    group: str = "own"
    seeds: int | None = None
    outer_rate: float | None = None
    rates: Mapping[float, float] = {}
    saved_as: tuple[str, dict[str, Any]] = ("", {})

    def seeds_of(self, settings: "Settings") -> tuple[int, ...]:
        """The numbers of its runs."""
        return settings.seeds[: self.seeds]


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
      log_offset: where losses count by the logarithm of themselves and this; None where as they
        are.
      late: whether they count as in the reduction `late_mean`.
    """

    seeds: tuple[int, ...]
    seed: int
    num_steps: int
    num_tasks: int
    num_points: int
    loss_cap: float
    seeds_at_once: int
    log_offset: float | None = None
    late: bool | None = None


class Problem(NamedTuple):
    """Families: those the config's outer-training draws tasks from, and the held-out one.

    `held_out` is None where no family was held out: then there are no held-out losses.
    """

    families: tuple[TaskFamily, ...]
    held_out: TaskFamily | None

    def evaluated(self) -> dict[str, tuple[TaskFamily, ...]]:
        """Name in results -> families."""
        held_out = {} if self.held_out is None else {"held_out": (self.held_out,)}
        return {"outer_train": self.families, **held_out}


Cell = dict[str, NDArray]
"""`inner_steps`, `seconds_so_far` `[points]`, of outer-training, a seed's share of those side by
side, compilation left out; `outer_loss`, `truncation_inner_steps`, `metric/<name>` `[outer steps]`,
as trained; `outer_train/<split>` and `held_out/<split>` `[points, tasks]`, mean loss of an episode;
`held_out_final/<split>`, of its last tenth; `theta/<name>`."""


def prepare_folder(out: Path, wanted: dict[str, Any]) -> None:
    """Makes the folder, or checks that it holds this very ablation;
    variants may be added, and seeds.

    Raises:
      ValueError: where it holds another one, or other files.
    """
    folder.prepare_folder(out, "ablation_settings.json", wanted, "ablation", "choose another --out")


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
    made_of_problem = problem_content(problem)
    total = sum(len(variant.seeds_of(settings)) for variant in variants)
    for variant in variants:
        place = out / "cells" / variant.name
        check_variant(place, variant)
        made_of = content_of(problem, variant, made_of_problem)
        seeds = variant.seeds_of(settings)
        stored = {seed: read_cell(place / f"{seed}.npz", made_of) for seed in seeds}
        found = {seed: cell for seed, cell in stored.items() if cell is not None}
        missing = [seed for seed in seeds if seed not in found]
        while missing:
            together, missing = missing[: settings.seeds_at_once], missing[settings.seeds_at_once :]
            progress(
                sum(map(len, cells.values())) + len(found),
                total,
                f"{variant.name}: seeds {_listed(together)}",
            )
            if variant.optimizer not in evaluators:
                evaluators[variant.optimizer] = evaluator(
                    problem.evaluated(), variant.optimizer, settings
                )
            made = run_seeds(variant, settings, together, evaluators[variant.optimizer])
            for seed, cell in made.items():
                write_cell(place / f"{seed}.npz", cell, made_of)
            found |= made
        cells[variant.name] = found
    progress(total, total, "table and figures")
    return cells


def run_seeds(
    variant: Variant, settings: Settings, seeds: list[int], evaluate: Callable
) -> dict[int, Cell]:
    """Outer-trains some seeds of one variant side by side,
    and evaluates the thetas they went through.
    """
    key_theta, key_run = jax.random.split(jax.random.key(settings.seed))
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key_theta, np.asarray(seeds, np.int32))
    thetas = jax.device_get(jax.vmap(variant.optimizer.init)(keys))
    step = variant.make_step(seeds)
    feed = Feed.of(variant.families, settings.seed, step.place_data)
    step = compiled_ahead(step, thetas, key_run, feed.datas)  # seconds hold no compilation
    trained = train_seeds(
        step, thetas, key_run, feed, variant.num_outer_steps, settings.num_points, keep=KEPT
    )
    points = [
        evaluate(jax.tree.map(lambda leaf, i=i: leaf[i], trained.thetas))
        for i in range(len(trained.points))
    ]
    return {seed: _cell(trained, points, column) for column, seed in enumerate(seeds)}


def _cell(trained: SeedsResult, points: list[dict[str, NDArray]], column: int) -> Cell:
    steps = np.concatenate([[0], trained.inner_steps[:, column]])
    final = jax.tree.map(lambda leaf: np.asarray(leaf[-1, column]), trained.thetas)
    named, num_seeds = jax.tree.leaves_with_path(final), trained.outer_loss.shape[1]
    return {
        "inner_steps": steps[trained.points],
        "outer_loss": trained.outer_loss[:, column],
        "truncation_inner_steps": trained.inner_steps[:, column],
        "seconds_so_far": np.concatenate([[0], trained.seconds.cumsum()]) / num_seeds,
        **{f"metric/{name}": of_steps[:, column] for name, of_steps in trained.metrics.items()},
        **{name: np.stack([point[name][column] for point in points]) for name in points[0]},
        **{
            f"theta/{jax.tree_util.keystr(path, simple=True, separator='/')}": leaf
            for path, leaf in named
        },
    }


def check_variant(place: Path, variant: Variant) -> None:
    """Notes whose cells are in a folder.

    Raises:
      ValueError: where they are of a variant of the same name that was something else.
    """
    path = place / "variant.json"
    wanted = json.loads(
        json.dumps({"description": variant.description, "num_outer_steps": variant.num_outer_steps})
    )
    if not path.exists():
        place.mkdir(parents=True, exist_ok=True)
        files.write_json(path, wanted)
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged, so whose cells these are is unknown; choose another --out"
        ) from error
    if found != wanted:
        raise ValueError(
            f"{place} holds cells of another variant {variant.name!r}; choose another --out"
        )


def problem_content(problem: Problem) -> dict[str, Any]:
    """What the numbers of all variants follow from, besides the settings of the folder."""
    families = [family for family in (*problem.families, problem.held_out) if family is not None]
    return {
        "shipped_code": content.shipped_code(),
        "outer_training_code": content.outer_training_code(),
        "task_code": content.code([(family.sample, family.task) for family in families]),
        "data": content.of_json([content.data(family.data) for family in families]),
        "versions": content.environment(),
    }


def content_of(
    problem: Problem, variant: Variant, of_problem: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What a variant's cells follow from; what is the problem's share may be given."""
    found = problem_content(problem) if of_problem is None else of_problem
    return found | {"optimizer_code": content.code(variant.optimizer)}


def write_cell(path: Path, cell: Cell, made_of: dict[str, Any] | None = None) -> None:
    """Writes a cell whole or not at all."""
    cell_files.write(path.with_suffix(""), cell, {}, made_of or {})


def read_cell(path: Path, made_of: dict[str, Any] | None = None) -> Cell | None:
    """A finished cell, or None; see `learned_opt_lab.results.cells.read`."""
    stored = cell_files.read(path.with_suffix(""), made_of)
    return None if stored is None else stored.arrays


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
