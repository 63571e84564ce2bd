"""The cross-entropy method over a few numbers that make a theta, scored against Adam on fresh outer-training tasks.

Each generation trains on fresh tasks, and so does Adam at six rates: a candidate's score is the logarithm of its
validation loss over the lowest that Adam gets to, as a mean over the run, at its end and at its lowest. A dozen numbers
are found in minutes, where outer-training theta's hundreds takes an hour. Held-out tasks have no part in it.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from configs import base
from learned_opt import LearnedOptimizer, Theta
from learned_opt_lab.evaluation.baselines import LEARNING_RATES
from learned_opt_lab.evaluation.measures import cap_losses, final_losses, smooth
from learned_opt_lab.evaluation.sweep import make_runs, make_sweep
from learned_opt_lab.runs import catalog
from learned_opt_lab.runs.families import build_family
from outer_train import use_cpu_devices
from tasks import TaskFamily

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
    return 0.5 * ratio.mean(axis=1) + 0.5 * to_ratio(final_losses(losses, LOSS_CAP)) + ratio.min(axis=1)


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
    report: Callable[[Search, list[Scores]], None] = lambda *_: None,
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
      report: called after each generation with the new distribution and the scores so far.

    Raises:
      ValueError: fewer than two candidates of a generation have a finite score.
    """
    rng = np.random.default_rng(seed)
    options = {"num_steps": num_steps, "splits": ("outer_valid",), "eval_every": num_steps // 40, "num_eval_batches": 4}
    learned = [make_sweep(family, optimizer.fastest, **options) for family in families]
    adams = [make_sweep(family, optax.adam, **options) for family in families]
    rates = jnp.asarray(RATES, jnp.float32)
    now, scores = start, []
    for generation in range(num_generations):
        candidates = now.mean + now.std * rng.standard_normal((population, now.mean.size))
        candidates[:2] = now.mean, start.mean
        thetas = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(to_theta, candidates))
        total = np.zeros(population)
        for family, of_theta, of_rate in zip(families, learned, adams, strict=True):
            runs = make_runs(jax.random.key(1000 + generation), num_runs)
            losses = [of_theta(thetas, runs), of_rate(rates, runs)]
            total += family.weight * score(*(np.asarray(each["outer_valid"]["loss"]) for each in losses))
        scores.append(Scores(*total[:2].tolist()))
        elite = candidates[_lowest(total, max(4, round(ELITE * population)), generation)]
        now = Search((now.mean + elite.mean(axis=0)) / 2.0, (now.std + elite.std(axis=0, ddof=1)) / 2.0)
        report(now, scores)
    return now, scores


def _lowest(scores: NDArray, number: int, generation: int) -> NDArray:
    """Indices of the lowest scores, fewer where fewer are known: what is unknown is drawn around by nobody."""
    known = np.argsort(scores)[: int(np.isfinite(scores).sum())]
    if len(known) < 2:
        raise ValueError(f"fewer than two candidates of generation {generation} have a finite score")
    return known[:number]


def from_command_line(
    parser: argparse.ArgumentParser, start: Callable[[base.Optimizer], Search], num_generations: int
) -> tuple[argparse.Namespace, base.TrainConfig, Callable]:
    """The arguments, the config they name, and `search` over its families.

    What that search still wants is `to_theta` and `optimizer`. Exits with status 2 and one line for a config that is
    unknown or that `start` refuses.

    Args:
      parser: with what the caller adds of its own.
      start: the config's optimizer to what the first generation is drawn from; may raise `ValueError`.
      num_generations: unless given.
    """
    parser.add_argument("config")
    parser.add_argument("--num-generations", type=int, default=num_generations)
    parser.add_argument("--population", type=int, default=44)
    parser.add_argument("--num-steps", type=int, default=1000)
    args = parser.parse_args()
    use_cpu_devices()
    try:
        config = catalog.load(args.config)[0]
        around = start(config.optimizer)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    sizes = {name: getattr(args, name) for name in ("num_generations", "population", "num_steps")}
    families = [build_family(each)[0] for each in (config.family, *config.extra_families)]
    return args, config, partial(search, around, families=families, seed=config.seed, **sizes)
