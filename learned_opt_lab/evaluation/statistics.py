"""Aggregates over few runs, with their uncertainty (Agarwal et al. 2021, arXiv 2108.13264).

Scores are `[tasks, runs]`, smaller is better. Tasks are strata: a bootstrap resamples the runs of
each task and never mixes tasks. A resample draws one run fewer than there are (McCarthy and Snowden
1985): the variance of its mean is then unbiased, where that of as many draws is too small by a
third for three runs. Everything here is NumPy on the host and seeded.

What cannot be known is nan: every statistic of scores with a nan among them, and an interval that
would have to come from one run. What was never reached is infinity, and larger than everything.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

NUM_RESAMPLES = 2000
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A point estimate with its percentile bootstrap interval; nan is unknown."""

    estimate: float
    low: float
    high: float


def deviation(values: ArrayLike, ddof: int = 0) -> float:
    """Standard deviation; nan for fewer than two values, which say nothing of it."""
    values = np.asarray(values, np.float64)
    return float(values.std(ddof=ddof)) if values.size > 1 else np.nan


def lowest(values: ArrayLike) -> int | None:
    """Index of the lowest of the values that are known, the first of equals;
    None where none is finite.
    """
    values = np.asarray(values, np.float64)
    known = np.isfinite(values)
    return int(np.where(known, values, np.inf).argmin()) if known.any() else None


def lowest_known(values: ArrayLike, what: str) -> int:
    """As `lowest`.

    Raises:
      ValueError: where none is finite; it says of `what`.
    """
    if (index := lowest(values)) is None:
        raise ValueError(f"no {what} is finite, so there is no best one")
    return index


def interquartile_mean(scores: ArrayLike, axis: int | tuple[int, ...] | None = None) -> NDArray:
    """Mean of the middle half: the lowest and the highest quarter
    of the scores (rounded down) are left out.

    nan where a score is nan, which is neither high nor low.
    """
    scores = np.asarray(scores, np.float64)
    axes = tuple(range(scores.ndim)) if axis is None else np.atleast_1d(axis)
    kept_axes = [i for i in range(scores.ndim) if i not in {a % scores.ndim for a in axes}]
    flat = np.transpose(scores, [*kept_axes, *(a % scores.ndim for a in axes)])
    flat = np.sort(flat.reshape(*flat.shape[: len(kept_axes)], -1), axis=-1)
    cut = flat.shape[-1] // 4
    kept = flat[..., cut : flat.shape[-1] - cut]
    middle, size = kept.mean(axis=-1), np.abs(kept).mean(axis=-1)
    # What is left of terms that cancel is their rounding.
    rounding = kept.shape[-1] * np.finfo(np.float64).eps * size
    middle = np.where(np.isfinite(size) & (np.abs(middle) <= rounding), 0.0, middle)
    return np.where(np.isnan(flat[..., -1]), np.nan, middle)[()]


def mean(scores: ArrayLike, axis: int | tuple[int, ...] | None = None) -> NDArray:
    """The plain mean, with the signature `stratified_bootstrap` asks for."""
    return np.asarray(scores, np.float64).mean(axis=axis)


def stratified_bootstrap(
    scores: ArrayLike,
    statistic: Callable[..., NDArray] = interquartile_mean,
    *,
    drawn: Callable[[NDArray], NDArray] | None = None,
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of `statistic(scores, axis=(-2, -1))`,
    runs resampled within each task.

    One run of each task says nothing of how runs differ: the interval's ends are nan.

    Args:
      scores: `[tasks, runs]`.
      statistic: reduces the last two axes of `[resamples, tasks, draws]`.
      drawn: the scores of drawn runs, from their indices `[resamples, tasks, draws]`; where a score
        depends on other runs too, such as those of a reference. None takes them from `scores`.
      num_resamples: bootstrap samples.
      confidence: coverage, in (0, 1).
      seed: of NumPy's generator.
    """
    scores = _two_dimensional(scores)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    estimate = float(statistic(scores, axis=(-2, -1)))
    if scores.shape[1] < 2:
        return Interval(estimate, np.nan, np.nan)
    runs = _resampled_runs(scores.shape, num_resamples, seed)
    resampled = np.take_along_axis(scores[None], runs, axis=2) if drawn is None else drawn(runs)
    return _around(estimate, statistic(resampled, axis=(-2, -1)), confidence)


def _around(estimate: float, values: ArrayLike, confidence: float) -> Interval:
    """The interval of resampled values, wide enough to hold the estimate: a trimmed mean of fewer
    draws may lie to one side of it.
    """
    low, high = interval_of(values, confidence)
    return Interval(estimate, *(float(each) for each in (min(low, estimate), max(high, estimate))))


def interval_of(values: ArrayLike, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The middle part of resampled values, `[resamples]`;
    nan where one of them is, infinite where it reaches there.
    """
    values = np.asarray(values, np.float64)
    probabilities = [(1 - confidence) / 2, (1 + confidence) / 2]
    if np.isfinite(values).all():
        low, high = np.quantile(values, probabilities)
        return float(low), float(high)
    if np.isnan(values).any():
        return np.nan, np.nan
    low, high = (float(_quantile(np.sort(values), probability)) for probability in probabilities)
    return low, high


def _quantile(values: NDArray, probability: float) -> float:
    """Of sorted values, infinities among them, between which NumPy's interpolation gives nan."""
    position = probability * (len(values) - 1)
    below, above = values[int(np.floor(position))], values[int(np.ceil(position))]
    if below == above or not np.isfinite([below, above]).all():
        return below if np.isneginf(below) or below == above else above
    return below + (above - below) * (position - np.floor(position))


def probability_of_improvement(x: ArrayLike, y: ArrayLike) -> float:
    """Mean over tasks of `P(X < Y) + P(X = Y) / 2`:
    how often a run of x ends below a run of y on the same task.

    This is the Mann-Whitney statistic divided by the number of pairs; nan where a score is.

    Args:
      x: `[tasks, runs]`.
      y: `[tasks, other runs]`.
    """
    x, y = _two_dimensional(x), _two_dimensional(y)
    if x.shape[0] != y.shape[0]:
        raise ValueError(f"both need the same tasks, got {x.shape[0]} and {y.shape[0]}")
    return float(_wins(x, y).mean())


def probability_of_improvement_interval(
    x: ArrayLike,
    y: ArrayLike,
    *,
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """`probability_of_improvement` with a stratified bootstrap interval;
    x and y are resampled independently.

    With one run of either, the interval's ends are nan.
    """
    x, y = _two_dimensional(x), _two_dimensional(y)
    estimate = probability_of_improvement(x, y)
    if min(x.shape[1], y.shape[1]) < 2:
        return Interval(estimate, np.nan, np.nan)
    wins = _wins(x, y)
    rows = _resampled_runs(x.shape, num_resamples, seed)
    columns = _resampled_runs(y.shape, num_resamples, seed + 1)
    tasks = np.arange(x.shape[0])[:, None, None]
    values = [
        wins[tasks, r[:, :, None], c[:, None, :]].mean() for r, c in zip(rows, columns, strict=True)
    ]
    return _around(estimate, values, confidence)


def performance_profile(scores: ArrayLike, thresholds: ArrayLike) -> NDArray:
    """Share of runs with a score at or below each threshold, every task weighing the same:
    `[thresholds]`.

    nan where a score is: it may lie on either side.
    """
    scores, thresholds = _two_dimensional(scores), np.asarray(thresholds, np.float64)
    if np.isnan(scores).any():
        return np.full(thresholds.shape, np.nan)
    return (scores[None] <= thresholds[:, None, None]).mean(axis=2).mean(axis=1)


def _two_dimensional(scores: ArrayLike) -> NDArray:
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 2 or 0 in scores.shape:
        raise ValueError(f"scores must be [tasks, runs] and not empty, got shape {scores.shape}")
    return scores


def _resampled_runs(shape: tuple[int, int], num_resamples: int, seed: int) -> NDArray:
    """Indices `[resamples, tasks, runs - 1]`."""
    num_tasks, num_runs = shape
    size = (num_resamples, num_tasks, num_runs - 1)
    return np.random.default_rng(seed).integers(num_runs, size=size)


def _wins(x: NDArray, y: NDArray) -> NDArray:
    """`[tasks, runs of x, runs of y]`:
    1 where x is lower, 1/2 at a tie, nan where one of them is.
    """
    x, y = x[:, :, None], y[:, None, :]
    return np.where(np.isnan(x) | np.isnan(y), np.nan, (x < y) + 0.5 * (x == y))
