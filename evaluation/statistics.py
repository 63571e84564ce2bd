"""Aggregates over few runs, with their uncertainty (Agarwal et al. 2021, arXiv 2108.13264).

Scores are `[tasks, runs]`, smaller is better. Tasks are strata: a bootstrap resamples the runs of each task and never
mixes tasks. Everything here is NumPy on the host and seeded.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

NUM_RESAMPLES = 2000
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A point estimate with its percentile bootstrap interval."""

    estimate: float
    low: float
    high: float


def interquartile_mean(scores: ArrayLike, axis: int | tuple[int, ...] | None = None) -> NDArray:
    """Mean of the middle half: the lowest and the highest quarter of the scores (rounded down) are left out."""
    scores = np.asarray(scores, np.float64)
    axes = tuple(range(scores.ndim)) if axis is None else np.atleast_1d(axis)
    kept_axes = [i for i in range(scores.ndim) if i not in {a % scores.ndim for a in axes}]
    flat = np.transpose(scores, [*kept_axes, *(a % scores.ndim for a in axes)])
    flat = np.sort(flat.reshape(*flat.shape[: len(kept_axes)], -1), axis=-1)
    cut = flat.shape[-1] // 4
    return flat[..., cut : flat.shape[-1] - cut].mean(axis=-1)


def mean(scores: ArrayLike, axis: int | tuple[int, ...] | None = None) -> NDArray:
    """The plain mean, with the signature `stratified_bootstrap` asks for."""
    return np.asarray(scores, np.float64).mean(axis=axis)


def stratified_bootstrap(
    scores: ArrayLike,
    statistic: Callable[..., NDArray] = interquartile_mean,
    *,
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of `statistic(scores, axis=(-2, -1))`, runs resampled within each task.

    Args:
      scores: `[tasks, runs]`.
      statistic: reduces the last two axes of `[resamples, tasks, runs]`.
      num_resamples: bootstrap samples.
      confidence: coverage, in (0, 1).
      seed: of NumPy's generator.
    """
    scores = _two_dimensional(scores)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    resampled = np.take_along_axis(scores[None], _resampled_runs(scores.shape, num_resamples, seed), axis=2)
    values = statistic(resampled, axis=(-2, -1))
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(statistic(scores, axis=(-2, -1))), float(low), float(high))


def probability_of_improvement(x: ArrayLike, y: ArrayLike) -> float:
    """Mean over tasks of `P(X < Y) + P(X = Y) / 2`: how often a run of x ends below a run of y on the same task.

    This is the Mann-Whitney statistic divided by the number of pairs.

    Args:
      x: `[tasks, runs]`.
      y: `[tasks, other runs]`.
    """
    x, y = _two_dimensional(x), _two_dimensional(y)
    if x.shape[0] != y.shape[0]:
        raise ValueError(f"both need the same tasks, got {x.shape[0]} and {y.shape[0]}")
    return float(_wins(x, y).mean())


def probability_of_improvement_interval(
    x: ArrayLike, y: ArrayLike, *, num_resamples: int = NUM_RESAMPLES, confidence: float = CONFIDENCE, seed: int = 0
) -> Interval:
    """`probability_of_improvement` with a stratified bootstrap interval; x and y are resampled independently."""
    x, y = _two_dimensional(x), _two_dimensional(y)
    estimate = probability_of_improvement(x, y)
    wins = _wins(x, y)
    rows = _resampled_runs(x.shape, num_resamples, seed)
    columns = _resampled_runs(y.shape, num_resamples, seed + 1)
    tasks = np.arange(x.shape[0])[:, None, None]
    values = [wins[tasks, r[:, :, None], c[:, None, :]].mean() for r, c in zip(rows, columns, strict=True)]
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(estimate, float(low), float(high))


def performance_profile(scores: ArrayLike, thresholds: ArrayLike) -> NDArray:
    """Share of runs with a score at or below each threshold, every task weighing the same: `[thresholds]`."""
    scores = _two_dimensional(scores)
    return (scores[None] <= np.asarray(thresholds, np.float64)[:, None, None]).mean(axis=2).mean(axis=1)


def _two_dimensional(scores: ArrayLike) -> NDArray:
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 2 or 0 in scores.shape:
        raise ValueError(f"scores must be [tasks, runs] and not empty, got shape {scores.shape}")
    return scores


def _resampled_runs(shape: tuple[int, int], num_resamples: int, seed: int) -> NDArray:
    return np.random.default_rng(seed).integers(shape[1], size=(num_resamples, *shape))


def _wins(x: NDArray, y: NDArray) -> NDArray:
    """`[tasks, runs of x, runs of y]`: 1 where x is lower, 1/2 at a tie."""
    return (x[:, :, None] < y[:, None, :]) + 0.5 * (x[:, :, None] == y[:, None, :])
