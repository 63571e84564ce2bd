"""Thetas and baselines on the same runs of a task family, searches of the latter, and seconds of a
step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from learned_opt_lab.evaluation.baselines import Configurations, baseline
from learned_opt_lab.evaluation.held_out import LOSS_CAP, cap_losses
from learned_opt_lab.evaluation.sweep import Runs, make_runs, make_sweep
from learned_opt_lab.evaluation.timing import time_training
from learned_opt_lab.papers.metz2019.outer_trained_setup import Config, learned_optimizer
from learned_opt_lab.results.resumable import Cells
from tasks import TaskFamily


class Evaluator(NamedTuple):
    """Runs thetas and baselines on the same runs of one family.

    Attributes:
      family: of the tasks.
      runs: their keys.
      num_steps: inner steps.
      every: inner steps between two measurements.
    """

    family: TaskFamily
    runs: Runs
    num_steps: int
    every: int

    def learned(self, config: Config) -> Callable[[Any], dict[str, NDArray]]:
        """`thetas, leaves [n, ...] -> split -> capped losses [n, runs, points]`;
        one compilation.
        """
        sweep = self._sweep(learned_optimizer(config).optimizer)
        return lambda thetas: _losses(sweep(thetas, self.runs))

    def searched(self, name: str, budget: int, seed: int, cells: Cells) -> "Searched":
        """All configurations of a baseline; those that run at once are a piece."""
        configurations = baseline(name).configurations(budget, seed)
        number = len(next(iter(configurations.values())))
        size = min(CHUNK, max(1, MOST_RUNS // len(self.runs.seed)), number)
        parts = []
        for start in range(0, number, size):
            rows = np.minimum(np.arange(start, start + size), number - 1)
            together = {k: v[rows] for k, v in configurations.items()}
            parts.append(self.given(name, together, cells, f"{name}/{start}"))
        losses = {
            split: np.concatenate([part[split] for part in parts])[:number] for split in parts[0]
        }
        return Searched(configurations, losses)

    def given(
        self, name: str, configurations: Configurations, cells: Cells, piece: str
    ) -> dict[str, NDArray]:
        """Losses of these configurations of a baseline, as `learned` gives them, in one piece."""
        sweep = self._sweep(baseline(name).factory)
        return cells(piece, lambda: _losses(sweep(configurations, self.runs)))

    def _sweep(self, factory):
        splits = ("train", "outer_valid", "test")
        return make_sweep(
            self.family, factory, num_steps=self.num_steps, splits=splits, eval_every=self.every
        )


CHUNK = 32
"""Configurations that run at once, at most."""
MOST_RUNS = 800
"""Configurations times runs at once: at the paper's scale each takes about 35 MB, activations of a
batch of 128 and what its gradient keeps."""


class Searched(NamedTuple):
    """A baseline's search. A configuration is judged by its mean loss over the episode, on the
    split that it is tuned against.

    Attributes:
      configurations: hyperparameter -> its values.
      losses: split -> `[configurations, runs, points]`.
    """

    configurations: Configurations
    losses: dict[str, NDArray]

    def best_of_runs(self, split: str) -> NDArray:
        """`[runs]`, the place of each run's own best configuration."""
        return self.losses[split][..., 1:].mean(axis=-1).argmin(axis=0)

    def best_of_all(self, split: str) -> int:
        """The place of the configuration that is best over all runs."""
        return int(self.losses[split][..., 1:].mean(axis=(1, 2)).argmin())

    def of_runs(self, split: str) -> dict[str, NDArray]:
        """Split -> `[runs, points]`, each run with its own best configuration."""
        chosen = self.best_of_runs(split)
        return {name: each[chosen, np.arange(len(chosen))] for name, each in self.losses.items()}

    def at(self, places: int | NDArray) -> dict[str, list[float] | float]:
        """The hyperparameters there."""
        return {name: np.asarray(v)[places].tolist() for name, v in self.configurations.items()}


def evaluator(family: TaskFamily, key: jax.Array, num_tasks: int, num_steps: int) -> Evaluator:
    """Measures about 60 times a run, on `num_tasks` tasks drawn from the family."""
    every = max(e for e in range(1, max(1, num_steps // 60) + 1) if num_steps % e == 0)
    return Evaluator(family, make_runs(key, num_tasks), num_steps, every)


def _losses(curves) -> dict[str, NDArray]:
    return {split: cap_losses(metrics["loss"], LOSS_CAP) for split, metrics in curves.items()}


def seconds_per_step(
    config: Config, on: Evaluator, theta: Any, chosen: dict[str, dict[str, float]]
) -> dict[str, float]:
    """Of one run alone: the learned optimizer with its overhead, and baselines with the
    hyperparameters that are given.
    """
    one = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), theta)
    found = {"learned": time_training(on.family, learned_optimizer(config).optimizer, one, on.runs)}
    for name, given in chosen.items():
        hyperparameters = {key: jnp.float32(value) for key, value in given.items()}
        found[name] = time_training(on.family, baseline(name).factory, hyperparameters, on.runs)
    return {name: timing.seconds_per_step for name, timing in found.items()}
