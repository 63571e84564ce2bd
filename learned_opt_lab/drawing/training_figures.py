"""Figures of a training run, drawn from the files in its directory:
nothing here needs the run itself.

Matplotlib objects are made directly (Agg canvas): no pyplot, so no global state and no display.
Lines carry their names; colours are Okabe and Ito's, which colour-blind readers tell apart, and
each name keeps its colour everywhere.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from numpy.typing import NDArray

from learned_opt.disk import files, npz, reading
from learned_opt_lab.drawing.axes import known, log_scale, set_limits
from learned_opt_lab.drawing.colors import BLACK, BLUE, GREY, ORANGE, PURPLE, SKY
from learned_opt_lab.drawing.text import UNKNOWN, figure_label, format_number
from outer_train.run import metrics

_STYLES = {
    "learned": {"color": BLUE, "linewidth": 2.5, "zorder": 4},
    "adam_tuned": {"color": BLACK, "linewidth": 1.8, "linestyle": "--", "zorder": 3},
    "adam_1e-3": {"color": ORANGE, "linewidth": 1.5, "zorder": 2},
    "untrained": {"color": GREY, "linewidth": 1.5, "linestyle": ":", "zorder": 1},
}
_LABELS = {
    "learned": "learned",
    "adam_tuned": "tuned Adam",
    "adam_1e-3": "Adam at 0.001",
    "untrained": "untrained",
}


def training_figures(run_dir: str | Path) -> list[Path]:
    """Draws what `run_dir` has data for into `run_dir/figures`; returns the PNGs written.

    Reads `metrics.jsonl` (`outer_step`, `outer_loss`, `inner_steps` (cumulative),
    `truncation_length` and, when estimators are merged, `weight_reparameterization`) and
    `heldout_curves.npz` (optimizer -> `[tasks, steps]`).

    Raises:
      ValueError: when there is neither, or one of them is damaged.
    """
    run_dir = Path(run_dir)
    rows = metrics.read_rows(run_dir / "metrics.jsonl")
    figures = {}
    if rows:
        figures["outer_loss"] = outer_loss_figure(rows)
        merged = [row for row in rows if row.get("weight_reparameterization") is not None]
        if merged:
            figures["merge_weights"] = merge_weight_figure(merged)
    if (run_dir / "heldout_curves.npz").exists():
        figures["heldout"] = held_out_figure(read_curves(run_dir / "heldout_curves.npz"))
    if (run_dir / "training_family_curves.npz").exists():
        curves = read_curves(run_dir / "training_family_curves.npz")
        figures["training_family"] = held_out_figure(curves, "Training family, not held out:")
    if not figures:
        raise ValueError(
            f"{run_dir} holds neither metrics.jsonl nor heldout_curves.npz: nothing to draw"
        )
    return [save(figure, run_dir / "figures" / f"{name}.png") for name, figure in figures.items()]


def read_curves(path: Path) -> dict[str, NDArray]:
    """Held-out losses of a run, optimizer -> `[tasks, steps]`.

    Raises:
      ValueError: the file is damaged, or none.
      OSError: it cannot be read.
    """
    with reading.open_regular(path) as file:
        return npz.read_all(file, str(path))


def save(figure: Figure, path: str | Path) -> Path:
    """Writes a PNG, whole or not at all, making the folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomically(path, FigureCanvasAgg(figure).print_png)
    return path


def outer_loss_figure(rows: list[dict]) -> Figure:
    """Outer loss over outer steps and over inner steps; thin: each truncation,
    bold: running median, black: the means that the title and `summary.json` state.
    """
    figure = Figure(figsize=(9, 3.6), dpi=150, layout="constrained")
    by_outer, by_inner = figure.subplots(1, 2, sharey=True)
    loss, window = _column(rows, "outer_loss"), metrics.outer_loss_window(len(rows))
    ends = [np.arange(len(loss))[part] for part in (slice(window), slice(-window, None))]
    first, last = (_mean(part[np.isfinite(part)]) for part in (loss[end] for end in ends))
    for axes, field, label in (
        (by_outer, "outer_step", "outer step"),
        (by_inner, "inner_steps", "inner steps, all particles"),
    ):
        position = _column(rows, field)
        # A lone point between unknown ones makes no line.
        axes.plot(position, loss, color=SKY, linewidth=0.7, alpha=0.7, **_dots(loss))
        axes.plot(position, running_median(loss), color=BLUE, linewidth=2)
        for end, mean in zip(ends, (first, last), strict=True):
            axes.plot(position[end], np.full(len(end), mean), color=BLACK, linewidth=2)
        axes.set_xlabel(label)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_major_locator(MaxNLocator(6))
        tidy(axes)
    by_outer.set_ylabel("outer loss")
    if np.isfinite(loss).any():
        first, last = map(format_number, map(float, (first, last)))
        title = f"Outer loss, mean of {window} steps: {first} at first, {last} at last"
    else:
        title = f"Outer loss: unknown, not one of {len(loss)} is finite"
    figure.suptitle(title, fontsize=11)
    return figure


def merge_weight_figure(rows: list[dict]) -> Figure:
    """Share of the merged gradient that reparameterization holds,
    with the truncation length it depends on.
    """
    figure = Figure(figsize=(9, 4.4), dpi=150, layout="constrained")
    weights, lengths = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    steps, share = _column(rows, "outer_step"), _column(rows, "weight_reparameterization")
    smooth = running_median(share)
    weights.fill_between(steps, 0, smooth, color=BLUE, alpha=0.25, linewidth=0)
    weights.fill_between(steps, smooth, 1, color=ORANGE, alpha=0.25, linewidth=0)
    weights.plot(steps, share, color=BLUE, linewidth=0.6, alpha=0.5, **_dots(share))
    weights.plot(steps, smooth, color=BLUE, linewidth=2)
    weights.set(ylim=(0, 1), ylabel="share of the merge")
    for y, text in ((0.04, "reparameterization"), (0.96, "evolution strategies")):
        weights.text(
            0.01,
            y,
            text,
            transform=weights.transAxes,
            va="bottom" if y < 0.5 else "top",
            fontsize=9,
        )
    length = _column(rows, "truncation_length")
    lengths.plot(steps, length, color=BLACK, linewidth=1, **_dots(length))
    lengths.set(xlabel="outer step", ylabel="truncation")
    for axes in (weights, lengths):
        set_limits(axes, "x", steps[0], steps[-1] + (len(steps) == 1))
        tidy(axes)
    figure.suptitle("Which estimator the merged gradient trusts", fontsize=11)
    return figure


def held_out_figure(curves: dict[str, NDArray], what: str = "Held-out") -> Figure:
    """Mean over held-out tasks of each optimizer's loss at each step, with its 95 % interval;
    tuned Adam, the reference, is dashed.

    The title has each line's mean over its steps, which is the score of `summary.json`; the names
    at the right have its last value. A mean of which a loss is not finite is unknown: not drawn.

    Args:
      curves: optimizer -> `[tasks, steps]`.
      what: which tasks, in the title.

    Raises:
      ValueError: for curves of another rank, or of no optimizer.
    """
    if not curves or any(np.ndim(losses) != 2 for losses in curves.values()):
        shapes = {name: np.shape(losses) for name, losses in curves.items()}
        raise ValueError(f"held-out curves must be [tasks, steps] for each optimizer, got {shapes}")
    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    means = {name: _mean(known(losses)) for name, losses in curves.items()}
    ends = []
    for name, mean in means.items():
        style = _STYLES.get(name, {"color": PURPLE})
        position = np.arange(1, len(mean) + 1)
        low, high = _interval_of_mean(known(curves[name]))
        axes.fill_between(position, low, high, color=style["color"], alpha=0.13, linewidth=0)
        axes.plot(position, mean, **style, **_dots(mean))
        end, label = float(mean[-1]) if mean.size else np.nan, _LABELS.get(name, name)
        if np.isfinite(end):
            label = f"{figure_label(label, limit=18)}: {format_number(end)}"
        ends.append((end, label, style["color"]))
    num_tasks, num_steps = (max(np.shape(each)[i] for each in curves.values()) for i in (0, 1))
    axes.set(xlabel="inner step", ylabel="test loss, mean over tasks")
    log_scale(axes, "y", *means.values())
    set_limits(axes, "x", 0, num_steps)
    tidy(axes)
    label_ends(axes, ends)
    title = f"{what} test loss, mean over {num_tasks} tasks; band: 95 % interval of the mean"
    scores = {name: float(mean.mean()) if mean.size else np.nan for name, mean in means.items()}
    if {"learned", "adam_tuned"} <= scores.keys():
        learned, tuned = (format_number(scores[name]) for name in ("learned", "adam_tuned"))
        title += f"\nMean over all {num_steps} steps: learned {learned}, tuned Adam {tuned}"
    axes.set_title(title, fontsize=10, loc="left")
    return figure


def _mean(losses: NDArray) -> NDArray[np.float64]:
    """Mean over the first axis; nan where one of the losses, or all, are missing."""
    return losses.mean(axis=0) if len(losses) else np.full(losses.shape[1:], np.nan)


def _interval_of_mean(losses: NDArray) -> NDArray[np.float64]:
    """Ends `[2, steps]` of the 95 % bootstrap interval over tasks of that mean;
    nan where there are fewer than two tasks.
    """
    num_tasks = len(losses)
    if num_tasks < 2:
        return np.full((2, losses.shape[1]), np.nan)
    drawn = np.random.default_rng(0).multinomial(num_tasks, np.full(num_tasks, 1 / num_tasks), 1000)
    return np.quantile(drawn / num_tasks @ losses, [0.025, 0.975], axis=0)


def label_ends(axes: Axes, ends: Iterable[tuple[float, str, str]], min_gap: float = 0.055) -> None:
    """Writes each line's name at its right end,
    moved apart (in axes fractions) where lines end close together.

    A line whose end is not known is named at the top, with a dash.
    """
    to_axes = axes.transData + axes.transAxes.inverted()
    right = axes.get_xlim()[1]
    wanted = []
    for y, text, color in ends:
        is_known = np.isfinite(y)
        height = to_axes.transform((right, y))[1] if is_known else 1.0
        name = figure_label(text, limit=28) + ("" if is_known else f" {UNKNOWN}")
        # A line that leaves the picture is named at the edge it leaves through.
        wanted.append((float(np.clip(height, 0.01, 0.99)), name, color))
    wanted.sort()
    gap = min(min_gap, 0.97 / max(len(wanted) - 1, 1))
    place = -np.inf
    placed = []
    for y, text, color in wanted:
        place = max(y, place + gap)
        placed.append((place, text, color))
    shift = max(0.0, placed[-1][0] - 0.98) if placed else 0.0
    for y, text, color in placed:
        axes.text(
            1.01, y - shift, text, transform=axes.transAxes, color=color, va="center", fontsize=9
        )


def tidy(axes: Axes) -> None:
    """No frame on top and at the right, a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, alpha=0.25, linewidth=0.6)


def running_median(values: NDArray, window: int | None = None) -> NDArray:
    """Centred running median that ignores nan; the default window is a thirtieth of the series."""
    values = np.asarray(values, np.float64)
    if not len(values):
        return values
    half = max(1, (window or len(values) // 30 + 1) // 2)
    padded = np.pad(values, half, mode="reflect" if len(values) > half else "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)
    some = np.isfinite(windows).any(axis=1)
    result = np.full(len(values), np.nan)
    result[some] = np.nanmedian(np.where(np.isfinite(windows[some]), windows[some], np.nan), axis=1)
    return result


def _column(rows: list[dict], name: str) -> NDArray[np.float64]:
    found = (row.get(name) for row in rows)
    return known([value if isinstance(value, int | float) else None for value in found])


def _dots(values: NDArray) -> dict[str, object]:
    """A style that shows the points where no two known ones are neighbours,
    so that no line joins them.
    """
    alone = np.isfinite(values)
    return {} if (alone[1:] & alone[:-1]).any() else {"marker": "o", "markersize": 3}
