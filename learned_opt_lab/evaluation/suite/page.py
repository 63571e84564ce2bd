"""`report.html`: one file that shows `report.json`, with nothing to fetch.

`page.html` is the template and holds all markup; what it shows is escaped by the template engine,
after `learned_opt_lab.drawing.text.plain`. The tables are in the page, so that it reads without
scripts; scripts sort and enlarge. Every number carries the path at which it stands in the embedded
JSON. Figures are SVG with their colours turned into CSS variables, so that light and dark need one
picture only.
"""

import functools
import io
import re
from importlib import resources
from typing import Any

import jinja2
import matplotlib
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from learned_opt_lab.drawing.text import UNKNOWN, format_number, json_for_script, plain, well_formed
from learned_opt_lab.evaluation.suite.figures import Captioned

_OVERVIEW = ("overview", "profile", "axis")
_RANKING = (
    ("normalized score", "normalized"),
    ("better than reference", "improvement_over_reference"),
    ("steps to reference's best, ratio", "steps_to_best.steps_ratio"),
    ("seconds, ratio", "steps_to_best.seconds_ratio"),
    ("tasks where reached", "steps_to_best.tasks_reached"),
    ("tasks with validation loss at most the reference's", "validation_at_most_reference.tasks"),
    ("diverged", "divergence_rate"),
)
_ROWS = (
    ("normalized score", "normalized"),
    ("test loss", "test_loss"),
    ("validation loss", "validation_loss"),
    ("training loss", "train_loss"),
    ("steps to target", "steps_to_target.steps"),
    ("seconds to target", "steps_to_target.seconds"),
    ("steps, ratio", "steps_to_target.steps_ratio"),
    ("seconds per step", "seconds_per_step"),
    ("of that overhead", "overhead_seconds_per_step"),
    ("compilation, s", "compile_seconds"),
    ("diverged", "divergence_rate"),
)


def render(report: dict[str, Any], figures: dict[str, Captioned]) -> str:
    """The page.

    Args:
      report: what `report.json` holds.
      figures: of `learned_opt_lab.evaluation.suite.figures.suite_figures`.
    """
    drawn = [
        {"name": name, "svg": Markup(to_svg(captioned.figure, name)), "caption": captioned.caption}
        for name, captioned in figures.items()
    ]
    return _template().render(
        report=report,
        title=f"Suite {report['suite']['name']}: learned and tuned optimizers",
        verdict=_verdict(report),
        overview=[figure for figure in drawn if figure["name"] in _OVERVIEW],
        curves=[figure for figure in drawn if figure["name"] not in _OVERVIEW],
        labels=[optimizer["label"] for optimizer in report["optimizers"]],
        pairs={
            (pair["x"], pair["y"]): i for i, pair in enumerate(report["probability_of_improvement"])
        },
        lost=_lost(report),
        terms=_terms(report),
        value_at=functools.partial(_lookup, report),
        row_columns=_row_columns(report["rows"]),
        json=Markup(json_for_script(report)),
    )


def _row_columns(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """`_ROWS`, with the metrics that some task has behind its test loss.

    A metric's name is its task's own; one that is no plain word has no path.
    """
    names = [name for row in rows for name in row if re.fullmatch(r"test_[A-Za-z]\w*", name)]
    metrics = [name for name in dict.fromkeys(names) if name != "test_loss"]
    at = [path for _, path in _ROWS].index("test_loss") + 1
    return [*_ROWS[:at], *((name.replace("_", " "), name) for name in metrics), *_ROWS[at:]]


@functools.cache
def _template() -> jinja2.Template:
    """The template, with our own styles and scripts in it,
    which are the only text that is not escaped.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_resource),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else plain(value),
    )
    shared = {
        "css": Markup(_resource("page.css")),
        "js": Markup(_resource("page.js")),
        "ranking_columns": _RANKING,
        "unknown": UNKNOWN,
        "format_number": format_number,
        "chosen": _chosen,
    }
    return environment.get_template("page.html", globals=shared)


def _resource(name: str) -> str:
    return (
        resources.files("learned_opt_lab.evaluation.suite")
        .joinpath(name)
        .read_text(encoding="utf-8")
    )


def _lookup(report: dict[str, Any], path: str) -> Any:
    value: Any = report
    for key in path.split("."):
        if value is None:
            return None
        value = value[int(key)] if isinstance(value, list) else value.get(key)
    return value


def _chosen(row: dict[str, Any]) -> str:
    hyperparameters = row["hyperparameters"] or {}
    return (
        ", ".join(f"{name} {format_number(value)}" for name, value in hyperparameters.items())
        or "not tuned"
    )


def _verdict(report: dict[str, Any]) -> list[dict[str, str]]:
    """How up to three learned optimizers did against the tuned reference,
    and where their numbers stand.
    """
    learned = [(i, o) for i, o in enumerate(report["optimizers"]) if o["kind"] == "learned"]
    sentences = []
    for i, optimizer in learned[:3]:
        low, high = (optimizer["normalized"][name] for name in ("low", "high"))
        if low is None or high is None:
            word = "cannot be compared with"
        else:
            word = "beats" if high < 0 else "loses to" if low > 0 else "is level with"
        sentences.append({"label": optimizer["label"], "word": word, "path": f"optimizers.{i}"})
    return sentences


def _lost(report: dict[str, Any]) -> list[str]:
    lines = [
        f"{run['optimizer']} on {run['task']}, run {run['run']}"
        + (
            f": not finite from step {run['first_non_finite_step']}"
            if run["first_non_finite_step"] is not None
            else ""
        )
        for run in report["diverged"]
    ]
    return lines + [
        f"{skipped['task']} was skipped: {skipped['reason']}" for skipped in report["skipped"]
    ]


def _terms(report: dict[str, Any]) -> list[tuple[str, str]]:
    terms = {
        **report["definitions"],
        "measured on": ", ".join(f"{k} {v}" for k, v in report["environment"].items()),
    }
    return [(name.replace("_", " "), meaning) for name, meaning in terms.items()]


def to_svg(figure: Figure, name: str) -> str:
    """The figure as an SVG element with text as text and colours
    as CSS variables (`--c-` and the hex digits).
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": well_formed(name)}):
        figure.patch.set_alpha(0)
        for axes in figure.axes:
            axes.patch.set_alpha(0)
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = re.sub(
        r"<metadata>.*?</metadata>|<!--.*?-->", "", svg[svg.index("<svg") :], flags=re.DOTALL
    )
    # Inside of tags only: a label may read like a style.
    # Text has no "<" or ">" here, they are escaped.
    return re.sub(r"<[^<>]*>", lambda tag: _with_variables(tag.group()), svg)


def _with_variables(tag: str) -> str:
    return re.sub(r"((?:fill|stroke|stop-color): ?)#([0-9a-f]{6})", r"\1var(--c-\2, #\2)", tag)
