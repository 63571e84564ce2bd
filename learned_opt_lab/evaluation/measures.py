"""What a loss curve is worth: final loss, steps to a target, divergence, and the per-task scale.

Curves are `[runs, points]`; point 0 is measured before the first step. What is not finite counts as
the cap and is never dropped.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from learned_opt_lab.evaluation.held_out import cap_losses

WORST_SCORE = 2.0
"""Normalized score of a diverged run, and the largest any run gets; its negative is the lowest."""
DIVERGENCE_FACTOR = 2.0
"""A final loss above this many times the loss before the first step counts as divergence."""

DEFINITIONS = {
    "point": "a measured loss is the mean over 4 batches",
    "final": "mean of the last tenth of the measurements of a run",
    "metrics": "what a task measures beside its loss (accuracy, bits a byte, R squared, mean "
    "return); mean of the last tenth of the measurements, as of a loss, and not capped",
    "cap": "a loss above a task's loss_cap, or not finite, counts as loss_cap",
    "diverged": "some measured loss is not finite, or the final test loss exceeds twice the loss "
    "before the first step",
    "normalized": "(final test loss - reference's mean) / (mean loss before the first step - "
    "reference's mean) on the same task: 0 is the tuned reference, 1 is no progress, below 0 is "
    f"better; at most {WORST_SCORE:g}, the value of a diverged run, and at least {-WORST_SCORE:g}. "
    "A run of the reference counts as no worse than no progress",
    "steps_to_target": "first step at which the validation loss, smoothed by a trailing mean over "
    "a tenth of the run, is at or below the final validation loss of the tuned reference (mean "
    "over its runs); null where it never is",
    "steps_to_best": "the same for the lowest smoothed validation loss of the tuned reference "
    "(mean over its runs)",
    "validation_at_most_reference": "tasks on which the final validation loss, mean over runs, is "
    "no higher than that of the tuned reference",
    "verdict": "beats only where the interval of the normalized score lies below 0 and that of the "
    "probability of improvement over the reference above .5, unless all runs of some task "
    "diverged; loses the other way round; else level",
    "seconds": "steps times measured seconds per training step of one run alone, compilation and "
    "measurements left out",
    "overhead": "seconds per step less those of the same loop with plain gradient descent",
    "interval": "95 % percentile bootstrap, one run fewer than there are drawn within each task; "
    "for a normalized score the reference's runs of the same seeds with them. The luck of a search "
    "is in none",
    "probability_of_improvement": "mean over tasks of P(X < Y) + P(X = Y) / 2 for normalized "
    "scores of runs",
}

MEASUREMENTS = 40
"""About so many of an episode; the mean over them is the episode's loss."""


def measuring_interval(num_steps: int) -> int:
    """The largest divisor of an episode's steps that gives `MEASUREMENTS` of it or more, else 1."""
    longest = max(1, num_steps // MEASUREMENTS)
    return max(every for every in range(1, longest + 1) if num_steps % every == 0)


def final_losses(curves: ArrayLike, cap: float) -> NDArray:
    """Mean of the last tenth of the measurements (at least one) of each run:
    `[...]` from `[..., points]`.
    """
    curves = cap_losses(curves, cap)
    return curves[..., -max(1, curves.shape[-1] // 10) :].mean(axis=-1)


def smooth(curves: ArrayLike, cap: float) -> NDArray:
    """Trailing mean over a tenth of the points; the first points average what there is so far."""
    curves = cap_losses(curves, cap)
    num_points = curves.shape[-1]
    window = max(1, num_points // 10)
    sums = np.cumsum(np.insert(curves, 0, 0.0, axis=-1), axis=-1)
    ends = np.arange(1, num_points + 1)
    starts = np.maximum(0, ends - window)
    return (sums[..., ends] - sums[..., starts]) / (ends - starts)


def steps_to(curves: ArrayLike, target: float, eval_every: int, cap: float) -> NDArray:
    """Step of the first smoothed measurement at or below the target, for each run;
    inf where there is none.
    """
    # The tolerance is for a target that is itself a smoothed loss:
    # sums in another order differ in their last digits.
    reached = smooth(curves, cap) <= target + 1e-9 * abs(target)
    first = reached.argmax(axis=-1) * eval_every
    return np.where(reached.any(axis=-1), first.astype(np.float64), np.inf)


def diverged(losses: dict[str, ArrayLike], cap: float) -> NDArray:
    """Which runs diverged (`[runs]`), from the raw loss curves of all measured splits,
    `test` among them.
    """
    non_finite = np.any(
        [~np.isfinite(np.asarray(curve)).all(axis=-1) for curve in losses.values()], axis=0
    )
    start = cap_losses(losses["test"], cap)[..., 0]
    return non_finite | (final_losses(losses["test"], cap) > DIVERGENCE_FACTOR * np.abs(start))


def first_non_finite_step(losses: dict[str, ArrayLike], run: int, eval_every: int) -> int | None:
    """The step of a run's first measurement that is not finite."""
    bad = np.any([~np.isfinite(np.asarray(curve)[run]) for curve in losses.values()], axis=0)
    return int(bad.argmax()) * eval_every if bad.any() else None


def normalized_scores(
    final: ArrayLike, has_diverged: ArrayLike, start: ArrayLike, reference: ArrayLike
) -> NDArray:
    """Final test losses on the scale on which the tuned reference is 0 and no progress is 1.

    Where the reference itself made no progress the scale is a hundredth of the starting loss.

    Args:
      final: `[..., runs]` final test losses.
      has_diverged: `[..., runs]`.
      start: mean loss before the first step; one number, or an axis for each of `final`.
      reference: mean final test loss of the tuned reference, likewise.
    """
    start, reference = np.asarray(start, np.float64), np.asarray(reference, np.float64)
    scale = np.maximum(np.maximum(start - reference, 0.01 * np.abs(start)), 1e-12)
    scores = (np.asarray(final, np.float64) - reference) / scale
    scores = np.clip(scores, -WORST_SCORE, WORST_SCORE)
    # The rest is rounding of the losses, by which a reference would not be level with itself.
    return np.where(has_diverged, WORST_SCORE, np.round(scores, 12))
