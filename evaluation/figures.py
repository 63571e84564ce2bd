"""Figures of a training run, drawn from the files in its directory: nothing here needs the run itself.

Matplotlib objects are made directly (Agg canvas): no pyplot, so no global state and no display. Lines carry their
names; colours are Okabe and Ito's, which colour-blind readers tell apart, and each name keeps its colour everywhere.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from numpy.typing import NDArray

BLACK, BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    "#000000",
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#7F7F7F",
)
_STYLES = {
    "learned": {"color": BLUE, "linewidth": 2.5, "zorder": 4},
    "adam_tuned": {"color": BLACK, "linewidth": 1.8, "linestyle": "--", "zorder": 3},
    "adam_1e-3": {"color": ORANGE, "linewidth": 1.5, "zorder": 2},
    "untrained": {"color": GREY, "linewidth": 1.5, "linestyle": ":", "zorder": 1},
}
_LABELS = {
    "learned": "learned",
    "adam_tuned": "Adam, tuned for each task",
    "adam_1e-3": "Adam, rate 1e-3",
    "untrained": "untrained",
}


def training_figures(run_dir: str | Path) -> list[Path]:
    """Draws what `run_dir` has data for into `run_dir/figures`; returns the PNGs written.

    Reads `metrics.jsonl` (`outer_step`, `outer_loss`, `inner_steps` (cumulative), `truncation_length` and, when
    estimators are merged, `weight_reparameterization`) and `heldout_curves.npz` (optimizer -> `[tasks, steps]`).

    Raises:
      ValueError: when there is neither.
    """
    run_dir = Path(run_dir)
    rows = _read_rows(run_dir / "metrics.jsonl")
    figures = {}
    if rows:
        figures["outer_loss"] = outer_loss_figure(rows)
        merged = [row for row in rows if row.get("weight_reparameterization") is not None]
        if merged:
            figures["merge_weights"] = merge_weight_figure(merged)
    if (run_dir / "heldout_curves.npz").exists():
        with np.load(run_dir / "heldout_curves.npz", allow_pickle=False) as curves:
            figures["heldout"] = held_out_figure({name: curves[name] for name in curves.files})
    if not figures:
        raise ValueError(f"{run_dir} holds neither metrics.jsonl nor heldout_curves.npz: nothing to draw")
    return [save(figure, run_dir / "figures" / f"{name}.png") for name, figure in figures.items()]


def save(figure: Figure, path: Path) -> Path:
    """Writes a PNG, making the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(str(path))
    return path


def outer_loss_figure(rows: list[dict]) -> Figure:
    """Outer loss over outer steps and over inner steps; thin: each truncation, bold: running median."""
    figure = Figure(figsize=(9, 3.6), dpi=150, layout="constrained")
    by_outer, by_inner = figure.subplots(1, 2, sharey=True)
    loss = np.array([_number(row["outer_loss"]) for row in rows])
    for axes, field, label in (
        (by_outer, "outer_step", "outer step"),
        (by_inner, "inner_steps", "inner steps, all particles"),
    ):
        position = np.array([_number(row.get(field)) for row in rows])
        axes.plot(position, loss, color=SKY, linewidth=0.7, alpha=0.7)
        axes.plot(position, running_median(loss), color=BLUE, linewidth=2)
        axes.set_xlabel(label)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_major_locator(MaxNLocator(6))
        tidy(axes)
    by_outer.set_ylabel("outer loss")
    finite = loss[np.isfinite(loss)]
    if finite.size:
        first, last = (
            float(np.median(part)) for part in (finite[: len(finite) // 10 + 1], finite[-(len(finite) // 10 + 1) :])
        )
        figure.suptitle(f"Outer loss: {first:.3g} in the first tenth, {last:.3g} in the last (medians)", fontsize=11)
    return figure


def merge_weight_figure(rows: list[dict]) -> Figure:
    """Share of the merged gradient that reparameterization holds, with the truncation length it depends on."""
    figure = Figure(figsize=(9, 4.4), dpi=150, layout="constrained")
    weights, lengths = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    steps = np.array([_number(row["outer_step"]) for row in rows])
    share = np.array([_number(row["weight_reparameterization"]) for row in rows])
    smooth = running_median(share)
    weights.fill_between(steps, 0, smooth, color=BLUE, alpha=0.25, linewidth=0)
    weights.fill_between(steps, smooth, 1, color=ORANGE, alpha=0.25, linewidth=0)
    weights.plot(steps, share, color=BLUE, linewidth=0.6, alpha=0.5)
    weights.plot(steps, smooth, color=BLUE, linewidth=2)
    weights.set(ylim=(0, 1), ylabel="share of the merge")
    for y, text in ((0.04, "reparameterization"), (0.96, "evolution strategies")):
        weights.text(0.01, y, text, transform=weights.transAxes, va="bottom" if y < 0.5 else "top", fontsize=9)
    lengths.plot(steps, [_number(row.get("truncation_length")) for row in rows], color=BLACK, linewidth=1)
    lengths.set(xlabel="outer step", ylabel="truncation")
    for axes in (weights, lengths):
        axes.set_xlim(steps[0], steps[-1] + (len(steps) == 1))
        tidy(axes)
    figure.suptitle("Which estimator the merged gradient trusts", fontsize=11)
    return figure


def held_out_figure(curves: dict[str, NDArray]) -> Figure:
    """Median and interquartile band over held-out tasks of each optimizer; tuned Adam, the reference, is dashed."""
    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    ends = []
    for name, losses in curves.items():
        style = _STYLES.get(name, {"color": PURPLE})
        position = np.arange(1, losses.shape[1] + 1)
        middle = running_median(np.median(losses, axis=0), window=5)
        low, high = (running_median(q, window=5) for q in np.quantile(losses, [0.25, 0.75], axis=0))
        axes.fill_between(position, low, high, color=style["color"], alpha=0.13, linewidth=0)
        axes.plot(position, middle, **style)
        ends.append((float(middle[-1]), _LABELS.get(name, name), style["color"]))
    axes.set(xlabel="inner step", ylabel="test loss")
    if all((losses > 0).all() for losses in curves.values()):
        axes.set_yscale("log")
    axes.set_xlim(0, position[-1])
    tidy(axes)
    label_ends(axes, ends)
    means = {name: float(losses.mean()) for name, losses in curves.items()}
    if {"learned", "adam_tuned"} <= means.keys():
        title = f"Held-out mean test loss: learned {means['learned']:.3g}, tuned Adam {means['adam_tuned']:.3g}"
        axes.set_title(title, fontsize=11, loc="left")
    axes.text(
        1.0,
        0.99,
        f"median, middle half of {len(losses)} tasks",
        transform=axes.transAxes,
        ha="right",
        va="top",
        fontsize=8,
        color=GREY,
    )
    return figure


def label_ends(axes: Axes, ends: Iterable[tuple[float, str, str]], min_gap: float = 0.055) -> None:
    """Writes each line's name at its right end, moved apart (in axes fractions) where lines end close together."""
    to_axes = axes.transData + axes.transAxes.inverted()
    right = axes.get_xlim()[1]
    # A line that leaves the picture is named at the edge it leaves through.
    wanted = sorted(
        (float(np.clip(to_axes.transform((right, y))[1], 0.01, 0.99)), text, color) for y, text, color in ends
    )
    place = -np.inf
    placed = []
    for y, text, color in wanted:
        place = max(y, place + min_gap)
        placed.append((place, text, color))
    shift = max(0.0, placed[-1][0] - 0.98) if placed else 0.0
    for y, text, color in placed:
        axes.text(1.01, y - shift, text, transform=axes.transAxes, color=color, va="center", fontsize=9)


def tidy(axes: Axes) -> None:
    """No frame on top and at the right, a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, alpha=0.25, linewidth=0.6)


def running_median(values: NDArray, window: int | None = None) -> NDArray:
    """Centred running median that ignores nan; the default window is a thirtieth of the series."""
    values = np.asarray(values, np.float64)
    half = max(1, (window or len(values) // 30 + 1) // 2)
    padded = np.pad(values, half, mode="reflect" if len(values) > half else "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)
    known = np.isfinite(windows).any(axis=1)
    result = np.full(len(values), np.nan)
    result[known] = np.nanmedian(np.where(np.isfinite(windows[known]), windows[known], np.nan), axis=1)
    return result


def _read_rows(path: Path) -> list[dict]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)
