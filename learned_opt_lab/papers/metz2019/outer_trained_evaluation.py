"""Thetas and baselines on the same runs of a task family, each run with a tuning of its own;
seconds of a step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from learned_opt_lab.evaluation.baselines import baseline
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

    def tuned(self, name: str, budget: int, seed: int, cells: Cells) -> "Tuned":
        """A baseline with its best configuration for each run,
        by the mean `outer_valid` loss of the very run; those that run at once are a piece.
        """
        entry = baseline(name)
        configurations = entry.configurations(budget, seed)
        sweep = self._sweep(entry.factory)
        number = len(next(iter(configurations.values())))
        parts = []
        size = min(CHUNK, max(1, MOST_RUNS // len(self.runs.seed)), number)
        for start in range(0, number, size):
            rows = np.minimum(np.arange(start, start + size), number - 1)
            together = {k: v[rows] for k, v in configurations.items()}
            parts.append(
                cells(f"{name}/{start}", lambda some=together: _losses(sweep(some, self.runs)))
            )
        losses = {
            split: np.concatenate([part[split] for part in parts])[:number] for split in parts[0]
        }
        chosen = losses["outer_valid"][..., 1:].mean(axis=-1).argmin(axis=0)
        runs = np.arange(len(chosen))
        values = {k: [float(v[i]) for i in chosen] for k, v in configurations.items()}
        common = int(losses["outer_valid"][..., 1:].mean(axis=(1, 2)).argmin())
        hyperparameters = {k: jnp.float32(v[common]) for k, v in configurations.items()}
        return Tuned(
            {split: each[chosen, runs] for split, each in losses.items()},
            values,
            hyperparameters,
            losses,
        )

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


class Tuned(NamedTuple):
    """A baseline after its search.

    Attributes:
      losses: split -> `[runs, points]`, each run with the configuration that is best for it.
      chosen: hyperparameter -> its value in each run.
      common: the configuration that is best on average, to time a step of.
      all_losses: split -> `[configurations, runs, points]`.
    """

    losses: dict[str, NDArray]
    chosen: dict[str, list[float]]
    common: dict[str, Any]
    all_losses: dict[str, NDArray]


def evaluator(family: TaskFamily, key: jax.Array, num_tasks: int, num_steps: int) -> Evaluator:
    """Measures about 60 times a run, on `num_tasks` tasks drawn from the family."""
    every = max(e for e in range(1, max(1, num_steps // 60) + 1) if num_steps % e == 0)
    return Evaluator(family, make_runs(key, num_tasks), num_steps, every)


def _losses(curves) -> dict[str, NDArray]:
    return {split: cap_losses(metrics["loss"], LOSS_CAP) for split, metrics in curves.items()}


def seconds_per_step(
    config: Config, on: Evaluator, theta: Any, tuned: dict[str, Tuned]
) -> dict[str, float]:
    """Of one run alone: the learned optimizer with its overhead, and each baseline."""
    one = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), theta)
    found = {"learned": time_training(on.family, learned_optimizer(config).optimizer, one, on.runs)}
    for name, each in tuned.items():
        found[name] = time_training(on.family, baseline(name).factory, each.common, on.runs)
    return {name: timing.seconds_per_step for name, timing in found.items()}
