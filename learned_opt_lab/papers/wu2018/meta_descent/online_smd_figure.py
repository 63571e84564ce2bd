"""The figure of `learned_opt_lab/papers/wu2018/meta_descent/online_smd.py`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from learned_opt_lab.drawing.axes import known, legend, log_scale, set_limits
from learned_opt_lab.drawing.colors import (
    BLUE,
    ORANGE,
    RED,
)
from learned_opt_lab.drawing.text import figure_label


def online_figure(config: Any, curves: Mapping[str, Any], title: str) -> Figure:
    """Training loss, effective rate and momentum over both phases, one line a run.

    Args:
      config: an `online_smd.Config` with its sizes filled in.
      curves: `online_smd.Curves` of `fixed`, `smd` and `same batch`.
      title: above each panel.
    """
    figure = Figure(figsize=(13, 4), dpi=150, layout="constrained")
    loss_axes, rate_axes, momentum_axes = figure.subplots(1, 3)
    steps = np.arange(1, 2 * config.num_records + 1) * config.num_steps / config.num_records
    styles = {
        "fixed": (RED, "best fixed rate"),
        "smd": (BLUE, "SMD"),
        "same batch": (ORANGE, "SMD, one batch repeated"),
    }
    for mode, (color, label) in styles.items():
        effective = curves[mode].rate / np.maximum(1 - curves[mode].momentum, 1e-8)
        for axes, values in (
            (loss_axes, curves[mode].loss),
            (rate_axes, effective),
            (momentum_axes, curves[mode].momentum),
        ):
            for i, run in enumerate(values):
                axes.plot(
                    steps, known(run), color=color, linewidth=1.3, label=label if i == 0 else None
                )
    losses = np.concatenate([known(each.loss).ravel() for each in curves.values()])
    losses, fixed = losses[np.isfinite(losses)], known(curves["fixed"].loss)
    for axes in (loss_axes, rate_axes):
        log_scale(axes, "y", *(line.get_ydata() for line in axes.lines))
    low = 0.5 * losses.min() if losses.size else None
    set_limits(loss_axes, "y", low, 10 * np.nanmax(fixed) if np.isfinite(fixed).any() else None)
    names = ("training loss", "effective rate alpha / (1 - mu)", "momentum")
    for axes, name in zip((loss_axes, rate_axes, momentum_axes), names, strict=True):
        axes.axvline(config.num_steps, color="0.6", linestyle=":")
        axes.set_xlabel("step (dotted: adaptation ends, decay begins)")
        axes.set_title(f"{figure_label(title, limit=60)}: {name}", fontsize=9)
    legend(loss_axes, frameon=True)
    return figure
