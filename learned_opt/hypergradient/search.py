"""The search MARTHE is meant to be wrapped in:
the largest hyper-learning rate that does not diverge.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from learned_opt.ranges import require, require_count

_TINY, _HUGE = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


class HyperLearningRateSearch(NamedTuple):
    """What `find_hyper_learning_rate` found.

    Attributes:
      value: the first value that did not diverge.
      losses: its training losses, `[num_steps]`.
      rejected: the larger values that diverged, in the order tried.
    """

    value: float
    losses: np.ndarray
    rejected: tuple[float, ...]


def find_hyper_learning_rate(
    run: Callable[[float], Any],
    *,
    start: float = 1.0,
    factor: float = 10.0,
    max_trials: int = 12,
    diverged: Callable[[np.ndarray], bool] | None = None,
) -> HyperLearningRateSearch:
    """Starts high and divides by ten until the run does not diverge
    (MARTHE, arXiv 1910.08525, end of section 4).

    It works for the hyper-learning rate of `hd` and `rtho` and for `meta_step` of `marthe`. Too
    large a value diverges within the first few steps, so a short run is enough to find it.

        run = lambda step: train(marthe(optax.sgd, 0.1, meta_step=step))
        search = find_hyper_learning_rate(run, start=1e-2)
        tx = marthe(optax.sgd, 0.1, meta_step=search.value)

    Args:
      run: `value -> losses`, the training losses of one run, `[num_steps]`.
      start: the first value tried, > 0.
      factor: what a value that diverged is divided by, > 1.
      max_trials: values tried at most, >= 1; the last must still be a float32.
      diverged: `losses -> bool`; by default `loss_diverged`.

    Returns:
      See `HyperLearningRateSearch`.

    Raises:
      ValueError: an argument is out of range, or `run` gives anything but a 1-D array of losses.
      RuntimeError: every value diverged.
    """
    start = require("start", start, "be a finite number > 0", _TINY, _HUGE)
    factor = require("factor", factor, "be > 1", np.nextafter(1, 2), _HUGE)
    max_trials = require_count("max_trials", max_trials, 1, 1000, "be >= 1")
    if math.log(start) - (max_trials - 1) * math.log(factor) < math.log(_TINY):
        raise ValueError(
            f"{max_trials} trials from {start:g} by {factor:g} end below {_TINY:.3g}, which is 0 "
            "in float32"
        )
    diverged = loss_diverged if diverged is None else diverged
    rejected = []
    for trial in range(max_trials):
        value = start / factor**trial
        losses = np.asarray(run(value))
        if losses.ndim != 1 or losses.size == 0:
            raise ValueError(
                f"run must give the losses of its steps, [num_steps], got shape {losses.shape}"
            )
        if not diverged(losses):
            return HyperLearningRateSearch(value, losses, tuple(rejected))
        rejected.append(value)
    raise RuntimeError(f"the run diverged at every value from {start:g} down to {value:g}")


def loss_diverged(losses: np.ndarray) -> bool:
    """Whether a loss is not finite or the mean of the last tenth lies above the first.

    Raises:
      ValueError: for anything but a 1-D array of at least one loss.
    """
    losses = np.asarray(losses, np.float64)
    if losses.ndim != 1 or losses.size == 0:
        raise ValueError(
            f"losses must be those of the steps, [num_steps], got shape {losses.shape}"
        )
    tail = losses[-max(1, losses.size // 10) :]
    return not np.all(np.isfinite(losses)) or bool(tail.mean() > losses[0])
