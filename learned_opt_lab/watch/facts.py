"""Runs in numbers: how far each is, what it has reached, and where the configs differ."""

import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from learned_opt_lab.drawing.text import UNKNOWN, format_number
from learned_opt_lab.watch.reading import Watched
from outer_train.run import metrics

LONGEST = 1e12
"""Seconds; what a damaged file says beyond that is no time of a run."""
MAX_SHOWN = 200
"""Characters of a field's value in a table."""


class Fact(NamedTuple):
    """A column of a table of runs.

    Attributes:
      heading: a word or two.
      key: in JSON.
      meaning: shown where the pointer rests on the heading.
      value: of a run; None where it is not known.
      show: the value as text.
    """

    heading: str
    key: str
    meaning: str
    value: Callable[[Watched], Any]
    show: Callable[[Any], str]


def duration(seconds: float | None) -> str:
    """Hours, minutes and seconds."""
    if seconds is None or not seconds < LONGEST:
        return UNKNOWN
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def count(value: Any) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,}" if isinstance(value, int) else format_number(value)


def _last(run: Watched) -> list[float]:
    """Outer losses of the last 5 % of the outer steps, as `outer_loss_last` has them."""
    if not run.rows:
        return []
    rows = run.rows[-metrics.outer_loss_window(len(run.rows)) :]
    return [row["outer_loss"] for row in rows if row.get("outer_loss") is not None]


def outer_loss(run: Watched) -> float | None:
    """Mean over the last 5 % of outer steps."""
    losses = _last(run)
    return math.fsum(losses) / len(losses) if losses else None


def noise(run: Watched) -> float | None:
    """Standard deviation of one outer step's loss, over the same outer steps."""
    losses = _last(run)
    if len(losses) < 2:
        return None
    mean = math.fsum(losses) / len(losses)
    # Not by squares: those of large losses are larger than any number.
    return math.hypot(*(loss - mean for loss in losses)) / math.sqrt(len(losses) - 1)


def _held_out(run: Watched, optimizer: str) -> float | None:
    scores = (run.summary or {}).get("heldout")
    score = scores.get(optimizer) if isinstance(scores, dict) else None
    return score if isinstance(score, int | float) else None


def _total(run: Watched, field: str) -> int | None:
    counts = [n for row in run.rows if type(n := row.get(field)) is int]
    return sum(counts) if counts else None


def _progress(run: Watched) -> str:
    if not (wanted := run.num_outer_steps):
        return count(run.done)
    return f"{count(run.done)} of {count(wanted)} ({run.done / wanted:.0%})"


_LOSS = Fact(
    "outer loss",
    "outer_loss",
    "mean over the last 5 % of the outer steps, at least 5",
    outer_loss,
    format_number,
)
_NOISE = Fact(
    "noise",
    "outer_loss_noise",
    "standard deviation of the outer loss of one outer step, over the same outer steps",
    noise,
    format_number,
)
_LEARNED = Fact(
    "held-out",
    "held_out",
    "mean test loss of the learned optimizer on held-out tasks",
    lambda run: _held_out(run, "learned"),
    format_number,
)
_ADAM = Fact(
    "tuned Adam",
    "held_out_adam_tuned",
    "the same of Adam, its rate chosen for each task",
    lambda run: _held_out(run, "adam_tuned"),
    format_number,
)
_INNER = Fact(
    "inner steps",
    "inner_steps",
    "of all particles together",
    lambda run: run.rows[-1].get("inner_steps") if run.rows else None,
    count,
)
_SECONDS = Fact(
    "time",
    "seconds",
    "hours, minutes and seconds of the outer steps; compilation is left out",
    lambda run: run.seconds,
    duration,
)
_STATE = Fact(
    "state",
    "state",
    "running: a process writes to it; stopped: none does, and it is not complete",
    lambda run: run.state,
    str,
)
_DONE = Fact("outer steps", "outer_steps", "so far, and in all", lambda run: run, _progress)
WATCHED = (
    _STATE,
    _DONE,
    Fact(
        "left",
        "seconds_left",
        "time left at the pace of the last outer steps",
        lambda run: run.seconds_left,
        duration,
    ),
    _LOSS,
    _NOISE,
    _LEARNED,
    _ADAM,
    Fact(
        "steps a second",
        "outer_steps_per_second",
        "outer steps, over the last hundred",
        lambda run: run.steps_per_second,
        format_number,
    ),
    _INNER,
    _SECONDS,
    Fact(
        "not finite",
        "num_non_finite",
        "samples whose gradient or loss was not finite",
        lambda run: _total(run, "num_non_finite"),
        count,
    ),
    Fact(
        "not taken",
        "num_steps_not_taken",
        "outer steps where theta stayed",
        lambda run: _total(run, "num_steps_not_taken"),
        count,
    ),
)
"""Columns of the page."""
COMPARED = (
    _LOSS,
    _NOISE,
    _LEARNED,
    _ADAM,
    _DONE._replace(value=lambda run: run.done, show=count),
    _INNER,
    _SECONDS,
    _STATE,
)
"""Columns of a comparison."""


def cells(runs: list[Watched], columns: tuple[Fact, ...]) -> list[list[str]]:
    """A table as text, a row for each run."""
    return [[fact.show(fact.value(run)) if _is_known(fact, run) else UNKNOWN for fact in columns]
            for run in runs]  # fmt: skip


def _is_known(fact: Fact, run: Watched) -> bool:
    return fact.value(run) is not None


def fields(value: Any, name: str = "") -> dict[str, str]:
    """`a.b` -> the JSON of each field of a config, also within fields."""
    if isinstance(value, dict) and value:
        found: dict[str, str] = {}
        for key, item in value.items():
            found |= fields(item, f"{name}.{key}" if name else str(key))
        return found
    return {name: json.dumps(value, ensure_ascii=False)}


def value_of(text: str) -> Any:
    """The inverse of one field of `fields`."""
    return json.loads(text)


def side_by_side(tables: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Field -> what each of the configs has there, a dash where it has no such field."""
    flat = [fields(table) for table in tables]
    names = dict.fromkeys(name for each in flat for name in each)
    shown = lambda text: text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"
    return {name: [shown(each.get(name, UNKNOWN)) for each in flat] for name in names if name}


def differences(tables: list[dict[str, Any]]) -> dict[str, list[str]]:
    """The fields in which not all configs are alike."""
    flat = [fields(table) for table in tables]
    differ = {n for each in flat for n in each if len({other.get(n) for other in flat}) > 1}
    return {name: row for name, row in side_by_side(tables).items() if name in differ}
