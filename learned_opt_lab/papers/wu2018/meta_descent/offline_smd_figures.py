"""The figures of `learned_opt_lab/papers/wu2018/meta_descent/offline_smd.py`."""

import numpy as np
from matplotlib.figure import Figure

from learned_opt_lab.drawing.axes import known, legend_outside, log_scale, positive
from learned_opt_lab.drawing.colors import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    RED,
)

COLORS = (BLUE, GREEN, ORANGE, RED, PURPLE)


def surface_figure(horizons, rates, exponents, surface, paths) -> Figure:
    """Fig 5: the meta-objective of each horizon over log10 of exponent and rate,
    with SMD's paths.
    """
    columns = len(horizons)
    figure = Figure(figsize=(3.6 * columns, 3.8), dpi=150, layout="constrained")
    shape = (len(rates), len(exponents))
    all_axes = np.atleast_1d(figure.subplots(1, columns, sharey=True))
    for axes, horizon, losses in zip(all_axes, horizons, surface, strict=True):
        losses = np.fmin(positive(losses), 3)
        shown = np.log10(losses).reshape(shape)
        mesh = axes.pcolormesh(exponents, rates, shown, cmap="viridis", shading="nearest")
        figure.colorbar(mesh, ax=axes, label="log10 training loss", shrink=0.8)
        # A loss of nan is worse than every other one; fmin has made it 3.
        best = np.unravel_index(np.argmin(losses), shape)
        if horizon in paths:
            _draw_path(axes, paths[horizon])
        axes.plot(
            exponents[best[1]],
            rates[best[0]],
            "*",
            color="white",
            markeredgecolor="black",
            markersize=14,
        )
        axes.set_title(
            f"horizon {horizon}: best exponent {10 ** exponents[best[1]]:.2g}", fontsize=10
        )
        axes.set_xlabel("log10 decay exponent")
        axes.set_xlim(exponents[0], exponents[-1])
        axes.set_ylim(rates[0], rates[-1])
    all_axes[0].set_ylabel("log10 initial rate")
    figure.suptitle(
        "Stochastic meta-descent from dots to crosses; star: the surface's minimum", fontsize=11
    )
    return figure


def _draw_path(axes, path) -> None:
    """From a dot to a cross."""
    axes.plot(path.exponent, path.rate, color=RED, linewidth=1)
    axes.plot(path.exponent[0], path.rate[0], "o", color=RED, markersize=3)
    cross = {"color": "white", "markeredgecolor": RED, "markersize": 6}
    axes.plot(path.exponent[-1], path.rate[-1], "X", **cross)


def curve_figure(chosen, stops, curves, errors) -> Figure:
    """Fig 6: training curves and test error under each horizon's choice."""
    figure = Figure(figsize=(11, 4.6), dpi=150, layout="constrained")
    loss, error = figure.subplots(1, 2)
    for row, curve, wrong, color in zip(chosen, curves, errors, COLORS, strict=False):
        label = f"chosen at {row['num_steps']} steps: exponent {row['decay_exponent']:.2g}"
        loss.plot(stops, known(curve), color=color, label=label)
        error.plot(stops, known(100 * wrong), color=color)
        for axes in (loss, error):
            axes.axvline(row["num_steps"], color=color, linestyle=":", linewidth=0.8)
    log_scale(loss, "y", *curves)
    for axes in (loss, error):
        log_scale(axes, "x", stops)
        axes.set_xlabel("step after the warm start (dotted: the horizon)")
    loss.set_title("training loss", fontsize=10)
    error.set_title("test error, %", fontsize=10)
    # Below the panels, where it covers no curve.
    legend_outside(figure, *loss.get_legend_handles_labels(), ncols=2)
    return figure
