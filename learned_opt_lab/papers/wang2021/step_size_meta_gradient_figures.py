"""The figures of `learned_opt_lab/papers/wang2021/step_size_meta_gradient.py`."""

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from learned_opt_lab.drawing.axes import known, legend_outside, log_scale, positive, set_limits
from learned_opt_lab.drawing.colors import (
    BLUE,
    GREY,
    ORANGE,
    RED,
)

_MAP = matplotlib.colormaps["viridis"]
_FIRST_META_STEPS = 120


def gradient_figure(
    edge: float,
    step_sizes: np.ndarray,
    rows: Mapping[int, Any],
    log_naive: Mapping[int, np.ndarray],
) -> Figure:
    """|F'|, |G'| and G' by backpropagation over the step size.

    The first panel's axis is linear between -10 and 10 and logarithmic beyond, so that F' is seen
    to vanish below 2 / L as it is seen to explode above. There and in the second panel a shade is a
    number of steps, the darker the longer; in the third a colour is a way to compute.

    Args:
      edge: 2 / L.
      step_sizes: eta, `[step sizes]`.
      rows: t -> `closed`, `backprop32` and `backprop64`, `[step sizes]`.
      log_naive: t -> log10 |F'|, `[step sizes]`; every t of `rows` and longer ones.
    """
    figure = Figure(figsize=(13, 5), dpi=150, layout="constrained")
    naive, log, back = figure.subplots(1, 3)
    shades = dict(zip(log_naive, _MAP(np.linspace(0.9, 0, len(log_naive))), strict=True))
    for num_steps, values in log_naive.items():
        style = {"color": shades[num_steps], "label": f"t = {num_steps}"}
        naive.semilogx(step_sizes, known(values), **style)
        if num_steps in rows:
            log.loglog(step_sizes, positive(np.abs(rows[num_steps].closed)), **style)
    naive.set_yscale("symlog", linthresh=10)
    naive.axhspan(-38, 38, color=GREY, alpha=0.15, label="range of float32")
    naive.set_title("log10 |F'|: explodes above 2 / L, vanishes below", fontsize=9)
    log.set_title("|G'|: neither explodes nor vanishes", fontsize=9)
    _draw_backpropagation(back, step_sizes, rows)
    for axes in (naive, log, back):
        axes.axvline(edge, color=GREY, linestyle=":", linewidth=1)
        axes.set_xlabel("step size eta (dotted: 2 / L)")
    handles, labels = naive.get_legend_handles_labels()
    legend_outside(figure, handles, labels, loc="outside lower left", ncols=4, fontsize=8)
    handles, labels = back.get_legend_handles_labels()
    legend_outside(figure, handles, labels, loc="outside lower right", ncols=3, fontsize=8)
    return figure


def _draw_backpropagation(axes: Axes, step_sizes: np.ndarray, rows: Mapping[int, Any]) -> None:
    num_steps = list(rows)[min(1, len(rows) - 1)]
    row, size = rows[num_steps], lambda slopes: positive(np.abs(slopes))
    wide = {"color": GREY, "linewidth": 5, "alpha": 0.5, "label": "closed form (and stable)"}
    axes.loglog(step_sizes, size(row.closed), **wide)
    axes.loglog(step_sizes, size(row.backprop64), color=BLUE, lw=2, label="backprop, 64 bit")
    axes.loglog(step_sizes, size(row.backprop32), "--", color=RED, label="backprop, 32 bit")
    axes.set_title(f"|G'| at t = {num_steps}: lines end where backprop gives nan", fontsize=9)


def descent_figure(paths: Mapping[str, np.ndarray], best: float) -> Figure:
    """Step sizes along the meta-descent on each objective; `best` is where the loss is least.

    The first panel has the meta-steps in which the descent of G jumps about the best step size, the
    second its distance over all of them.
    """
    figure = Figure(figsize=(11, 4.6), dpi=150, layout="constrained")
    first, distance = figure.subplots(1, 2)
    styles = ((BLUE, "."), (RED, "X"), (ORANGE, "s"))
    for (name, path), (color, marker) in zip(paths.items(), styles, strict=True):
        lost = int(np.argmin(np.isfinite(path)))
        ending = f"{path[-1]:.5f}" if np.isfinite(path[-1]) else f"nan after {lost} meta-steps"
        shown = known(path[: _FIRST_META_STEPS + 1])
        # The cross lies on the square where both have their only points.
        point = {"markersize": 5, "zorder": 4 if marker == "X" else 3}
        first.plot(shown, marker, color=color, label=f"{name}: {ending}", **point)
        first.plot(shown, color=color, linewidth=0.5, alpha=0.6)
    best_label = {"label": f"best: {best:.5f}"} if np.isfinite(best) else {}
    first.axhline(float(known(best)), color=GREY, linestyle=":", **best_label)
    first.set_yscale("symlog", linthresh=0.1)
    set_limits(first, "y", -0.005, 1.0)
    first.set_title(f"the first {_FIRST_META_STEPS} meta-steps; eta is cut at 0", fontsize=10)
    first.set(xlabel="meta-step", ylabel="step size eta (linear up to 0.1)")
    stable = next(iter(paths.values()))
    meta_steps = np.arange(1, len(stable))
    distance.plot(meta_steps, positive(np.abs(stable[1:] / best - 1)), color=BLUE, linewidth=0.8)
    log_scale(distance, "x", meta_steps)
    log_scale(distance, "y", distance.lines[0].get_ydata())
    distance.set_title("descent of G by the stable derivative", fontsize=10)
    distance.set(xlabel="meta-step", ylabel="|eta / best - 1|")
    handles, labels = first.get_legend_handles_labels()
    legend_outside(figure, handles, labels, ncols=2)
    return figure
