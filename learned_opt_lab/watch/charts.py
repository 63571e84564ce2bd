"""Charts of runs: one for each thing that is measured, a colour for each run in all of them.

What a chart shows comes from at most `MOST_POINTS` points a run. Their places depend on how many
rows there are by powers of two only, so that a point that one looks at stays where it is while the
run goes on.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from learned_opt_lab.drawing.axes import LARGEST, quantiles
from learned_opt_lab.drawing.charts import Chart, Spec, Styles, lines, nearest, spec, styles
from learned_opt_lab.drawing.text import plain
from learned_opt_lab.watch.reading import Watched

MOST_POINTS = 256
NEIGHBOURS = 4
"""Points on either side whose rows the middle and the band of a point are of."""
UNITS = {
    "steps": "outer steps",
    "inner": "inner steps, all particles",
    "seconds": "seconds of outer steps",
}
"""What a chart may be drawn over -> the title of its axis."""
_DASHES = ([1, 0], [8, 3, 2, 3], [2, 2], [6, 4])
"""Of the parts of a chart, where it has several."""
_ZOOM = {
    "type": "interval",
    "encodings": ["x"],
    # The wheel alone scrolls the page, and so does a finger.
    "zoom": "wheel![event.shiftKey || event.ctrlKey]",
    "translate": "[pointerdown[event.pointerType !== 'touch'], window:pointerup] "
    "> window:pointermove!",
}


class Panel(NamedTuple):
    """One thing that is measured.

    Attributes:
      title: of its axis.
      fields: of a row that it shows; one that ends in `_` stands for all that begin so.
      how: "middle" and a band of what is noisy, the "total" so far, or the "pace".
      is_log: whether the axis is logarithmic where all is positive.
      caption: what is shown.
    """

    title: str
    fields: tuple[str, ...]
    how: Literal["middle", "total", "pace"]
    is_log: bool
    caption: str


_NOISE = f"of the outer steps around a point, median and the middle 80 % of {2 * NEIGHBOURS + 1}"
PANELS = {
    "outer_loss": Panel(
        "outer loss",
        ("outer_loss",),
        "middle",
        True,
        f"Outer loss, which outer-training makes small: {_NOISE} points' rows.",
    ),
    "truncation": Panel(
        "inner steps",
        ("truncation_length",),
        "middle",
        False,
        "Truncation length: inner steps that an outer gradient is of.",
    ),
    "weights": Panel(
        "share of the merge",
        ("weight_",),
        "middle",
        False,
        "Weights of the merge: the share that each estimator holds of the outer gradient.",
    ),
    "variances": Panel(
        "variance",
        ("variance_",),
        "middle",
        True,
        "Variance of one sample of each estimator's gradient, as a mean over theta.",
    ),
    "pace": Panel(
        "outer steps a second",
        ("seconds",),
        "pace",
        False,
        "Outer steps a second; those that waited for a compilation are left out.",
    ),
    "gradient": Panel(
        "norm",
        ("grad_norm",),
        "middle",
        True,
        "Length of the outer gradient before it is clipped.",
    ),
    "guards": Panel(
        "so far",
        ("num_non_finite", "num_steps_not_taken"),
        "total",
        False,
        "What the guards caught so far: samples that were not finite, outer steps not taken.",
    ),
}
HELD_OUT = "held_out"
_HELD_OUT_CAPTION = (
    "Held-out tasks: median of the test losses and their middle half, over inner steps."
)
CAPTIONS = {name: panel.caption for name, panel in PANELS.items()} | {HELD_OUT: _HELD_OUT_CAPTION}
"""Of all charts, in their order."""


def run_styles(labels: list[str]) -> Styles:
    """A colour for each run."""
    return styles(labels, "")


def run_charts(runs: list[Watched], look: Styles) -> dict[str, dict[str, Chart] | None]:
    """Name -> unit -> chart, which share their data; None where there is nothing to draw."""
    found: dict[str, dict[str, Chart] | None] = {
        name: _panel_chart(panel, runs, look) for name, panel in PANELS.items()
    }
    return found | {HELD_OUT: _held_out_chart(runs, look)}


def _panel_chart(panel: Panel, runs: list[Watched], look: Styles) -> dict[str, Chart] | None:
    fields = {run.label: _fields_of(panel, run) for run in runs}
    parts = list(dict.fromkeys(field for each in fields.values() for field in each))
    data = [
        {"name": look.names[run.label], "part": _part_name(panel, field), **point}
        for run in runs
        for field in fields[run.label]
        for point in _points(panel, run, field)
    ]
    drawn = [row["estimate"] for row in data if row["estimate"] is not None]
    if not drawn or (panel.how == "total" and not any(drawn)):
        return None
    scale: Spec = {"zero": False, "nice": True}
    lows = [row.get("low", row["estimate"]) for row in data if row["estimate"] is not None]
    if panel.is_log and min(lows) > 0:
        scale = {"type": "log", "nice": False}
    shown = [_part_name(panel, field) for field in parts]
    return {
        unit: Chart(
            _drawn((unit, title, panel.title), scale, shown, look, panel.how == "middle"),
            data,
            panel.caption,
        )
        for unit, title in UNITS.items()
    }


def _fields_of(panel: Panel, run: Watched) -> list[str]:
    known = dict.fromkeys(name for row in run.rows[:1] + run.rows[-1:] for name in row)
    is_of = lambda name: any(
        name == field or (field.endswith("_") and name.startswith(field)) for field in panel.fields
    )
    return [name for name in known if is_of(name)]


def _part_name(panel: Panel, field: str) -> str:
    prefix = next((f for f in panel.fields if f.endswith("_")), "num_")
    return plain(field.removeprefix(prefix).replace("_", " "))


def _points(panel: Panel, run: Watched, field: str) -> list[dict[str, Any]]:
    """At most `MOST_POINTS` of a run's field, each of equally many rows but the last."""
    rows, size = run.rows, 1
    while len(rows) > size * MOST_POINTS:
        size *= 2
    values = _numbers(rows, field)
    seconds = np.cumsum(np.nan_to_num(_numbers(rows, "seconds")))
    totals = np.cumsum(np.nan_to_num(values))
    points = []
    for start in range(0, len(rows), size):
        stop = min(start + size, len(rows))
        middle = (start + stop - 1) // 2
        point = {
            "steps": rows[middle]["outer_step"] + 1,
            "inner": _known(_numbers([rows[middle]], "inner_steps")[0]),
            "seconds": _known(seconds[middle]),
        }
        if panel.how == "total":
            point["estimate"] = _known(totals[stop - 1])
        elif panel.how == "pace":
            timed = values[max(start - NEIGHBOURS * size, 0) : stop + NEIGHBOURS * size]
            timed = timed[np.isfinite(timed)]
            total = float(timed.sum())  # of Python, which divides by the smallest one silently
            point["estimate"] = _known(len(timed) / total) if total > 0 else None
        else:
            around = values[max(start - NEIGHBOURS * size, 0) : stop + NEIGHBOURS * size]
            low, estimate, high = map(_known, quantiles(around, [0.1, 0.5, 0.9]))
            point |= {"estimate": estimate, "low": low, "high": high}
            if estimate is None or high is None or low is None:
                point |= {"low": estimate, "high": estimate}
        points.append(point)
    return points


def _held_out_chart(runs: list[Watched], look: Styles) -> dict[str, Chart] | None:
    data, parts = [], []
    for run in runs:
        for optimizer, losses in run.curves.items():
            if losses.ndim != 2 or losses.dtype.kind != "f" or not losses.size:
                continue
            part = plain(optimizer.replace("_", " "))
            parts += [part] if part not in parts else []
            count = losses.shape[1]
            picked = np.unique(np.linspace(0, count - 1, min(count, MOST_POINTS)).round())
            low, middle, high = quantiles(losses[:, picked.astype(int)], [0.25, 0.5, 0.75])
            for i, step in enumerate(picked.astype(int).tolist()):
                point = {"low": low[i], "estimate": middle[i], "high": high[i]}
                point = {name: _known(value) for name, value in point.items()}
                data.append(
                    {"name": look.names[run.label], "part": part, "steps": step + 1} | point
                )
    lows = [row["low"] for row in data if row["low"] is not None]
    if not lows:
        return None
    scale = {"type": "log", "nice": False} if min(lows) > 0 else {"zero": False}
    drawn = _drawn(("steps", "inner step", "test loss"), scale, parts, look)
    return dict.fromkeys(UNITS, Chart(drawn, data, _HELD_OUT_CAPTION))


def _drawn(
    axes: tuple[str, str, str], scale: Spec, parts: list[str], look: Styles, has_band: bool = True
) -> Spec:
    """A chart's specification; `axes` are the field along x, its title, and that along y."""
    unit, x_title, y_title = axes
    x = {"field": unit, "type": "quantitative", "title": x_title, "scale": {"nice": False}}
    x |= {"axis": {"tickCount": 6, "format": "~s"}}
    y = {"field": "estimate", "type": "quantitative", "title": y_title, "scale": scale}
    # Fractions of a logarithmic axis and whole numbers; neither reads well as the other.
    y |= {"axis": {"tickCount": 6, "format": "~g" if scale.get("type") == "log" else ",~r"}}
    line = lines(x, y, look)
    line["params"] = [*line["params"], {"name": "zoom", "select": _ZOOM, "bind": "scales"}]
    tooltip: list[Spec] = [{"field": "name", "title": "run"}]
    detail = {"detail": {"field": "part", "type": "nominal"}}
    if len(parts) > 1:
        dashes = {"domain": parts, "range": [_DASHES[i % len(_DASHES)] for i in range(len(parts))]}
        legend = line["encoding"]["color"]["legend"] | {"orient": "top", "columns": 2}
        part = {"field": "part", "type": "nominal", "scale": dashes, "legend": legend}
        line["encoding"] |= {"strokeDash": part}
        tooltip.append({"field": "part", "title": "of"})
    line["encoding"] |= detail
    for field, title in ((unit, x_title), ("estimate", y_title)):
        number = ",.0f" if field in ("steps", "inner") else ".3~g"
        tooltip.append({"field": field, "type": "quantitative", "title": title, "format": number})
    band = {
        "mark": {"type": "area", "opacity": 0.16, "clip": True},
        "encoding": {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}}
        | {"color": line["encoding"]["color"]}
        | detail,
    }
    hover = nearest(x, y, tooltip)
    # By what it shows, not by its place in the data: it outlasts new ones.
    hover["params"][0]["select"]["fields"] = ["name", "part", unit]
    return spec([*([band] if has_band else []), line, hover], height=240)


def _numbers(rows: list[dict[str, Any]], field: str) -> NDArray[np.float64]:
    """A field of all rows; nan for what is no number, or too large for a picture."""
    found = (row.get(field) for row in rows)
    numbers = [v if isinstance(v, int | float) and abs(v) <= LARGEST else np.nan for v in found]
    return np.asarray(numbers, np.float64)


def _known(value: Any) -> float | None:
    """Five digits; None for what cannot be drawn."""
    return float(f"{value:.5g}") if abs(value) <= LARGEST else None
