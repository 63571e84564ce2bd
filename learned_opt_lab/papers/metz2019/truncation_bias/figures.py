"""Figures of `truncation_bias`: where truncated gradients vanish,
and where they lead outer-training.
"""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from learned_opt_lab.drawing.axes import known, legend, legend_outside, log_scale
from learned_opt_lab.drawing.colors import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
)
from learned_opt_lab.drawing.text import format_number
from learned_opt_lab.drawing.training_figures import running_median, tidy
from learned_opt_lab.papers.metz2019.truncation_bias.adam_truncation import AdamRuns

NUM_AVERAGED = 8
"""Episodes' worth of truncations in a point of the outer loss."""


def quadratic_figure(
    config: Any, curves: tuple[np.ndarray, np.ndarray], best_rates: list[float]
) -> Figure:
    """Truncated gradients over the rate, `[truncations, rates]`, scaled to their largest size;
    zeros are marked.
    """
    rates, gradients = curves
    figure = Figure(figsize=(7, 4.4), dpi=150, layout="constrained")
    axes = figure.subplots()
    for k, gradient, best, color in zip(
        config.quadratic_truncations, gradients, best_rates, _colors(len(best_rates)), strict=True
    ):
        # Scaled so that it starts at 1; a gradient of zero there has no such scale.
        scaled = known(gradient) / (abs(gradient[0]) or np.nan)
        axes.plot(
            rates, scaled, color=color, label=f"truncation {k}: zero at {format_number(best)}"
        )
        axes.plot(known(best), 0, "o", color=color)
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set(xlabel="learning rate x h_max", ylabel="truncated gradient (scaled)", ylim=(-1.1, 1.1))
    axes.set_title(
        "Noisy quadratic: the shorter the truncation, the smaller the rate it favours", fontsize=10
    )
    legend(axes, fontsize=10)
    tidy(axes)
    return figure


def adam_figure(config: Any, runs: AdamRuns, numbers: dict) -> Figure:
    """Fig 3's panels: outer loss and learning rate over outer-training,
    gradients over inner training.
    """
    figure = Figure(figsize=(14, 4.3), dpi=150, layout="constrained")
    loss, rate, windows = figure.subplots(1, 3)
    for k, path, row, color in zip(
        config.truncations, runs.paths, runs.windows, _colors(len(config.truncations)), strict=True
    ):
        episodes = (np.arange(len(path)) + 1) * k / config.num_steps
        thin = slice(None, None, max(1, len(path) // 2000))
        # Over whole episodes: within one, the loss of a short truncation falls by far more.
        window = min(NUM_AVERAGED * config.num_steps // k, len(path))
        smooth = np.convolve(known(path[:, 0]), np.full(window, 1 / window), mode="valid")
        loss.plot(episodes[window - 1 :], smooth, color=color, label=f"truncation {k}")
        rate.plot(
            episodes[thin], known(np.exp(path[thin, 2])), color=color, label=f"truncation {k}"
        )
        middles = (np.arange(len(row)) + 0.5) * k
        row = known(row)
        size = np.nanmax(np.abs(row), initial=0.0) or 1.0
        shown = row if len(row) < 40 else running_median(row, len(row) // 20)
        windows.plot(
            middles, shown / size, "o-" if len(row) < 40 else "-", markersize=3, color=color
        )
    _mark_rates(rate, config, numbers)
    log_scale(rate, "y", *(line.get_ydata() for line in rate.lines))
    _name_axes(loss, rate, windows)
    windows.set_yscale("symlog", linthresh=0.01)
    windows.axhline(0, color=GREY, linewidth=0.8)
    legend(windows, of=rate, fontsize=7, loc=(0.55, 0.18))
    for axes in (loss, rate, windows):
        tidy(axes)
    return figure


def outer_optimizers_figure(
    config: Any, paths: dict[str, list[np.ndarray]], numbers: dict
) -> Figure:
    """The learning rate over outer-training, one panel an outer-optimizer and one line a
    truncation, coloured as in `adam_figure`.

    Args:
      config: of the experiment.
      paths: outer-optimizer -> for each truncation `[outer steps, 3]`.
      numbers: the result's part on Adam.
    """
    figure = Figure(figsize=(3.6 * len(paths), 3.8), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(paths), sharey=True, squeeze=False)[0]
    colors = _colors(len(config.truncations))
    for axes, (name, runs) in zip(panels, paths.items(), strict=True):
        for k, path, color in zip(config.truncations, runs, colors, strict=True):
            episodes = (np.arange(len(path)) + 1) * k / config.num_steps
            axes.plot(episodes, known(np.exp(path[:, 2])), color=color, label=f"truncation {k}")
        _mark_rates(axes, config, numbers)
        axes.set(title=name, xlabel="episodes' worth of inner steps")
        tidy(axes)
    log_scale(panels[0], "y", *(line.get_ydata() for axes in panels for line in axes.lines))
    panels[0].set_ylabel("Adam's learning rate")
    legend_outside(figure, *panels[0].get_legend_handles_labels(), ncols=8)
    return figure


def _mark_rates(axes, config: Any, numbers: dict) -> None:
    axes.axhline(config.learning_rate, color=GREY, linestyle="--", linewidth=1, label="start")
    best = known(numbers["best_rate"])
    axes.axhline(best, color=BLACK, linestyle=":", linewidth=1, label="best of the grid")


def _name_axes(loss, rate, windows) -> None:
    steps = "episodes' worth of inner steps"
    loss.set(xlabel=steps, ylabel="outer loss", title=f"(a) loss, mean of {NUM_AVERAGED} episodes")
    rate.set(xlabel=steps, ylabel="Adam's learning rate", title="(b) learning rate")
    windows.set(
        xlabel="inner step",
        ylabel="gradient (scaled)",
        title="(c) gradient per truncation, initial rate",
    )


def _colors(count: int) -> list:
    named = [RED, ORANGE, GREEN, BLUE]
    return (
        named[-count:]
        if count <= 4
        else list(matplotlib.colormaps["viridis"](np.linspace(0, 0.9, count)))
    )
