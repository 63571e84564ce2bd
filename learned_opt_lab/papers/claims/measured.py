"""A number of ours with its 95 % interval, and what the interval is over."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike

from learned_opt_lab.evaluation.statistics import CONFIDENCE

EXACT, ONE_RUN = "exact", "one run"


class Measured(NamedTuple):
    """A number and how sure it is.

    Attributes:
      value: the estimate.
      low: lower end of the 95 % interval; None where nothing is known of it.
      high: the upper end.
      over: what the interval is over, as "6 seeds"; `EXACT` for a number without randomness, whose
        interval is a point, `ONE_RUN` for one without an interval.
    """

    value: float
    low: float | None
    high: float | None
    over: str


def exact(value: float) -> Measured:
    """Of a computation without randomness."""
    return Measured(float(value), float(value), float(value), EXACT)


def once(value: float) -> Measured:
    """Of one run, which says nothing of others."""
    return Measured(float(value), None, None, ONE_RUN)


def given(interval: dict | Sequence[float], over: str, value: float | None = None) -> Measured:
    """An interval that the result has: `estimate`, `low` and `high`, or the two ends."""
    if isinstance(interval, dict):
        return Measured(interval["estimate"], interval["low"], interval["high"], over)
    low, high = interval
    assert value is not None
    return Measured(value, low, high, over)


def mean_of(values: ArrayLike, what: str) -> Measured:
    """Mean with the interval of Student's t over runs; of one run without.

    Args:
      values: one a run, or the differences of pairs.
      what: the runs are, in the plural: "seeds".
    """
    values = np.asarray(values, np.float64)
    if len(values) < 2:
        return once(values.mean())
    error = values.std(ddof=1) / np.sqrt(len(values))
    return from_error(values.mean(), error, len(values), f"{len(values)} {what}")


def from_error(mean: float, error: float, count: int, over: str) -> Measured:
    """Interval of Student's t from a mean, its standard error and the number of runs."""
    half = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * error
    return Measured(float(mean), float(mean - half), float(mean + half), over)


def ratio_of(ratios: ArrayLike, what: str) -> Measured:
    """Geometric mean of positive ratios, with the interval of `mean_of` their logarithms."""
    found = mean_of(np.log(np.asarray(ratios, np.float64)), what)
    ends = [None if end is None else float(np.exp(end)) for end in found[:3]]
    return Measured(*ends, found.over)


def share_of(wins: int, count: int, what: str) -> Measured:
    """Share of independent cases with Wilson's interval."""
    found = scipy.stats.binomtest(int(wins), int(count)).proportion_ci(CONFIDENCE, "wilson")
    return Measured(wins / count, float(found.low), float(found.high), f"{count} {what}")


def resampled(
    statistic: Callable[[np.ndarray], float], count: int, what: str, num_resamples: int = 1000
) -> Measured:
    """`statistic(indices)` of runs, with its percentile bootstrap interval."""
    drawn = np.random.default_rng(0).integers(count, size=(num_resamples, count))
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile([statistic(rows) for rows in drawn], [tail, 100 - tail])
    value = statistic(np.arange(count))
    return Measured(float(value), float(low), float(high), f"{count} {what}")
