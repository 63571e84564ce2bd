"""The six panels of Fig 2 of Metz et al. 2019 (arXiv 1810.10180), and two for its appendix B."""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from learned_opt_lab.drawing.axes import known, legend
from learned_opt_lab.drawing.colors import BLACK, RED
from learned_opt_lab.drawing.text import format_number
from learned_opt_lab.drawing.training_figures import tidy
from learned_opt_lab.papers.metz2019.double_well import START
from learned_opt_lab.papers.metz2019.learned_slices import Slices
from tasks.analytic import double_well_loss

_MAP = matplotlib.colormaps["viridis"]


def landscape_figure(
    config: Any, well: dict[str, Any], paths: np.ndarray, slices: Slices
) -> Figure:
    """Draws all panels.

    Args:
      config: of the experiment, for sizes.
      well: `momenta`, `paths`, `final_losses` of the double well.
      paths: projected trajectories `[rates, steps + 1, 2]`.
      slices: through the learned optimizer's theta.
    """
    figure = Figure(figsize=(14, 8.4), dpi=150, layout="constrained")
    top, bottom = figure.subfigures(2, 1)
    a, b, c = top.subplots(1, 3)
    _surface(a)
    _positions(b, well, top)
    _final_losses(c, well)
    left, right = bottom.subfigures(1, 2, width_ratios=(2, 1.6))
    d, e = left.subplots(1, 2)
    _adam(d, config, paths)
    _line(e, slices)
    _squares(right, slices)
    for axes in (a, b, c, d, e):
        tidy(axes)
    return figure


def rate_figure(momentum: float, well: dict[str, Any]) -> Figure:
    """Positions and final losses over the learning rate, as panels b and c over the momentum.

    Args:
      momentum: of all paths.
      well: `rates`, `paths`, `final_losses`.
    """
    figure = Figure(figsize=(10, 4.2), dpi=150, layout="constrained")
    position, loss = figure.subplots(1, 2)
    rates, scale = well["rates"], LogNorm(well["rates"][0], well["rates"][-1])
    for i in np.linspace(0, len(rates) - 1, 45).astype(int):
        position.plot(known(well["paths"][i, :200]), color=_MAP(1 - scale(rates[i])), linewidth=0.7)
    position.set(xlabel="steps T", ylabel="w after T steps", title="(a) one line a learning rate")
    mappable = matplotlib.cm.ScalarMappable(scale, _MAP.reversed())
    figure.colorbar(mappable, ax=position, label="learning rate", shrink=0.8)
    _lengths(loss, rates, well["final_losses"])
    loss.set(xlabel="learning rate", ylabel="final loss", xscale="log")
    loss.set_title(f"(b) outer loss, momentum {format_number(momentum)}")
    legend(loss, fontsize=8, loc="upper left")
    for axes in (position, loss):
        tidy(axes)
    return figure


def _surface(axes: Axes) -> None:
    w = np.linspace(-1.4, 4.3, 300)
    axes.plot(w, double_well_loss(w), color=BLACK)
    axes.plot(START, double_well_loss(START), "*", color=RED, markersize=12, label="start")
    axes.set(xlabel="w", ylabel="inner loss", title="(a) (w - 4)(w - 3) w^2", ylim=(-5, 35))
    legend(axes, fontsize=10)


def _positions(axes: Axes, well: dict, figure) -> None:
    momenta, scale = well["momenta"], Normalize(0, 1)
    for i in np.linspace(0, len(momenta) - 1, 45).astype(int):
        axes.plot(well["paths"][i, :200], color=_MAP(1 - scale(momenta[i])), linewidth=0.7)
    axes.set(
        xlabel="steps T", ylabel="w after T steps", title="(b) one line a momentum", ylim=(-2, 5)
    )
    mappable = matplotlib.cm.ScalarMappable(scale, _MAP.reversed())
    figure.colorbar(mappable, ax=axes, label="momentum", shrink=0.8)


def _lengths(axes: Axes, x: np.ndarray, final_losses: dict[int, np.ndarray]) -> None:
    """One line a length, the darker the longer."""
    shades = np.linspace(0.85, 0, len(final_losses))
    for (length, losses), shade in zip(final_losses.items(), shades, strict=True):
        axes.plot(x, known(losses), color=_MAP(shade), linewidth=1, label=f"T = {length}")


def _final_losses(axes: Axes, well: dict) -> None:
    _lengths(axes, well["momenta"], well["final_losses"])
    axes.set(xlabel="momentum theta", ylabel="final loss", title="(c) outer loss", ylim=(-4, 12))
    legend(axes, fontsize=7)


def _adam(axes: Axes, config: Any, paths: np.ndarray) -> None:
    for path, shade in zip(paths, np.linspace(0, 1, len(paths)), strict=True):
        path = known(path)
        axes.plot(path[:, 0], path[:, 1], color=_MAP(shade), linewidth=0.6)
        axes.plot(*path[-1], ".", color=_MAP(shade), markersize=4)
    low, high = config.rates
    axes.set_title(
        f"(d) MLP, {config.num_adam_steps} steps of Adam,\nrates {low} to {high}", fontsize=10
    )
    axes.set(xlabel="random projection 1", ylabel="random projection 2")


def _line(axes: Axes, slices: Slices) -> None:
    for (n, losses), shade in zip(
        slices.line.items(), np.linspace(0.85, 0, len(slices.line)), strict=True
    ):
        axes.plot(
            slices.offsets, known(losses), color=_MAP(shade), linewidth=1, label=f"{n} unrolls"
        )
    axes.set_title("(e) learned optimizer, along\nthe outer gradient", fontsize=10)
    axes.set(xlabel="offset / |theta|", ylabel="mean validation loss")
    legend(axes, fontsize=7)


def _squares(figure, slices: Slices) -> None:
    panels = figure.subplots(1, len(slices.square), sharey=True, squeeze=False)[0]
    limit = slices.sides[-1]
    for axes, (n, losses) in zip(panels, slices.square.items(), strict=True):
        box = (-limit, limit, -limit, limit)
        # Where training diverges the loss is the clip value:
        # it must not take up the whole range of greys.
        losses = known(losses)
        some = losses[np.isfinite(losses)]
        low, high = np.percentile(some, (0, 80)) if some.size else (0.0, 1.0)
        axes.imshow(losses.T, origin="lower", extent=box, cmap="gray", vmin=low, vmax=high)
        axes.set_title(f"(f) {n} unrolls", fontsize=10)
        axes.set_xlabel("along gradient")
    panels[0].set_ylabel("random direction")
