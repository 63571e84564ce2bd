"""Where outer-training of a config had best start: a search over the fresh theta's Adam (`learned_opt.adam_start`).

    python -m configs.start_search general --out DIR

The cross-entropy method over rate, exponents of tensor and time, and weight decay. Each generation trains on fresh
tasks of the config's outer-training families, and so does Adam at six rates: a candidate's score is the logarithm of
its validation loss over the lowest that Adam gets to, as a mean over the run, at its end and at its lowest. Far fewer
numbers than theta has, hence worth a search before outer-training; minutes on two cores. Held-out tasks have no part
in it.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from configs import base, registry
from configs.build import build_optimizer
from configs.families import build_family
from evaluation.baselines import LEARNING_RATES
from evaluation.measures import cap_losses, final_losses, smooth
from evaluation.sweep import make_runs, make_sweep
from outer_train.devices import use_cpu_devices
from tasks.base import TaskFamily

RATES = LEARNING_RATES[:6]
OFFSET = 4e-3
"""Beside losses, in nats: what is below it no longer counts."""
LOSS_CAP = 10.0
ELITE = 0.2
"""Share of a generation that the next one is drawn around."""


class Search(NamedTuple):
    """What candidates are drawn from; entries are log rate, exponents, time exponents, weight decay."""

    mean: NDArray
    std: NDArray


def start(optimizer: base.Mlp) -> Search:
    """Around the config's own start, wide enough to leave it.

    Raises:
      ValueError: for an optimizer without rate, exponents and time exponents.
    """
    if None in (optimizer.adam_learning_rate, optimizer.adam_exponents, optimizer.adam_time_exponents):
        raise ValueError("start_search needs an optimizer with adam_learning_rate, adam_exponents, adam_time_exponents")
    exponents, times = optimizer.adam_exponents, optimizer.adam_time_exponents
    mean = [np.log(optimizer.adam_learning_rate), *exponents, *times, optimizer.adam_weight_decay or 0.0]
    return Search(np.asarray(mean), np.asarray([0.6] + [0.25] * len(exponents) + [0.1] * len(times) + [0.02]))


def started_at(optimizer: base.Mlp, candidate: NDArray) -> base.Mlp:
    """The optimizer with a candidate's start in place of its own."""
    cut = 1 + len(optimizer.adam_exponents)
    return dataclasses.replace(
        optimizer,
        adam_learning_rate=float(np.exp(candidate[0])),
        adam_exponents=tuple(candidate[1:cut].tolist()),
        adam_time_exponents=tuple(candidate[cut:-1].tolist()),
        adam_weight_decay=float(candidate[-1]),
    )


def score(losses: NDArray, adam: NDArray) -> NDArray:
    """`[candidates]`, lower is better, from validation losses `[candidates or rates, runs, points]`."""
    losses, adam = (cap_losses(x, LOSS_CAP).mean(axis=1) for x in (losses, adam))
    to_ratio = lambda x: np.clip(np.log((x + OFFSET) / (smooth(adam, LOSS_CAP).min() + OFFSET)), -1.0, 2.0)  # noqa: E731
    ratio = to_ratio(smooth(losses, LOSS_CAP))
    return ratio.mean(axis=1) + 0.5 * to_ratio(final_losses(losses, LOSS_CAP)) + 0.5 * ratio.min(axis=1)


def search(
    config: base.TrainConfig, families: list[TaskFamily], num_generations: int, population: int, num_steps: int
) -> tuple[Search, list[float]]:
    """The distribution after the last generation, and the score of each generation's mean before it.

    Args:
      config: whose optimizer is started.
      families: tasks to score on; their weights count.
      num_generations: of the cross-entropy method.
      population: candidates of a generation.
      num_steps: inner steps of a run, a multiple of 40.
    """
    rng = np.random.default_rng(config.seed)
    options = {"num_steps": num_steps, "splits": ("outer_valid",), "eval_every": num_steps // 40, "num_eval_batches": 4}
    optimizer = build_optimizer(config.optimizer)[0]
    key_theta = jax.random.key(config.seed)
    learned = [make_sweep(family, optimizer.optimizer, **options) for family in families]
    adams = [make_sweep(family, optax.adam, **options) for family in families]
    now, scores = start(config.optimizer), []
    for generation in range(num_generations):
        candidates = now.mean + now.std * rng.standard_normal((population, now.mean.size))
        candidates[0] = now.mean
        made = [build_optimizer(started_at(config.optimizer, candidate))[0] for candidate in candidates]
        thetas = [each.init(key_theta) for each in made]
        thetas = jax.tree.map(lambda *leaves: jnp.stack(leaves), *thetas)
        total = np.zeros(population)
        for family, of_theta, of_rate in zip(families, learned, adams, strict=True):
            runs = make_runs(jax.random.key(1000 + generation), 2)
            losses = [of_theta(thetas, runs), of_rate(jnp.asarray(RATES, jnp.float32), runs)]
            total += family.weight * score(*(np.asarray(each["outer_valid"]["loss"]) for each in losses))
        scores.append(float(total[0]))
        elite = candidates[np.argsort(total)[: max(4, round(ELITE * population))]]
        now = Search(0.2 * now.mean + 0.8 * elite.mean(axis=0), np.maximum(elite.std(axis=0), 0.6 * now.std))
    return now, scores


def main() -> None:
    """Prints and writes the start that was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--num-generations", type=int, default=6)
    parser.add_argument("--population", type=int, default=40)
    parser.add_argument("--num-steps", type=int, default=1000)
    args = parser.parse_args()
    use_cpu_devices()
    config = registry.load(args.config)[0]
    families = [build_family(each)[0] for each in (config.family, *config.extra_families)]
    found, scores = search(config, families, args.num_generations, args.population, args.num_steps)
    best = started_at(config.optimizer, found.mean)
    kept = ("adam_learning_rate", "adam_exponents", "adam_time_exponents", "adam_weight_decay")
    text = json.dumps({name: getattr(best, name) for name in kept} | {"score_of_the_mean": scores}, indent=2)
    print(text)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "start.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
