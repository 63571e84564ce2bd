"""The search a baseline is entitled to, on one task, with a stated budget and a cache.

Tuning has its own seeds: no run that is reported was tuned on. A configuration's score is its final
`outer_valid` loss, averaged over seeds; the lowest wins, and of equals the one with the most finite
measurements. Results are cached by what they follow from (`learned_opt_lab.results.content`): code,
data, configurations and versions, not names alone.
"""

import datetime
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray

from learned_opt.disk import files
from learned_opt_lab.drawing.text import file_name
from learned_opt_lab.evaluation.baselines import Baseline, baseline
from learned_opt_lab.evaluation.measures import final_losses
from learned_opt_lab.evaluation.sweep import Runs, make_sweep
from learned_opt_lab.results import cells, content, folder
from tasks import SuiteTask, TaskFamily, task_key

TUNING_VERSION = 3
"""Part of the cache's key: raised when its files hold something else."""
CHUNK = 64
"""Configurations that run at once;
more are taken in turn, so that memory does not grow with the budget."""


class Contestant(NamedTuple):
    """Who is searched.

    Attributes:
      name: in messages and names of files.
      baseline: optimizer and search space.
      fingerprint: of what the factory's code does not tell, such as a theta.
      one_by_one: says how its runs are trained; see `learned_opt_lab.evaluation.sweep.make_sweep`.
        Called where there is a search to make.
    """

    name: str
    baseline: Baseline
    fingerprint: str = ""
    one_by_one: Callable[[], bool] = bool


class Tuned(NamedTuple):
    """The outcome of one search.

    Attributes:
      hyperparameters: the chosen configuration.
      index: its place among the configurations.
      validation_loss: its score.
      scores: of all configurations, in order.
      configurations: hyperparameter -> list, in order.
      num_configurations: how many were tried.
      num_seeds: runs of each.
      seed: of the search and of its runs.
      search: "grid" or "random".
      made: when, in UTC.
      cached: whether it was read from the cache.
      finite: of all configurations, how many measurements were finite.
    """

    hyperparameters: dict[str, float]
    index: int
    validation_loss: float
    scores: list[float]
    configurations: dict[str, list[float]]
    num_configurations: int
    num_seeds: int
    seed: int
    search: str
    made: str = ""
    cached: bool = False
    finite: list[int] = []  # noqa: RUF012  A NamedTuple's default; never changed.


def contestant(name: str | Contestant) -> Contestant:
    """One of the table of baselines by its name; any other as it is."""
    return name if isinstance(name, Contestant) else Contestant(name, baseline(name))


def default_cache_dir() -> Path | None:
    """`LEARNED_OPT_CACHE`, or else `~/.cache/learned_opt`;
    None where there is neither it nor a home.
    """
    try:
        return (
            Path(os.environ.get("LEARNED_OPT_CACHE") or Path.home() / ".cache" / "learned_opt")
            / "tuning"
        )
    except RuntimeError:
        return None


def now() -> str:
    """The time in UTC; later ones sort behind earlier ones."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")


def runs_of(task: SuiteTask, role: str, num_seeds: int, seed: int) -> Runs:
    """Runs of a suite's task: the task is always the same,
    the seeds depend on `role` ("tune" or "evaluate").
    """
    roles = ("evaluate", "tune")
    seed_key = jax.random.fold_in(jax.random.key(seed), roles.index(role))
    return Runs(
        task=jax.numpy.broadcast_to(task_key(task), (num_seeds,)),
        seed=jax.random.split(seed_key, num_seeds),
    )


def tune(
    task: SuiteTask,
    family: TaskFamily | None,
    name: str | Contestant,
    *,
    budget: int,
    num_seeds: int,
    seed: int = 0,
    cache_dir: Path | None = None,
    warn: Callable[[str], None] = folder.warn,
) -> Tuned:
    """Searches a baseline's configurations on one task, or reads the outcome from the cache.

    A cache that cannot be read or written costs time and a warning, nothing else.

    Args:
      task: the suite's task: its number of steps, measuring interval and cap.
      family: what `task.build()` gave; None builds it.
      name: in `learned_opt_lab.evaluation.baselines.BASELINES`, or one that has no name there.
      budget: configurations of a random search; a grid has its own number.
      num_seeds: runs of each configuration.
      seed: of the random search and of the runs.
      cache_dir: default `default_cache_dir()`.
      warn: called with one line.
    """
    family = task.build() if family is None else family
    who = contestant(name)
    configurations = who.baseline.search_space(budget, seed)
    key = cache_key(task, family, who, configurations, num_seeds, seed)
    path = cache_path(cache_dir or default_cache_dir(), key)
    if (found := _read(path, key, warn)) is not None:
        return found._replace(cached=True)
    runs = runs_of(task, "tune", num_seeds, seed)
    scores, finite = _scores(task, family, who, configurations, runs)
    best = lowest_first(scores, finite)
    if scores[best] >= task.loss_cap:
        warn(
            f"{who.name} on {task.name}: no configuration stayed below the loss cap, "
            f"{task.loss_cap:g}"
        )
    tuned = Tuned(
        hyperparameters={k: float(values[best]) for k, values in configurations.items()},
        index=best,
        validation_loss=float(scores[best]),
        scores=[float(value) for value in scores],
        configurations={
            k: [float(value) for value in values] for k, values in configurations.items()
        },
        num_configurations=len(scores),
        num_seeds=num_seeds,
        seed=seed,
        search=who.baseline.search,
        made=now(),
        finite=[int(number) for number in finite],
    )
    _write(path, {"key": key, "tuned": tuned._asdict()}, warn)
    return tuned


def lowest_first(scores: ArrayLike, finite: ArrayLike) -> int:
    """Index of the lowest score; of equals, of the one with the most finite measurements."""
    return int(np.lexsort((-np.asarray(finite), scores))[0])


def _scores(
    task: SuiteTask,
    family: TaskFamily,
    who: Contestant,
    configurations: dict[str, NDArray],
    runs: Runs,
) -> tuple[NDArray, NDArray]:
    """Of each configuration: final `outer_valid` loss, and how many measurements are finite;
    chunks of one program.
    """
    sweep = make_sweep(
        family,
        who.baseline.factory_for(task.num_steps),
        num_steps=task.num_steps,
        splits=("outer_valid",),
        eval_every=task.eval_every,
        extra_args=who.baseline.extra_args,
    )
    num_configurations = len(next(iter(configurations.values())))
    size, one_by_one = min(CHUNK, num_configurations), who.one_by_one()
    scores, finite = [], []
    for start in range(0, num_configurations, size):
        rows = np.minimum(np.arange(start, start + size), num_configurations - 1)
        chunk = {k: values[rows] for k, values in configurations.items()}
        losses = sweep(chunk, runs, one_by_one=one_by_one)["outer_valid"]["loss"]
        scores.append(final_losses(losses, task.loss_cap).mean(axis=1))
        finite.append(np.isfinite(losses).sum(axis=(1, 2)))
    return np.concatenate(scores)[:num_configurations], np.concatenate(finite)[:num_configurations]


def cache_key(
    task: SuiteTask,
    family: TaskFamily,
    who: Contestant,
    configurations: dict[str, NDArray],
    num_seeds: int,
    seed: int,
) -> dict[str, Any]:
    """All that the outcome follows from."""
    return {
        "tuning_version": TUNING_VERSION,
        "baseline": who.name,
        "budget": len(next(iter(configurations.values()))),
        "num_seeds": num_seeds,
        "seed": seed,
        "configurations": content.data(configurations),
        **task_content(task, family),
        "baseline_code": baseline_content(who.baseline),
        "fingerprint": who.fingerprint,
        "versions": content.environment(),
    }


def task_content(task: SuiteTask, family: TaskFamily) -> dict[str, Any]:
    """What a task's numbers follow from; of its code and data digests."""
    return {
        "task": task.name,
        "task_version": task.version,
        "num_steps": task.num_steps,
        "eval_every": task.eval_every,
        "loss_cap": task.loss_cap,
        "shipped_code": content.shipped_code(),
        "task_code": content.code(task.build, family.sample, family.task),
        "data": content.data(family.data),
    }


def baseline_content(entry: Baseline) -> str:
    """Digest of the code of a baseline's factory, and of what that is given."""
    return content.code(entry.factory, entry.extra_args)


def cache_path(cache_dir: Path | None, key: dict[str, Any]) -> Path | None:
    """Names for whoever looks into the folder, then a digest of the whole key."""
    if cache_dir is None:
        return None
    digest = content.of_json(key)[:12]
    name = (
        f"{key['task']}.v{key['task_version']}.{key['baseline']}.{key['budget']}x{key['num_seeds']}"
    )
    return cache_dir / f"{file_name(name)}.seed{key['seed']}.{digest}.json"


def _read(path: Path | None, key: dict[str, Any], warn: Callable[[str], None]) -> Tuned | None:
    """A cached outcome; a damaged file is told, set aside and searched for again."""
    try:
        if path is None or not path.exists():
            return None
        found = cells.read_sealed(path)
        return Tuned(**found["tuned"]) if found["key"] == key else None
    except OSError as error:
        warn(f"the cache of tuning cannot be read: {error}; searched again")
    except (ValueError, KeyError, TypeError):
        kept = cells.set_aside(path)
        warn(f"{path} is damaged, kept as {kept.name}, and searched for again")
    return None


def _write(path: Path | None, found: dict[str, Any], warn: Callable[[str], None]) -> None:
    if path is None:
        warn(
            "there is no home for the cache of tuning (LEARNED_OPT_CACHE); what was found is used, "
            "and not kept"
        )
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(path, cells.sealed(found))
    except OSError as error:
        warn(
            f"the cache of tuning cannot be written: {error}; what was found is used, and not kept"
        )
