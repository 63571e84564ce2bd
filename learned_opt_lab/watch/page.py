"""The page of one run or several: a file that needs nothing else, or what a server gives.

All that changes while runs go on is in `live_values`: the texts of the table's cells, charts with
their data, and lines of trouble. The page has it inside, and a live page fetches it again; what it
puts on the screen is text, never markup.
"""

import functools
import json
import re
from typing import Any

import jinja2
from markupsafe import Markup

from learned_opt_lab.drawing import charts as drawing
from learned_opt_lab.drawing.templates import page_template
from learned_opt_lab.drawing.text import json_for_script, plain
from learned_opt_lab.watch import facts
from learned_opt_lab.watch.charts import CAPTIONS, UNITS, run_charts, run_styles
from learned_opt_lab.watch.reading import Watched

REFRESH_SECONDS = 3.0
"""Between two looks of a live page; it waits longer where a look takes long."""
_MAX_TROUBLE = 20


def live_values(runs: list[Watched]) -> dict[str, Any]:
    """What changes while runs go on, as plain JSON.

    `cells` are texts, a row for each run; `shares` how far each run is, from 0 to 1; `charts` have
    a specification for each unit and data, or are null; `trouble` are lines.
    """
    look = run_styles([run.label for run in runs])
    charts = {}
    for name, units in run_charts(runs, look).items():
        charts[name] = units and {
            "specs": [
                drawing.in_css_colors(chart.spec) | {"description": chart.caption}
                for chart in units.values()
            ],
            "data": next(iter(units.values())).data,
        }
    trouble = [plain(line) for run in runs for line in run.trouble]
    more = len(trouble) - _MAX_TROUBLE
    return {
        "cells": [[plain(cell) for cell in row] for row in facts.cells(runs, facts.WATCHED)],
        "shares": [min(run.done / run.num_outer_steps, 1) if run.num_outer_steps else None
                   for run in runs],
        "charts": charts,
        "trouble": trouble[:_MAX_TROUBLE] + ([f"{more} more lines"] if more > 0 else []),
        "going_on": any(run.state != "complete" for run in runs),
    }  # fmt: skip


def render(runs: list[Watched], *, refresh_seconds: float | None = None) -> str:
    """The page.

    Args:
      runs: at least one.
      refresh_seconds: between two looks at the server that the page is from; None for a page that
        stays as it is.
    """
    look = run_styles([run.label for run in runs])
    configs = [run.config for run in runs]
    live = live_values(runs)
    return _template().render(
        title=f"Run {runs[0].label}" if len(runs) == 1 else f"{len(runs)} runs side by side",
        runs=runs,
        # Of our own table of colours; the page's styles have each for light and dark.
        colors=[Markup(re.sub(r"\W", "", color)) for color in look.colors],
        columns=facts.WATCHED,
        live=live,
        captions=CAPTIONS,
        units=UNITS,
        differences=facts.differences(configs) if len(runs) > 1 else {},
        config=facts.side_by_side(configs),
        versions=facts.side_by_side([run.versions for run in runs]),
        refresh=refresh_seconds,
        json=Markup(json_for_script(live | {"refresh": refresh_seconds})),
        library=Markup(drawing.script()),
    )


def encode(live: dict[str, Any]) -> bytes:
    """`live_values` as a server sends them."""
    return json.dumps(live, allow_nan=False, separators=(",", ":")).encode()


@functools.cache
def _template() -> jinja2.Template:
    return page_template("learned_opt_lab.watch")
