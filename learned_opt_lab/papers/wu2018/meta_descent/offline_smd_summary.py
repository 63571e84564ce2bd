"""What `offline_smd` reads off its surface, `[horizons, points]`, and off SMD's paths over it.

Points and paths are `offline_smd.Points`: log10 of the initial rate and of the decay exponent.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from learned_opt_lab.evaluation.statistics import interval_of, lowest_known

NUM_RESAMPLES = 1000


def chosen_schedules(horizons: Sequence[int], grid: Any, surface: np.ndarray) -> list[dict]:
    """The surface's minimum at each horizon, and what that schedule reaches at the longest."""
    rows = []
    for horizon, losses in zip(horizons, surface, strict=True):
        best = lowest_known(losses, f"loss at horizon {horizon}")
        rows.append(
            {
                "num_steps": horizon,
                "learning_rate": float(10 ** grid.rate[best]),
                "decay_exponent": float(10 ** grid.exponent[best]),
                "loss": float(losses[best]),
                "loss_at_longest": float(surface[-1, best]),
            }
        )
    return rows


def ratio_intervals(grid: Any, of_seeds: np.ndarray) -> dict[str, list[float] | None]:
    """95 % bootstrap intervals of the shortest horizon's choice over the longest's: of the decay
    exponents, and of what both reach at the longest.

    Args:
      grid: the surface's points.
      of_seeds: losses, `[seeds, horizons, points]`; seeds are resampled, and choose anew.

    Returns:
      `exponent_ratio` and `loss_ratio_at_longest`; None of one seed, which says nothing of others.
    """
    if len(of_seeds) < 2:
        return {"exponent_ratio": None, "loss_ratio_at_longest": None}
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(of_seeds), size=(NUM_RESAMPLES, len(of_seeds)))
    exponents, losses = np.empty(NUM_RESAMPLES), np.empty(NUM_RESAMPLES)
    for i, seeds in enumerate(drawn):
        surface = of_seeds[seeds].mean(0)
        short, long = surface[0].argmin(), surface[-1].argmin()
        exponents[i] = 10 ** (grid.exponent[short] - grid.exponent[long])
        losses[i] = surface[-1, short] / surface[-1, long]
    ratios = {"exponent_ratio": exponents, "loss_ratio_at_longest": losses}
    return {name: [*interval_of(values)] for name, values in ratios.items()}


def smd_summary(
    num_starts: int, paths: Mapping[int, Any], surface: np.ndarray, at_ends: np.ndarray
) -> list[dict]:
    """Loss of SMD's ends beside the surface's minimum,
    and the share of the surface that is better than an end.
    """
    rows = []
    for i, (horizon, path) in enumerate(paths.items()):
        ends = slice(i * num_starts, (i + 1) * num_starts)
        losses = at_ends[i, ends]
        minimum = float(surface[i][lowest_known(surface[i], f"loss at horizon {horizon}")])
        rows.append(
            {
                "num_steps": horizon,
                "surface_minimum": minimum,
                "losses": losses.tolist(),
                "median_over_minimum": float(np.median(losses) / minimum),
                "share_of_surface_below": [_share_below(surface[i], loss) for loss in losses],
                "learning_rates": (10 ** path.rate[-1]).tolist(),
                "decay_exponents": (10 ** path.exponent[-1]).tolist(),
            }
        )
    return rows


def _share_below(surface: np.ndarray, loss: float) -> float:
    """nan for an unknown loss; what is unknown of the surface is below none."""
    return float("nan") if np.isnan(loss) else float(np.mean(surface < loss))
