"""The figures of `learned_opt_lab/papers/wang2021/step_size_meta_gradient.py`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from learned_opt_lab.drawing.axes import known, legend, positive, set_limits
from learned_opt_lab.drawing.colors import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    RED,
)


def gradient_figure(
    edge: float, step_sizes: np.ndarray, horizons: Sequence[int], rows: Sequence[Any]
) -> Figure:
    """|F'|, |G'| and G' by backpropagation over the step size.

    Args:
      edge: 2 / L.
      step_sizes: eta, `[step sizes]`.
      horizons: t of each row.
      rows: each with `closed`, `log_naive`, `backprop32` and `backprop64`, `[step sizes]`.
    """
    figure = Figure(figsize=(13, 4.4), dpi=150, layout="constrained")
    naive, log, back = figure.subplots(1, 3)
    for num_steps, row, color in zip(horizons, rows, (ORANGE, RED, BLUE, BLACK), strict=False):
        naive.semilogx(
            step_sizes,
            np.clip(row.log_naive / math.log(10), -400, 1000),
            color=color,
            label=f"t = {num_steps}",
        )
        log.loglog(step_sizes, positive(np.abs(row.closed)), color=color, label=f"t = {num_steps}")
    row = rows[min(1, len(rows) - 1)]
    back.loglog(
        step_sizes,
        positive(np.abs(row.closed)),
        color=GREY,
        linewidth=5,
        alpha=0.5,
        label="closed form (and stable)",
    )
    back.loglog(
        step_sizes, _shown(row.backprop64), color=BLUE, linewidth=2, label="backprop, 64 bit"
    )
    back.loglog(
        step_sizes, _shown(row.backprop32), color=RED, linestyle="--", label="backprop, 32 bit"
    )
    naive.axhspan(-38, 38, color=GREY, alpha=0.15, label="range of float32")
    naive.set_title("log10 |F'|: exponential in t on both sides of 2 / L", fontsize=9)
    log.set_title("|G'|: neither explodes nor vanishes", fontsize=9)
    back.set_title(
        f"|G'| at t = {horizons[min(1, len(rows) - 1)]}: lines end where backprop gives nan",
        fontsize=9,
    )
    for axes in (naive, log, back):
        axes.axvline(edge, color=GREY, linestyle=":", linewidth=1)
        axes.set_xlabel("step size eta (dotted: 2 / L)")
        legend(axes, fontsize=7, frameon=True)
    return figure


def _shown(slopes):
    return positive(np.abs(slopes))


def descent_figure(paths: Mapping[str, np.ndarray], best: float) -> Figure:
    """Step sizes along the meta-descent on each objective; `best` is where the loss is least."""
    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    styles = ((BLUE, "-"), (RED, "x"), (ORANGE, "--"))
    for (name, path), (color, marker) in zip(paths.items(), styles, strict=True):
        lost = int(np.argmin(np.isfinite(path)))
        ending = f"{path[-1]:.5f}" if np.isfinite(path[-1]) else f"nan after {lost} meta-steps"
        axes.plot(np.arange(len(path)), known(path), marker, color=color, label=f"{name}: {ending}")
    axes.set_xlim(left=-0.2)
    set_limits(axes, "y", -0.005, 1.2 * paths["log, stable"][0])
    axes.axhline(
        float(known(best)),
        color=GREY,
        linestyle=":",
        label=f"best: {best:.5f}" if np.isfinite(best) else None,
    )
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlabel("meta-step")
    axes.set_ylabel("step size eta")
    legend(axes, frameon=True)
    return figure
