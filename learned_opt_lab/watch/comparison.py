"""Runs compared: a table, where their configs differ, and their outer losses in one figure."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from learned_opt_lab.drawing.axes import known, log_scale
from learned_opt_lab.drawing.charts import COLORS
from learned_opt_lab.drawing.text import markdown_cell
from learned_opt_lab.drawing.training_figures import label_ends, running_median, tidy
from learned_opt_lab.watch import facts
from learned_opt_lab.watch.reading import Watched


def comparison(runs: list[Watched]) -> dict[str, Any]:
    """What `compare.json` holds: the definitions, each run's numbers, and the fields that differ.

    A number that is not known is None. `differences` is field -> label -> value, which is missing
    where a config has no such field.
    """
    flat = [facts.fields(run.config) for run in runs]
    names = facts.differences([run.config for run in runs])
    return {
        "definitions": {fact.key: fact.meaning for fact in facts.COMPARED},
        "runs": [
            {"label": run.label, "path": str(run.path)}
            | {fact.key: fact.value(run) for fact in facts.COMPARED}
            for run in runs
        ],
        "differences": {
            name: {
                run.label: facts.value_of(each[name])
                for run, each in zip(runs, flat, strict=True)
                if name in each
            }
            for name in names
        },
    }


def _table(heading: list[str], rows: list[list[str]]) -> list[str]:
    """A table of Markdown whose columns are also aligned on a terminal: words left, numbers right.

    The first column holds words.
    """
    cells = [[markdown_cell(cell) for cell in row] for row in [heading, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(heading))]
    pad = lambda row: [
        cell.ljust(width) if i == 0 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    rule = [("-" * w) if i == 0 else ("-" * (w - 1) + ":") for i, w in enumerate(widths)]
    return ["| " + " | ".join(row) + " |" for row in (pad(cells[0]), rule, *map(pad, cells[1:]))]


def lines(runs: list[Watched]) -> list[str]:
    """The comparison as Markdown, which also reads well on a terminal."""
    labels = [run.label for run in runs]
    numbers = facts.cells(runs, facts.COMPARED)
    shown = _table(
        ["run", *(fact.heading for fact in facts.COMPARED)],
        [[label, *row] for label, row in zip(labels, numbers, strict=True)],
    )
    if len(runs) == 1:
        return shown
    differences = facts.differences([run.config for run in runs])
    if not differences:
        return [*shown, "", "The configs do not differ."]
    rows = [[name, *values] for name, values in differences.items()]
    return [*shown, "", *_table(["config", *labels], rows)]


def figure(runs: list[Watched]) -> Figure:
    """Outer loss over outer steps and over seconds, as running medians, a colour for each run."""
    drawn = Figure(figsize=(10, 4), dpi=150, layout="constrained")
    by_steps, by_seconds = drawn.subplots(1, 2, sharey=True)
    losses = [known([row.get("outer_loss") for row in run.rows]) for run in runs]
    ends: dict[Any, list[tuple[float, str, str]]] = {by_steps: [], by_seconds: []}
    for i, (run, loss) in enumerate(zip(runs, losses, strict=True)):
        color, middle = COLORS[i % len(COLORS)], running_median(loss)
        steps = known([row["outer_step"] + 1 for row in run.rows])
        seconds = np.cumsum(np.nan_to_num(known([row.get("seconds") for row in run.rows])))
        for axes, position in ((by_steps, steps), (by_seconds, seconds)):
            axes.plot(position, loss, color=color, linewidth=0.6, alpha=0.3)
            axes.plot(position, middle, color=color, linewidth=2)
            ends[axes].append((float(middle[-1]) if middle.size else np.nan, run.label, color))
    by_steps.set(xlabel="outer step", ylabel="outer loss")
    by_seconds.set(xlabel="seconds of outer steps")
    log_scale(by_steps, "y", *losses)
    for axes in (by_steps, by_seconds):
        tidy(axes)
    label_ends(by_seconds, ends[by_seconds])
    drawn.suptitle(f"Outer loss of {len(runs)} runs; bold: running median", fontsize=11)
    return drawn
