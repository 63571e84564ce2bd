"""Runs both leagues of a suite, one cell at a time.

A cell is one optimizer on one task: one search over as many configurations as the largest budget
has, of which a smaller budget sees the first ones, and reported runs of each configuration that was
chosen at some budget. A budget of 1 is the published default, and searches nothing: it is the
league in which nobody tunes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
from numpy.typing import NDArray

from learned_opt import catalog
from learned_opt_lab.evaluation.costs.course import Course, each_cell
from learned_opt_lab.evaluation.costs.plan import Program
from learned_opt_lab.evaluation.costs.programs import reported_program, search_program
from learned_opt_lab.evaluation.costs.store import CellKind, CellStore, Place
from learned_opt_lab.evaluation.leagues.contestants import league_contestant, league_rival
from learned_opt_lab.evaluation.suite.entries import Entry
from learned_opt_lab.evaluation.suite.run import BATCHES_A_POINT, Cell, train
from learned_opt_lab.evaluation.suite.settings import LEAGUES, Settings
from learned_opt_lab.evaluation.timing import Timing, time_training
from learned_opt_lab.evaluation.tuning import (
    Contestant,
    Tuned,
    baseline_content,
    lowest_first,
    tune,
)
from learned_opt_lab.results import cells as cell_files
from learned_opt_lab.results import content, folder
from tasks import Suite

UNTUNED, EQUAL = LEAGUES


class LeagueCell(NamedTuple):
    """One optimizer on one task at all budgets.

    Attributes:
      curves: place of a chosen configuration -> split -> metric -> raw values `[runs, points]`.
      record: `chosen`, budget -> place; `configurations`; `search`, or None; seconds.
    """

    curves: dict[int, dict[str, dict[str, NDArray]]]
    record: dict[str, Any]


class LeagueResults(NamedTuple):
    """All cells, and the tasks that could not be built.

    Attributes:
      cells: budget -> (task name, label) -> cell.
      skipped: task name -> reason.
      started: when the folder was made.
    """

    cells: dict[int, dict[tuple[str, str], Cell]]
    skipped: dict[str, str]
    started: str


def budgets_of(settings: Settings) -> list[int]:
    """The budgets that are run, in order; 1 for the league in which nobody tunes.

    Raises:
      ValueError: for a league that is none, or a budget below 1.
    """
    for league in settings.leagues:
        if league not in LEAGUES:
            hint = catalog.near_names(league, list(LEAGUES))
            raise ValueError(f"unknown league {league!r}; {hint}")
    equal = settings.budgets if EQUAL in settings.leagues else ()
    if EQUAL in settings.leagues and not equal:
        raise ValueError("the league of equal budgets needs at least one budget")
    for budget in equal:
        if budget < 1:
            raise ValueError(f"a budget must be at least 1, got {budget}")
    return sorted({*equal, *((1,) if UNTUNED in settings.leagues else ())})


def run_leagues(
    out: Path,
    suite: Suite,
    entries: list[Entry],
    settings: Settings,
    course: Course | None = None,
    started: str = "",
) -> LeagueResults:
    """Runs what is missing and reads what is there.

    Args:
      out: a folder that `prepare_folder` has seen.
      suite: the tasks.
      entries: the optimizers.
      settings: leagues, seeds and budgets.
      course: how it goes; None goes on to the end and tells nobody.
      started: what `prepare_folder` returned.

    Returns:
      The cells of complete tasks, all of them unless a budget ended before.
    """
    budgets = budgets_of(settings)
    contestants = {entry.label: league_contestant(entry) for entry in entries}
    rivals = {entry.label: league_rival(entry) for entry in entries}

    def finished(found: dict[tuple[str, str], LeagueCell], skipped: dict[str, str]) -> Any:
        cells = {
            budget: {
                (task, label): _at_budget(cell, budget, rivals[label].takes_num_steps)
                for (task, label), cell in found.items()
            }
            for budget in budgets
        }
        return LeagueResults(cells, skipped, started)

    who = lambda entry: contestants[entry.label]
    kind = CellKind(
        content=lambda entry: _content(who(entry), budgets, settings),
        twins=True,
        read=read_league_cell,
        write=write_league_cell,
        make=lambda at, entry, timing: run_league_cell(at, who(entry), budgets, settings, timing),
        programs=lambda at, entry: _programs(at, who(entry), budgets, settings),
        time=lambda at, entry: _timing(at, who(entry), settings),
    )
    return each_cell(CellStore(out, entries, settings, kind), suite, course or Course(), finished)


def _programs(at: Place, who: Contestant, budgets: list[int], settings: Settings) -> list[Program]:
    """What a cell runs: a search, and the reported runs of what is chosen, at most one
    configuration a budget.
    """
    found = [reported_program(at.task, len(budgets), settings.num_seeds, BATCHES_A_POINT)]
    if max(budgets) > 1:
        found.append(search_program(at, who, max(budgets), settings))
    return found


def _timing(at: Place, who: Contestant, settings: Settings) -> Timing:
    """Of the training loop, at the published default."""
    space = who.baseline.search_space(1, settings.seed)
    default = {name: jnp.asarray(values[0]) for name, values in space.items()}
    factory, extra_args = who.baseline.factory_for(at.task.num_steps), who.baseline.extra_args
    return time_training(at.family, factory, default, at.runs, extra_args=extra_args)


def _content(who: Contestant, budgets: list[int], settings: Settings) -> str:
    """Digest of an optimizer's code, of its configurations, and of what is asked for."""
    space = who.baseline.search_space(max(budgets), settings.seed)
    asked = [budgets, settings.num_seeds, settings.num_tuning_seeds, settings.seed]
    words = {name: list(words) for name, words in who.baseline.words.items()}
    code = baseline_content(who.baseline)
    return content.of_json([code, content.data(space), words, who.fingerprint, asked])


def run_league_cell(
    at: Place,
    who: Contestant,
    budgets: list[int],
    settings: Settings,
    timing: Callable[[], Timing],
) -> LeagueCell:
    """Searches, then trains what was chosen, and times one optimizer on one task."""
    task = at.task
    space = who.baseline.search_space(max(budgets), settings.seed)
    tuned = None
    if max(budgets) > 1:
        tuned = tune(
            task,
            at.family,
            who._replace(one_by_one=at.is_faster_one_by_one),
            budget=max(budgets),
            num_seeds=settings.num_tuning_seeds,
            seed=settings.seed,
            cache_dir=settings.cache_dir,
        )
    chosen = {
        budget: lowest_first(tuned.scores[:budget], tuned.finite[:budget]) if tuned else 0
        for budget in budgets
    }
    places = sorted(set(chosen.values()))
    factory, extra_args = who.baseline.factory_for(task.num_steps), who.baseline.extra_args
    configurations = {name: jnp.asarray(values[places]) for name, values in space.items()}
    curves = train(at, factory, configurations, extra_args)
    record = {
        "chosen": {str(budget): place for budget, place in chosen.items()},
        "configurations": {
            str(place): who.baseline.told({name: v[place] for name, v in space.items()})
            for place in places
        },
        "search": None if tuned is None else _search_record(tuned, task.num_steps),
        **timing()._asdict(),
        "plain_seconds_per_step": at.plain().seconds_per_step,
    }
    return LeagueCell(dict(zip(places, curves, strict=True)), record)


def _search_record(tuned: Tuned, num_steps: int) -> dict[str, Any]:
    names = ("scores", "finite", "configurations", "num_seeds", "made", "cached")
    return {name: getattr(tuned, name) for name in names} | {"num_steps": num_steps}


def _at_budget(cell: LeagueCell, budget: int, knows_horizon: bool) -> Cell:
    """The cell as one budget sees it; its tuning costs all runs of its configurations."""
    record, search = cell.record, cell.record["search"]
    place = record["chosen"][str(budget)]
    hyperparameters = record["configurations"][str(place)]
    schedule = hyperparameters.get("schedule", "constant")
    knows_horizon = knows_horizon or schedule != "constant" or hyperparameters.get("warmup", 0) > 0
    tuning = None
    # The only configuration there is, is no choice: a budget of 1 costs nothing.
    num_runs = 0
    if search is not None:
        num_runs = budget * search["num_seeds"] if budget > 1 else 0
        tuning = {
            "validation_loss": search["scores"][place],
            "index": place,
            "num_configurations": budget,
            "num_seeds": search["num_seeds"],
            "made": search["made"],
            "cached": search["cached"],
        }
    num_steps = num_runs * search["num_steps"] if search else 0
    seconds = {
        name: record[name]
        for name in ("seconds_per_step", "compile_seconds", "plain_seconds_per_step")
    }
    cost = {
        "runs": num_runs,
        "steps": num_steps,
        "seconds": num_steps * record["seconds_per_step"],
    }
    told = {"hyperparameters": hyperparameters, "tuning": tuning, **seconds}
    return Cell(cell.curves[place], told | {"cost": cost, "knows_horizon": bool(knows_horizon)})


def write_league_cell(stem: Path, cell: LeagueCell, made_of: dict[str, Any]) -> None:
    """Writes curves and record together."""
    arrays = {
        f"{place}/{split}/{metric}": curve
        for place, curves in cell.curves.items()
        for split, metrics in curves.items()
        for metric, curve in metrics.items()
    }
    cell_files.write(stem, arrays, folder.finite(cell.record), made_of)


def read_league_cell(stem: Path, made_of: dict[str, Any] | None = None) -> LeagueCell | None:
    """A finished cell, or None; see `learned_opt_lab.results.cells.read`."""
    stored = cell_files.read(stem, made_of)
    if stored is None:
        return None
    curves: dict[int, dict[str, dict[str, NDArray]]] = {}
    for name, array in stored.arrays.items():
        place, split, metric = name.split("/", 2)
        curves.setdefault(int(place), {}).setdefault(split, {})[metric] = array
    return LeagueCell(curves, stored.record)
