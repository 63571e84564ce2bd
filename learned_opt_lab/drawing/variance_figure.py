"""The figure of `learned-opt variance`:
what an estimator's gradient is worth, over truncation lengths.
"""

import itertools
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from configs import base
from learned_opt_lab.drawing.axes import known, legend, log_scale, positive
from learned_opt_lab.drawing.colors import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
)
from learned_opt_lab.drawing.text import figure_label
from learned_opt_lab.drawing.training_figures import tidy

_COLORS = (ORANGE, RED, BLACK, BLUE, SKY, PURPLE, GREEN, GREY)
"""Of the kinds of estimators, in their order."""


def variance_figure(result: dict[str, Any]) -> Figure:
    """Variance, norm and cosine over truncation lengths, a line an estimator.

    Args:
      result: with `rows` (`estimator`, `num_steps`, `variance`, `norm`, `cosine`; None for what is
        not finite) and `reference` (`norm`, `reliability`).
    """
    figure = Figure(figsize=(12, 4.0), dpi=150, layout="constrained")
    panels = figure.subplots(1, 3)
    names = dict.fromkeys(row["estimator"] for row in result["rows"])
    colors = dict(zip(base.kinds_of(base.Estimator), itertools.cycle(_COLORS), strict=False))
    for axes, column in zip(panels, ("variance", "norm", "cosine"), strict=True):
        for name in names:
            rows = [
                row
                for row in result["rows"]
                if row["estimator"] == name and row[column] is not None
            ]
            values = (known if column == "cosine" else positive)([row[column] for row in rows])
            kept = np.isfinite(values)
            lengths, label = (
                np.array([row["num_steps"] for row in rows], float)[kept],
                figure_label(name.replace("_", " ")),
            )
            axes.plot(
                lengths,
                values[kept],
                marker="o",
                markersize=4,
                color=colors.get(name, BLACK),
                label=label,
            )
        log_scale(axes, "x", *(line.get_xdata() for line in axes.lines))
        axes.set_xlabel("truncation length (inner steps)")
        tidy(axes)
    variance, norm, cosine = panels
    for axes in (variance, norm):
        log_scale(axes, "y", *(line.get_ydata() for line in axes.lines))
    variance.set_title("variance of one estimate, per outer parameter")
    norm.set_title("norm of the mean estimate")
    cosine.set(ylim=(-1.05, 1.05), title="cosine of the mean to the reference")
    reference = float(positive(result["reference"]["norm"]))
    if np.isfinite(reference):
        norm.axhline(reference, color=GREY, linestyle=":", linewidth=1, label="reference")
    cosine.axhline(0, color=GREY, linewidth=0.8)
    legend(norm, fontsize=7)
    return figure
