"""Fig 2 and Fig 6 of arXiv 1910.08525,
from what `learned_opt_lab.papers.donini2019.lr_schedules` measured.
"""

import pathlib
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from learned_opt_lab.drawing.axes import known, legend, log_scale, set_limits
from learned_opt_lab.drawing.text import UNKNOWN
from learned_opt_lab.drawing.training_figures import save

COLORS = {
    "LRS-OPT": "#7F7F7F",
    "HD": "#D55E00",
    "RTHO": "#0072B2",
    "mu = .99": "#009E73",
    "h_mu": "#56B4E9",
    "MARTHE": "#000000",
}


def draw_schedules(
    result: dict[str, Any],
    optimized: np.ndarray,
    online: dict[str, dict[str, np.ndarray]],
    path: pathlib.Path,
) -> None:
    """Left: LRS-OPT on each seed.

    Center: all methods on the first. Right: accuracy over the hyper-learning rate.
    """
    figure = Figure(figsize=(15, 4.6), dpi=140, layout="constrained")
    left, center, right = figure.subplots(1, 3)
    for i, rates in enumerate(optimized):
        left.plot(_smooth(rates), linewidth=1.2, label=f"seed {i}")
    left.set(title="LRS-OPT (mean of 8 steps)", xlabel="step", ylabel="learning rate")
    set_limits(left, "y", low=0)
    legend(left, fontsize=10)
    center.plot(_smooth(optimized[0]), color=COLORS["LRS-OPT"], linewidth=2.5, label="LRS-OPT")
    for name, runs in online.items():
        rates = runs["rates"][result["online"][name]["best_index"], 0]
        center.plot(np.maximum(_smooth(rates), 1e-4), color=COLORS[name], linewidth=1.4, label=name)
    center.set(title="Seed 0, each at its best hyper-rate", xlabel="step")
    log_scale(center, "y", *(line.get_ydata() for line in center.lines))
    set_limits(center, "y", low=1e-3)
    legend(center, fontsize=10)
    _draw_sweep(right, result)
    save(figure, path)


def _draw_sweep(axes, result: dict[str, Any]) -> None:
    for name, row in result["online"].items():
        width = 2.4 if name == "MARTHE" else 1.4
        accuracy = 100 * known(row["accuracy"])
        axes.plot(
            row["hyper_learning_rates"],
            accuracy,
            color=COLORS[name],
            marker=".",
            linewidth=width,
            label=name,
        )
    best, constant = (
        100 * float(known(result[name]["accuracy"])) for name in ("lrs_opt", "constant")
    )
    axes.axhline(best, color=COLORS["LRS-OPT"], linewidth=2, label="LRS-OPT")
    axes.axhline(constant, color="0.6", linestyle=":", label="constant rate")
    log_scale(axes, "x", *(row["hyper_learning_rates"] for row in result["online"].values()))
    set_limits(axes, "y", constant - 6, np.fmax(best, constant) + 1)
    axes.set(xlabel="hyper-learning rate (MARTHE: its meta step)")
    axes.set(title="Mean validation accuracy, % (below: diverged)")
    legend(axes, loc="lower left")


def draw_sensitivity(sensitivity: dict[str, Any], path: pathlib.Path) -> None:
    """Mean test error over eta_0 and mu, one panel a beta; the best cell is outlined."""
    figure = Figure(figsize=(5.4 * len(sensitivity["betas"]), 4.4), dpi=140, layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(sensitivity["betas"])))
    errors = 100 * (1 - known(sensitivity["test_accuracy"]))
    lowest, highest = (
        float(fold(errors[np.isfinite(errors)], initial=50.0)) for fold in (np.min, np.max)
    )
    for axes, beta, error in zip(panels, sensitivity["betas"], errors, strict=True):
        image = axes.imshow(error, cmap="Greys", vmin=lowest, vmax=min(highest, lowest + 15))
        for (row, column), value in np.ndenumerate(error):
            color = "white" if value > lowest + 8 else "black"
            shown = f"{value:.1f}" if np.isfinite(value) else UNKNOWN
            axes.text(column, row, shown, ha="center", va="center", color=color, fontsize=8)
        if np.isfinite(error).any():
            row, column = np.unravel_index(np.nanargmin(error), error.shape)
            axes.plot(
                column,
                row,
                marker="s",
                markersize=28,
                fillstyle="none",
                color="#D55E00",
                markeredgewidth=2,
            )
        axes.set_xticks(range(len(sensitivity["mus"])), [f"{mu:g}" for mu in sensitivity["mus"]])
        axes.set_yticks(
            range(len(sensitivity["first_rates"])),
            [f"{rate:g}" for rate in sensitivity["first_rates"]],
        )
        axes.set(title=f"Test error, %, beta = {beta:g}", xlabel="mu", ylabel="first rate")
    figure.colorbar(image, ax=panels.tolist(), extend="max")
    save(figure, path)


def _smooth(rates: np.ndarray, width: int = 8) -> np.ndarray:
    """Running mean: the single rates of LRS-OPT carry the noise of its minibatches."""
    width = min(width, len(rates))
    return np.convolve(known(rates), np.ones(width) / width, mode="valid")
