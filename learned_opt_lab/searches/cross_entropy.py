"""The cross-entropy method over a few numbers that make a theta,
scored against Adam on fresh outer-training tasks.

Each generation trains on fresh tasks, and so does Adam at six rates: a candidate's score is the
logarithm of its validation loss over the lowest that Adam gets to, as a mean over the run, at its
end and at its lowest. A dozen numbers are found in minutes, where outer-training theta's hundreds
takes an hour. Held-out tasks have no part in it.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from configs import base
from learned_opt_lab.evaluation.measures import cap_losses, final_losses, smooth
from learned_opt_lab.evaluation.sweep import make_runs, make_sweep
from learned_opt_lab.searches.candidates import Candidates, Distribution
from tasks import TaskFamily


class Scores(NamedTuple):
    """Of a generation's mean before it, and of the start's on the same tasks,
    which are others in each generation.
    """

    mean: float
    start: float


def score(losses: NDArray, adam: NDArray, settings: base.CrossEntropy) -> NDArray:
    """`[candidates]`, lower is better,
    from validation losses `[candidates or rates, runs, points]`.
    """
    cap, offset = settings.loss_cap, settings.loss_offset
    losses, adam = (cap_losses(x, cap).mean(axis=1) for x in (losses, adam))
    to_ratio = lambda x: np.clip(
        np.log((x + offset) / (smooth(adam, cap).min() + offset)), -1.0, 2.0
    )
    ratio = to_ratio(smooth(losses, cap))
    return 0.5 * ratio.mean(axis=1) + 0.5 * to_ratio(final_losses(losses, cap)) + ratio.min(axis=1)


def minimize(
    candidates: Candidates,
    families: Sequence[TaskFamily],
    settings: base.CrossEntropy,
    *,
    seed: int = 0,
    report: Callable[[Distribution, list[Scores]], None] = lambda *_: None,
) -> tuple[Distribution, list[Scores]]:
    """The distribution after the last generation,
    and the scores of each generation's mean before it.

    Args:
      candidates: what is searched.
      families: tasks to score on; their weights count.
      settings: sizes of the search, and of what is scored.
      seed: of the candidates; tasks depend on the generation alone.
      report: called after each generation with the new distribution and the scores so far.

    Raises:
      ValueError: fewer than two candidates of a generation have a finite score.
    """
    rng = np.random.default_rng(seed)
    scored = _scored_on(families, candidates.optimizer.within(settings.num_steps), settings)
    now, scores = candidates.start, []
    for generation in range(settings.num_generations):
        drawn = now.mean + now.std * rng.standard_normal((settings.population, now.mean.size))
        drawn[:2] = now.mean, candidates.start.mean
        thetas = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(candidates.to_theta, drawn))
        total = scored(thetas, jax.random.key(settings.task_seed + generation))
        scores.append(Scores(*total[:2].tolist()))
        elite = drawn[
            _lowest(total, max(4, round(settings.elite * settings.population)), generation)
        ]
        now = Distribution(
            (now.mean + elite.mean(axis=0)) / 2.0, (now.std + elite.std(axis=0, ddof=1)) / 2.0
        )
        report(now, scores)
    return now, scores


def _scored_on(
    families: Sequence[TaskFamily], optimizer: Callable[..., Any], settings: base.CrossEntropy
) -> Callable[[Any, jax.Array], NDArray]:
    """The function of stacked thetas and a key that gives their scores on fresh tasks,
    summed over families.
    """
    options = {
        "num_steps": settings.num_steps,
        "splits": ("outer_valid",),
        "eval_every": settings.num_steps // settings.num_measurements,
        "num_eval_batches": settings.num_measured_batches,
    }
    learned = [make_sweep(family, optimizer, **options) for family in families]
    adams = [make_sweep(family, optax.adam, **options) for family in families]
    rates = jnp.asarray(settings.adam_learning_rates, jnp.float32)

    def scored(thetas, key):
        total = np.zeros(settings.population)
        for family, of_theta, of_rate in zip(families, learned, adams, strict=True):
            runs = make_runs(key, settings.num_runs)
            losses = [of_theta(thetas, runs), of_rate(rates, runs)]
            total += family.weight * score(
                *(np.asarray(each["outer_valid"]["loss"]) for each in losses), settings
            )
        return total

    return scored


def _lowest(scores: NDArray, number: int, generation: int) -> NDArray:
    """Indices of the lowest scores, fewer where fewer are known:
    what is unknown is drawn around by nobody.
    """
    known = np.argsort(scores)[: int(np.isfinite(scores).sum())]
    if len(known) < 2:
        raise ValueError(
            f"fewer than two candidates of generation {generation} have a finite score"
        )
    return known[:number]
