"""What `offline_smd` reads off its surface, `[horizons, points]`, and off SMD's paths over it.

Points and paths are `offline_smd.Points`: log10 of the initial rate and of the decay exponent.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from learned_opt_lab.evaluation.statistics import lowest_known


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
