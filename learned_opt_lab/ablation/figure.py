"""The figures of `learned-opt ablate`:
curves of outer loss by group of variants with final losses, and variances along outer-training.
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from learned_opt_lab.ablation.variants import BASE
from learned_opt_lab.drawing.axes import known, legend, log_scale
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
from learned_opt_lab.drawing.text import UNKNOWN, figure_label
from learned_opt_lab.drawing.training_figures import tidy

PANELS = {
    "estimator": ("estimator",),
    "truncation": ("truncation",),
    "inputs and objective": ("inputs", "objective"),
    "families": ("families",),
    "own": ("own",),
}
"""Title -> groups of variants."""
_COLORS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)


def ablation_figure(result: dict[str, Any]) -> Figure:
    """Three panels of curves, mean and range of the seeds, then the final losses.

    Args:
      result: the content of `ablation.json`.
    """
    rows = {row["variant"]: row for row in result["variants"]}
    base = next((name for name, row in rows.items() if row["group"] == BASE), None)
    panels = {
        title: [name for name, row in rows.items() if row["group"] in groups]
        for title, groups in PANELS.items()
    }
    panels = {title: members for title, members in panels.items() if members} or {
        "outer loss": list(rows)
    }
    figure = Figure(figsize=(4.2 * len(panels) + 5.2, 4.4), dpi=150, layout="constrained")
    axes = figure.subplots(1, len(panels) + 1, width_ratios=[1] * len(panels) + [0.9])
    colors = {}
    for each, (title, members) in zip(axes[:-1], panels.items(), strict=True):
        for name, color in zip(members, _COLORS * 3, strict=False):
            colors[name] = color
            _draw_curve(each, rows[name], color, 1.6)
        if base is not None and base not in members:
            _draw_curve(each, rows[base], BLACK, 2.4)
        each.set(title=title, xlabel="inner steps of outer-training")
        log_scale(each, "y", *(line.get_ydata() for line in each.lines))
        each.xaxis.set_major_formatter(EngFormatter(sep=""))
        each.xaxis.set_major_locator(MaxNLocator(4))
        legend(each)
        tidy(each)
    axes[0].set_ylabel("outer loss of an episode")
    _draw_finals(axes[-1], result, {base: BLACK} | colors)
    if result["findings"]:
        figure.suptitle(
            figure_label(result["findings"][0], limit=200), fontsize=10, x=0.01, ha="left"
        )
    return figure


def _draw_curve(axes: Axes, row: dict[str, Any], color: str, width: float) -> None:
    steps, losses = known(row["curve"]["inner_steps"]), known(row["curve"]["outer_loss"])
    axes.fill_between(
        steps, losses.min(axis=0), losses.max(axis=0), color=color, alpha=0.13, linewidth=0
    )
    marker = "o" if len(steps) == 1 else None
    axes.plot(
        steps,
        losses.mean(axis=0),
        color=color,
        linewidth=width,
        marker=marker,
        label=figure_label(row["label"]),
    )


def _draw_finals(axes: Axes, result: dict[str, Any], colors: dict[str, str]) -> None:
    rows = result["variants"][::-1]
    for place, row in enumerate(rows):
        loss, color = row["outer_loss"], colors.get(row["variant"], GREY)
        low, middle, high = known([loss["low"], loss["estimate"], loss["high"]])
        axes.plot([low, high], [place, place], color=color, linewidth=5, alpha=0.35)
        seeds = known(row["outer_loss_of_seeds"])
        axes.plot(seeds, [place] * len(seeds), "|", color=color, markersize=9)
        axes.plot(middle, place, "o", color=color, markersize=5)
    names = [
        figure_label(row["label"])
        + (" *" if row["within_noise_of_best"] else "")
        + (f" {UNKNOWN}" if np.isnan(known(row["outer_loss"]["estimate"])) else "")
        for row in rows
    ]
    axes.set_yticks(range(len(rows)), names, fontsize=8)
    axes.set(
        title="final outer loss; * within noise of best",
        xlabel="dot: mean, bar: 95 %, ticks: seeds",
    )
    tidy(axes)


def along_figure(result: dict[str, Any]) -> Figure | None:
    """Variances along outer-training of the variants that know both, and the weight of RP; None
    without one.

    Args:
      result: the content of `ablation.json`.
    """
    rows = [row for row in result["variants"] if "variance_ratio" in (row["along"] or {})]
    if not rows:
        return None
    figure = Figure(figsize=(9.6, 4.2), dpi=150, layout="constrained")
    ratio, weight = figure.subplots(1, 2)
    for row, color in zip(rows, _COLORS * len(rows), strict=False):
        color = BLACK if row["group"] == BASE else color
        along = {name: known(values) for name, values in row["along"].items()}
        style = {"color": color, "marker": ".", "label": figure_label(row["label"])}
        ratio.plot(along["truncation_length"], along["variance_ratio"], **style)
        if "weight_reparameterization" in along:
            weight.plot(along["truncation_length"], along["weight_reparameterization"], **style)
    ratio.axhline(1, color=GREY, linewidth=0.8)
    log_scale(ratio, "y", *(line.get_ydata() for line in ratio.lines))
    ratio.set(title="variance of RP over variance of ES", xlabel="truncation, inner steps")
    weight.set(title="weight of RP in the merge", xlabel="truncation, inner steps", ylim=(0, 1.02))
    legend(ratio)
    for axes in (ratio, weight):
        tidy(axes)
    return figure
