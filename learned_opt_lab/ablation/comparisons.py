"""One variant against the base, at equal inner steps and at equal seconds,
and how its gradients varied along outer-training.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from learned_opt_lab.ablation.runs import Cell
from learned_opt_lab.evaluation.statistics import (
    CONFIDENCE,
    NUM_RESAMPLES,
    Interval,
    deviation,
    interval_of,
)

OUTER_LOSS = "outer_train/outer_valid"
WINDOWS = 20
"""Equal shares of outer-training that numbers along it are medians over."""
RP, ES = "reparameterization", "evolution_strategies"


def final_losses(cells: dict[int, Cell], seeds: Sequence[int], name: str) -> NDArray:
    """`[seeds, tasks]` of the last theta; nan where it was not measured."""
    unknown = np.full(cells[seeds[0]][OUTER_LOSS].shape, np.nan)
    return np.stack([cells[seed].get(name, unknown)[-1] for seed in seeds])


def difference(a: dict[int, Cell], b: dict[int, Cell], name: str) -> Interval:
    """Final losses of `a` less those of `b`, paired by seed and task over the seeds of both."""
    seeds = [seed for seed in a if seed in b]
    return crossed_bootstrap(final_losses(a, seeds, name) - final_losses(b, seeds, name))


def at_equal_seconds(base: dict[int, Cell], other: dict[int, Cell]) -> dict[str, Any]:
    """Outer losses when the quicker of both was done: the other's between two of its points.

    Where the other has no point before that time but the fresh theta, it is between this and its
    first.
    """
    seeds = [seed for seed in base if seed in other]
    total = lambda cells: np.mean([cells[seed]["seconds_so_far"][-1] for seed in seeds])
    seconds = float(min(total(base), total(other)))
    a, b = (_losses_at(cells, seeds, seconds) for cells in (base, other))
    return {
        "seconds": seconds,
        "base": float(a.mean()),
        "variant": float(b.mean()),
        "base_less_variant": crossed_bootstrap(a - b)._asdict(),
    }


def _losses_at(cells: dict[int, Cell], seeds: Sequence[int], seconds: float) -> NDArray:
    """`[seeds, tasks]`."""

    def of(cell: Cell) -> list[float]:
        return [
            float(np.interp(seconds, cell["seconds_so_far"], curve)) for curve in cell[OUTER_LOSS].T
        ]

    return np.array([of(cells[seed]) for seed in seeds])


def spread(losses: NDArray) -> dict[str, float]:
    """How much `[seeds, tasks]` depend on the seed: of the means over tasks."""
    of_seeds = losses.mean(axis=1)
    return {
        "deviation": deviation(of_seeds, ddof=1),
        "lowest": float(of_seeds.min()),
        "highest": float(of_seeds.max()),
    }


def along(cells: Sequence[Cell]) -> dict[str, list[float]] | None:
    """Variances and weights along outer-training, a number for each of `WINDOWS` windows.

    Of truncation lengths the mean, of variances and their ratio the median, of weights the mean,
    over the window's outer steps and all seeds; None for cells that kept no variance.
    """
    names = [name for name in cells[0] if name.startswith("metric/")]
    columns = {
        name.removeprefix("metric/"): np.stack([cell[name] for cell in cells]) for name in names
    }
    if not any(name.startswith("variance_") for name in columns):
        return None
    if f"variance_{RP}" in columns and f"variance_{ES}" in columns:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            rp, es = (columns[f"variance_{name}"].astype(np.float64) for name in (RP, ES))
            columns["variance_ratio"] = rp / es
    steps = next(iter(columns.values())).shape[1]
    parts = np.array_split(np.arange(steps), min(WINDOWS, steps))
    found = {"outer_step": [float(part.mean()) for part in parts]}
    for name, values in columns.items():
        reduce = np.median if name.startswith("variance_") else np.mean
        found[name] = [_known(reduce, values[:, part]) for part in parts]
    return found


def _known(reduce, values: NDArray) -> float:
    """Over the values that are not nan; an infinite variance is larger than all others."""
    values = values[~np.isnan(values)].astype(np.float64)
    if not values.size:
        return np.nan
    # A mean of two infinities in the middle is none.
    with np.errstate(invalid="ignore"):
        return float(reduce(values))


def crossed_bootstrap(
    values: ArrayLike,
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
    seeds_are_given: bool = False,
) -> Interval:
    """Percentile bootstrap interval of the mean of `[seeds, tasks]`,
    seeds and tasks both resampled.

    Both are samples of what one would draw again; to resample cells alone would take one seed's
    tasks for independent. One seed or one task says nothing of how others differ: the interval's
    ends are nan. With `seeds_are_given` the seeds are no sample, and one will do.
    """
    values = np.asarray(values, np.float64)
    if values.shape[1] < 2 or (values.shape[0] < 2 and not seeds_are_given):
        return Interval(float(values.mean()), np.nan, np.nan)
    generator = np.random.default_rng(seed)
    rows, columns = (generator.integers(n, size=(num_resamples, n)) for n in values.shape)
    means = values[rows[:, :, None], columns[:, None, :]].mean(axis=(1, 2))
    return Interval(float(values.mean()), *interval_of(means, confidence))
