"""The search a baseline is entitled to, on one task, with a stated budget and a cache.

Tuning has its own seeds: no run that is reported was tuned on. A configuration's score is its final `outer_valid` loss,
averaged over seeds; the lowest wins. Results are cached by task, baseline, budget, seeds and version.
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from evaluation.baselines import baseline
from evaluation.measures import final_losses
from evaluation.sweep import Runs, make_sweep
from outer_train.run_dir import write_json
from tasks.base import TaskFamily
from tasks.suites import SuiteTask, task_key

TUNING_VERSION = 1
"""Part of the cache's key: raised when the same search would give other numbers."""
CHUNK = 64
"""Configurations that run at once; more are taken in turn, so that memory does not grow with the budget."""


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
      cached: whether it was read from the cache.
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
    cached: bool = False


def default_cache_dir() -> Path:
    """`LEARNED_OPT_CACHE`, or else `~/.cache/learned_opt`."""
    return Path(os.environ.get("LEARNED_OPT_CACHE") or Path.home() / ".cache" / "learned_opt") / "tuning"


def runs_of(task: SuiteTask, role: str, num_seeds: int, seed: int) -> Runs:
    """Runs of a suite's task: the task is always the same, the seeds depend on `role` ("tune" or "evaluate")."""
    roles = ("evaluate", "tune")
    seed_key = jax.random.fold_in(jax.random.key(seed), roles.index(role))
    return Runs(
        task=jax.numpy.broadcast_to(task_key(task), (num_seeds,)),
        seed=jax.random.split(seed_key, num_seeds),
    )


def tune(
    task: SuiteTask,
    family: TaskFamily,
    name: str,
    *,
    budget: int,
    num_seeds: int,
    seed: int = 0,
    cache_dir: Path | None = None,
) -> Tuned:
    """Searches a baseline's configurations on one task, or reads the outcome from the cache.

    Args:
      task: the suite's task: its number of steps, measuring interval and cap.
      family: what `task.build()` gave.
      name: in `evaluation.baselines.BASELINES`.
      budget: configurations of a random search; a grid has its own number.
      num_seeds: runs of each configuration.
      seed: of the random search and of the runs.
      cache_dir: default `default_cache_dir()`.
    """
    path = (cache_dir or default_cache_dir()) / _file_name(task, name, budget, num_seeds, seed)
    key = _cache_key(task, name, budget, num_seeds, seed)
    if (found := _read(path, key)) is not None:
        return found._replace(cached=True)
    configurations = baseline(name).configurations(budget, seed)
    scores = _scores(task, family, name, configurations, runs_of(task, "tune", num_seeds, seed))
    best = int(np.argmin(scores))
    tuned = Tuned(
        hyperparameters={k: float(values[best]) for k, values in configurations.items()},
        index=best,
        validation_loss=float(scores[best]),
        scores=[float(value) for value in scores],
        configurations={k: [float(value) for value in values] for k, values in configurations.items()},
        num_configurations=len(scores),
        num_seeds=num_seeds,
        seed=seed,
        search=baseline(name).search,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"key": key, "tuned": tuned._asdict()})
    return tuned


def _scores(task: SuiteTask, family: TaskFamily, name: str, configurations: dict[str, NDArray], runs: Runs) -> NDArray:
    """Final `outer_valid` loss of each configuration, chunk by chunk of one program."""
    entry = baseline(name)
    sweep = make_sweep(
        family,
        entry.factory,
        num_steps=task.num_steps,
        splits=("outer_valid",),
        eval_every=task.eval_every,
        extra_args=entry.extra_args,
    )
    num_configurations = len(next(iter(configurations.values())))
    size = min(CHUNK, num_configurations)
    scores = []
    for start in range(0, num_configurations, size):
        rows = np.minimum(np.arange(start, start + size), num_configurations - 1)
        losses = sweep({k: values[rows] for k, values in configurations.items()}, runs)["outer_valid"]["loss"]
        scores.append(final_losses(losses, task.loss_cap).mean(axis=1))
    return np.concatenate(scores)[:num_configurations]


def _cache_key(task: SuiteTask, name: str, budget: int, num_seeds: int, seed: int) -> dict[str, Any]:
    entry = baseline(name)
    return {
        "tuning_version": TUNING_VERSION,
        "task": task.name,
        "task_version": task.version,
        "num_steps": task.num_steps,
        "eval_every": task.eval_every,
        "loss_cap": task.loss_cap,
        "baseline": name,
        "budget": entry.num_configurations(budget),
        "num_seeds": num_seeds,
        "seed": seed,
    }


def _file_name(task: SuiteTask, name: str, budget: int, num_seeds: int, seed: int) -> str:
    count = baseline(name).num_configurations(budget)
    return f"{task.name}.v{task.version}.{name}.{count}x{num_seeds}.seed{seed}.v{TUNING_VERSION}.json"


def _read(path: Path, key: dict[str, Any]) -> Tuned | None:
    """A cached outcome; anything damaged or made for other settings is searched again."""
    try:
        content = json.loads(path.read_text())
        return Tuned(**content["tuned"]) if content["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
