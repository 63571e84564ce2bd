"""The cross-entropy method over a few numbers that make a theta, scored against Adam on fresh outer-training tasks.

Each generation trains on fresh tasks, and so does Adam at six rates: a candidate's score is the logarithm of its
validation loss over the lowest that Adam gets to, as a mean over the run, at its end and at its lowest. A dozen numbers
are found in minutes, where outer-training theta's hundreds takes an hour. Held-out tasks have no part in it.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from evaluation.baselines import LEARNING_RATES
from evaluation.measures import cap_losses, final_losses, smooth
from evaluation.sweep import make_runs, make_sweep
from learned_opt.base import LearnedOptimizer, Theta
from tasks.base import TaskFamily

RATES = LEARNING_RATES[:6]
OFFSET = 4e-3
"""Beside losses, in nats: what is below it no longer counts."""
LOSS_CAP = 10.0
ELITE = 0.2
"""Share of a generation that the next one is drawn around."""


class Search(NamedTuple):
    """What candidates are drawn from: independent normals, `[numbers]` each."""

    mean: NDArray
    std: NDArray


class Scores(NamedTuple):
    """Of a generation's mean before it, and of the start's on the same tasks, which are others in each generation."""

    mean: float
    start: float


def score(losses: NDArray, adam: NDArray) -> NDArray:
    """`[candidates]`, lower is better, from validation losses `[candidates or rates, runs, points]`."""
    losses, adam = (cap_losses(x, LOSS_CAP).mean(axis=1) for x in (losses, adam))
    to_ratio = lambda x: np.clip(np.log((x + OFFSET) / (smooth(adam, LOSS_CAP).min() + OFFSET)), -1.0, 2.0)  # noqa: E731
    ratio = to_ratio(smooth(losses, LOSS_CAP))
    return ratio.mean(axis=1) + 0.5 * to_ratio(final_losses(losses, LOSS_CAP)) + 0.5 * ratio.min(axis=1)


def search(
    start: Search,
    to_theta: Callable[[NDArray], Theta],
    optimizer: LearnedOptimizer,
    families: Sequence[TaskFamily],
    *,
    num_generations: int,
    population: int,
    num_steps: int,
    num_runs: int = 2,
    seed: int = 0,
    report: Callable[[int, Search, Scores], None] = lambda *_: None,
) -> tuple[Search, list[Scores]]:
    """The distribution after the last generation, and the scores of each generation's mean before it.

    Args:
      start: what the first generation is drawn from.
      to_theta: a candidate's numbers to its theta.
      optimizer: that theta is of.
      families: tasks to score on; their weights count.
      num_generations: of the cross-entropy method.
      population: candidates of a generation, the mean and the start's among them.
      num_steps: inner steps of a run, a multiple of 40.
      num_runs: tasks of each family in a generation.
      seed: of the candidates; tasks depend on the generation alone.
      report: called after each generation with its number, the new distribution and its scores.
    """
    rng = np.random.default_rng(seed)
    options = {"num_steps": num_steps, "splits": ("outer_valid",), "eval_every": num_steps // 40, "num_eval_batches": 4}
    learned = [make_sweep(family, optimizer.optimizer, **options) for family in families]
    adams = [make_sweep(family, optax.adam, **options) for family in families]
    now, scores = start, []
    for generation in range(num_generations):
        candidates = now.mean + now.std * rng.standard_normal((population, now.mean.size))
        candidates[:2] = now.mean, start.mean
        thetas = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(to_theta, candidates))
        total = np.zeros(population)
        for family, of_theta, of_rate in zip(families, learned, adams, strict=True):
            runs = make_runs(jax.random.key(1000 + generation), num_runs)
            losses = [of_theta(thetas, runs), of_rate(jnp.asarray(RATES, jnp.float32), runs)]
            total += family.weight * score(*(np.asarray(each["outer_valid"]["loss"]) for each in losses))
        scores.append(Scores(*total[:2].tolist()))
        elite = candidates[np.argsort(total)[: max(4, round(ELITE * population))]]
        now = Search(0.2 * now.mean + 0.8 * elite.mean(axis=0), np.maximum(elite.std(axis=0), 0.6 * now.std))
        report(generation, now, scores[-1])
    return now, scores
