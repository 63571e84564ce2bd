"""What `offline_smd` reads off its surface, `[horizons, points]`, and off SMD's paths over it.

Points and paths are `offline_smd.Points`: log10 of the initial rate and of the decay exponent.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from learned_opt_lab.evaluation.statistics import interval_of, lowest_known

NUM_RESAMPLES = 1000
NEAR = 1.05
"""A loss of at most this times the minimum is as good, over so few minibatch sequences."""


def chosen_schedules(
    horizons: Sequence[int], grid: Any, of_seeds: np.ndarray, time_constant: float
) -> list[dict]:
    """The surface's minimum at each horizon, what that schedule reaches at the longest, and how
    well the horizon determines it.

    Args:
      horizons: in steps.
      grid: the surface's points.
      of_seeds: losses of each minibatch sequence, `[seeds, horizons, points]`; their mean is the
        surface.
      time_constant: K of the schedule.

    Returns:
      A row a horizon. `rate_left` is alpha at the horizon over alpha_0, all that a run can notice
      of an exponent; `exponents_as_good` are the least and the largest exponent with a loss within
      `NEAR` of the minimum at some rate; `exponents_of_seeds` the minima of single sequences.
    """
    rows, surface = [], of_seeds.mean(0)
    for i, (horizon, losses) in enumerate(zip(horizons, surface, strict=True)):
        best = lowest_known(losses, f"loss at horizon {horizon}")
        exponent = float(10 ** grid.exponent[best])
        near = 10 ** grid.exponent[losses <= NEAR * losses[best]]
        single = [lowest_known(row, f"loss at horizon {horizon}") for row in of_seeds[:, i]]
        rows.append(
            {
                "num_steps": horizon,
                "learning_rate": float(10 ** grid.rate[best]),
                "decay_exponent": exponent,
                "rate_left": (1 + horizon / time_constant) ** -exponent,
                "exponents_as_good": [float(near.min()), float(near.max())],
                "exponents_of_seeds": [float(10 ** grid.exponent[k]) for k in single],
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


def momentum_summary(
    paths: Mapping[int, Any], at_ends: np.ndarray, fixed: list[dict]
) -> list[dict]:
    """Where SMD ends that learns the momentum too, beside SMD from the same starts that does not.

    Args:
      paths: horizon -> `smd_decay.Decay`, leaves `[meta steps + 1, starts]`.
      at_ends: losses of all their ends, `[horizons, horizons x starts]`.
      fixed: rows of `smd_summary`.
    """
    rows = []
    for i, (horizon, path) in enumerate(paths.items()):
        end = type(path)(*(leaf[-1] for leaf in path))
        num_starts = len(end.log_rate)
        losses = at_ends[i, i * num_starts : (i + 1) * num_starts]
        one_minus = np.exp(np.asarray(end.log_one_minus_momentum, float))
        # The rate of `Decay` has the effective rate of momentum .9.
        effective = np.exp(np.asarray(end.log_rate, float)) * 10
        rows.append(
            {
                "num_steps": horizon,
                "losses": losses.tolist(),
                "median_over_fixed_momentum": float(
                    np.median(losses) / np.median(fixed[i]["losses"])
                ),
                "momenta": (1 - one_minus).tolist(),
                "effective_rates": effective.tolist(),
                "learning_rates": (effective * one_minus).tolist(),
                "decay_exponents": np.exp(np.asarray(end.log_exponent, float)).tolist(),
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
