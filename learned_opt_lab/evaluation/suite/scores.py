"""Normalized scores of an optimizer's runs, with an interval that knows of the reference's too."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from learned_opt_lab.evaluation import measures, statistics


class Finals(NamedTuple):
    """Final test losses of an optimizer and of the reference; run for run of the same seeds.

    Attributes:
      final: `[tasks, runs]`.
      has_diverged: `[tasks, runs]`.
      start: `[tasks]`, mean loss before the first step.
      reference: `[tasks, runs]` of the reference.
    """

    final: NDArray
    has_diverged: NDArray
    start: NDArray
    reference: NDArray

    @property
    def scores(self) -> NDArray:
        """`[tasks, runs]`."""
        return measures.normalized_scores(
            self.final, self.has_diverged, self.start[:, None], _mean(self.reference)
        )

    def interval(
        self, statistic: Callable[..., NDArray] = statistics.interquartile_mean
    ) -> statistics.Interval:
        """Of a statistic of the scores; a draw of runs is one of the reference's as well."""
        return statistics.stratified_bootstrap(self.scores, statistic, drawn=self._of_drawn)

    def _of_drawn(self, runs: NDArray) -> NDArray:
        final, has_diverged, reference = (
            np.take_along_axis(of_runs[None], runs, axis=2)
            for of_runs in (self.final, self.has_diverged, self.reference)
        )
        start = self.start[None, :, None]
        return measures.normalized_scores(final, has_diverged, start, _mean(reference))


def _mean(of_runs: NDArray) -> NDArray:
    return of_runs.mean(axis=-1, keepdims=True)


def finals_of(
    rows: Sequence[Mapping[str, Any]], reference_rows: Sequence[Mapping[str, Any]]
) -> Finals:
    """From one optimizer's rows of a report and the reference's, on the same tasks in one order."""
    start = np.asarray([row["start_loss"] for row in reference_rows], np.float64)
    reference = [
        reference_finals(row["test_loss"]["runs"], row["start_loss"]) for row in reference_rows
    ]
    final = np.asarray([row["test_loss"]["runs"] for row in rows], np.float64)
    has_diverged = np.zeros(final.shape, bool)
    for task, row in enumerate(rows):
        has_diverged[task, [run["run"] for run in row["diverged_runs"]]] = True
    return Finals(final, has_diverged, start, np.asarray(reference))


def reference_finals(final: Any, start: float) -> NDArray:
    """Final losses of the reference's runs, as the scale takes them: one that diverged made no
    progress, and does not make the scale a scale of divergence.
    """
    return np.minimum(np.asarray(final, np.float64), start)
