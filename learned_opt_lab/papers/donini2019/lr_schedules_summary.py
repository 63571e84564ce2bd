"""What a sweep over hyper-learning rates shows:
best value, usable range, how low the rates fall.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from learned_opt_lab.evaluation.statistics import deviation, lowest_known


def summary(
    hyper_learning_rates: Sequence[float], runs: dict[str, np.ndarray], first_rate: float
) -> dict[str, Any]:
    """Means over seeds.

    The best hyper-learning rate has the highest mean validation accuracy, as in arXiv 1910.08525.

    Args:
      hyper_learning_rates: the sweep, rising.
      runs: `loss`, `accuracy`, `test_accuracy` `[sweep, seeds]` and `rates` `[sweep, seeds, T]`.
      first_rate: eta_0.

    Returns:
      `accuracies` are those of each seed, `[sweep, seeds]`; `usable_decades` is the width of the
      longest stretch within 2 points of the best accuracy; `lowest_rate_over_first` the mean of
      each run's smallest rate, and `last_rates_over_first` of its last tenth of rates, both in
      units of `first_rate`; `lowest_rates_at_the_best` has the smallest rate of each run at the
      best hyper-learning rate.
    """
    accuracy = runs["accuracy"].mean(axis=1)
    best = lowest_known(-accuracy, "validation accuracy of the sweep")
    usable = accuracy >= accuracy[best] - 0.02
    rates = runs["rates"].astype(np.float64) / first_rate
    last = max(1, rates.shape[-1] // 10)
    return {
        "hyper_learning_rates": list(hyper_learning_rates),
        "accuracy": accuracy.tolist(),
        "accuracies": runs["accuracy"].tolist(),
        "loss": runs["loss"].mean(axis=1).tolist(),
        "test_accuracy": runs["test_accuracy"].mean(axis=1).tolist(),
        "best_index": best,
        "best_hyper_learning_rate": hyper_learning_rates[best],
        "best_accuracy": float(accuracy[best]),
        "best_accuracy_std": deviation(runs["accuracy"][best]),
        "usable_decades": widest_stretch(np.log10(hyper_learning_rates), usable),
        "lowest_rate_over_first": rates.min(axis=2).mean(axis=1).tolist(),
        "lowest_rates_at_the_best": rates[best].min(axis=1).tolist(),
        "last_rates_over_first": rates[..., -last:].mean(axis=(1, 2)).tolist(),
    }


def where_decayed(row: dict[str, Any], below: float = 0.1) -> dict[str, Any]:
    """At which hyper-learning rates of a `summary` the rate falls below a share of the first one.

    Returns:
      The share, whether it does so at the best hyper-learning rate, and for every hyper-learning
      rate at which it does the lowest rate over the first and how far the accuracy is below the
      best.
    """
    lowest = row["lowest_rate_over_first"]
    return {
        "below": below,
        "at_the_best": lowest[row["best_index"]] < below,
        "where": [
            {
                "hyper_learning_rate": beta,
                "lowest_rate_over_first": low,
                "below_best": row["best_accuracy"] - accuracy,
            }
            for beta, low, accuracy in zip(
                row["hyper_learning_rates"], lowest, row["accuracy"], strict=True
            )
            if low < below
        ],
    }


def widest_stretch(positions: np.ndarray, usable: np.ndarray) -> float:
    """Length of the longest stretch of neighbouring usable positions; a lone one has none."""
    widest, start = 0.0, None
    for i, good in enumerate(usable):
        start = (i if start is None else start) if good else None
        if start is not None:
            widest = max(widest, float(positions[i] - positions[start]))
    return widest


def json_ready(tree: Any) -> Any:
    """Floats that are not finite become None: JSON has no nan."""
    if isinstance(tree, dict):
        return {key: json_ready(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [json_ready(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
