"""An evaluation as a page of the documentation: what is kept of its `report.json`, and the Markdown
that follows from that alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from learned_opt_lab.drawing.charts import Chart, styles
from learned_opt_lab.drawing.markdown import code, show, table
from learned_opt_lab.evaluation.page.board_charts import descent
from learned_opt_lab.evaluation.page.boards import Board, boards_of
from learned_opt_lab.evaluation.page.pairs import pair_tables, pairs_of
from learned_opt_lab.evaluation.page.sentences import is_reference, reference_name, sentence_of

_OF_OPTIMIZERS = (
    "label",
    "spec",
    "kind",
    "rank",
    "normalized",
    "improvement_over_reference",
    "verdict",
    "against_reference",
    "steps_to_best",
    "validation_at_most_reference",
    "num_diverged_runs",
    "divergence_rate",
    "knows_horizon",
    "speed",
    "default",
    "cost",
)
_OF_ROWS = (
    "task",
    "optimizer",
    "test_loss",
    "validation_loss",
    "steps_to_best",
    "seconds_per_step",
    "hyperparameters",
    "divergence_rate",
)
_LOSSES = ("test_loss", "validation_loss")
_OF_LOSSES = ("estimate", "low", "high")
_OF_STEPS = ("steps", "steps_ratio", "seconds_ratio", "seconds_with_tuning")
_OF_ALL = (
    *("format_version", "suite", "settings", "reference", "reference_is_tuned"),
    *("tasks", "skipped", "league"),
)
_DIGITS = 5
_DIGITS_DRAWN = 3
_TASKS_A_TABLE = 4
"""So that a table fits a phone."""
_ABOUT = """\
The score is the interquartile mean, over tasks and runs, of the normalized test loss: 0 is {zero},
and 1 is no progress. Brackets are 95 % intervals over other seeds. An optimizer *beats* the
reference where the interval of its score lies below 0 and that of the probability of improvement
above one half. *Reaches* counts the tasks on which its mean validation loss comes down to the
reference's lowest, *ends at most as high* those on which its final one is no higher than the
reference's, and *time a step* is over the reference's.
{fast}
[Evaluation](../evaluation.md#two-leagues) says what each league is."""

_RATIOS = """\
*Steps* and *seconds* are those to the reference's lowest validation loss, over the reference's
own."""
_SPEED = """\
*Speed* is the area under the profile of time to the reference's lowest validation loss: 1 for the
fastest on every task, 0 for one that never gets there in four times the fastest's. Its seconds
include those of the search."""


def kept(report: Mapping[str, Any], made: Mapping[str, Any]) -> dict[str, Any]:
    """What a page needs of `report.json` and of `made.json`.

    Raises:
      ValueError: for an evaluation that is not complete.
    """
    if report["progress"]["to_come"] or not made["finished"]:
        raise ValueError(f"not complete: {', '.join(report['progress']['to_come']) or 'its end'}")
    found = {name: report.get(name) for name in _OF_ALL} | {"made": dict(made)}
    found["descent"] = _rounded(report["descent"], _DIGITS_DRAWN)
    if not (leagues := report.get("leagues")):
        return _rounded(found | _board(report))
    shown = [board.budget for board in boards_of(dict(report)) if "equal" in board.name]
    equal = {b: _board(each) for b, each in leagues["equal_budgets"].items() if int(b) in shown}
    found["leagues"] = {
        "reference": leagues["reference"],
        "untuned": leagues["untuned"] and _board(leagues["untuned"]),
        "equal_budgets": equal,
    }
    who = [{name: each[name] for name in ("label", "kind")} for each in report["optimizers"]]
    return _rounded(found | {"optimizers": who})


def figures(content: Mapping[str, Any]) -> dict[str, Chart]:
    """The page's pictures by unit, `steps` and `seconds`, from what `kept` returned alone."""
    look = styles([each["label"] for each in content["optimizers"]], content["reference"])
    return {unit: descent(content["descent"], unit, look) for unit in content["descent"]}


def _rounded(value: Any, digits: int = _DIGITS) -> Any:
    """Numbers with as many digits as a page could ever show."""
    if isinstance(value, dict):
        return {name: _rounded(each, digits) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each, digits) for each in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def _board(board: Mapping[str, Any]) -> dict[str, Any]:
    def row(row: Mapping[str, Any]) -> dict[str, Any]:
        found = {name: row[name] for name in _OF_ROWS}
        for name, wanted in (
            *((loss, _OF_LOSSES) for loss in _LOSSES),
            ("steps_to_best", _OF_STEPS),
        ):
            found[name] = {each: row[name].get(each) for each in wanted}
        return found

    optimizers = [
        {name: each[name] for name in _OF_OPTIMIZERS if name in each}
        for each in board["optimizers"]
    ]
    return {
        "optimizers": optimizers,
        "rows": [row(each) for each in board["rows"]],
        "pairs": pairs_of(board),
        "timing_warnings": board["timing_warnings"],
    }


def markdown(content: Mapping[str, Any], name: str) -> str:
    """The page, from what `kept` returned alone, and its name, after which its figures are
    called.
    """
    suite = content["suite"]
    lines = [
        f"# The suite `{suite['name']}`",
        "",
        f"{suite['description']} {_size(content)}",
        "",
        _ABOUT.format(
            zero=reference_name(dict(content)),
            fast=_SPEED if content.get("leagues") else _RATIOS,
        ),
    ]
    for unit, chart in figures(content).items():
        lines += ["", f"![{chart.caption}](../figures/results/{name}_{unit}.png)"]
    boards = boards_of(dict(content))
    if len(boards) > 1:
        lines += ["", f"The curves are those of the board *{boards[-1].title}*."]
    for board in boards:
        lines += ["", f"## {board.title}", "", *_of_board(board, content)]
    return "\n".join([*lines, "", "## How it was made", "", *_made(content)]) + "\n"


def _size(content: Mapping[str, Any]) -> str:
    runs = content["settings"]["num_seeds"]
    each = "one run of each is" if runs == 1 else f"{runs} runs of each are"
    return f"Of its {len(content['tasks'])} tasks {each} reported."


def _of_board(board: Board, content: Mapping[str, Any]) -> Iterator[str]:
    yield "".join(
        code(piece.text) if piece.kind == "label" else _said(piece.text, piece.kind, content)
        for piece in sentence_of(board, dict(content))
    )
    yield ""
    optimizers = board.content["optimizers"]
    head = ["rank", "optimizer", "score", "against the reference", "won, lost"]
    is_it = lambda each: is_reference(board, each["label"], dict(content))
    ranked = [_ranked(each, is_it(each)) for each in optimizers]
    if any(each["num_diverged_runs"] for each in optimizers):
        # A column more than a phone shows at once.
        head.append("diverged")
        rates = [f"{100 * each['divergence_rate']:.0f} %" for each in optimizers]
        ranked = [(*row, rate) for row, rate in zip(ranked, rates, strict=True)]
    yield from table(head, ranked)
    if "diverged" not in head:
        yield from ("", "No run diverged.")
    yield ""
    steps = ("speed, steps", "speed, seconds") if board.budget else ("steps", "seconds")
    head = ("optimizer", "reaches", *steps, "ends at most as high", "time a step")
    yield from table(head, [_reached(each, board) for each in optimizers])
    yield from pair_tables(board.content)
    for warning in board.content["timing_warnings"]:
        yield ""
        ratio = show(warning["seconds_per_step_ratio"], 2)
        yield f"On {code(warning['task'])} the seconds of equal steps differ {ratio}-fold."
    yield ""
    yield "Final test losses, means over the last tenth of the steps:"
    names = [task["name"] for task in content["tasks"]]
    for first in range(0, len(names), _TASKS_A_TABLE):
        yield ""
        yield from _losses(board, names[first : first + _TASKS_A_TABLE])


def _said(text: str, kind: str, content: Mapping[str, Any]) -> str:
    if kind != "number":
        return text
    value: Any = content
    for key in text.split("."):
        value = value[int(key)] if isinstance(value, Sequence) else value[key]
    return show(value)


def _ranked(optimizer: Mapping[str, Any], is_reference: bool) -> tuple[Any, ...]:
    against = optimizer["against_reference"]
    won = f"{against['won']}, {against['lost']} of {against['num_tasks']}"
    return (
        optimizer["rank"],
        code(optimizer["label"]),
        _interval(optimizer["normalized"]),
        *(("the reference", "-") if is_reference else (optimizer["verdict"], won)),
    )


def _reached(optimizer: Mapping[str, Any], board: Board) -> tuple[Any, ...]:
    steps, final = optimizer["steps_to_best"], optimizer["validation_at_most_reference"]
    if board.budget:
        fast = [optimizer["speed"][unit] for unit in ("steps", board.seconds)]
    else:
        fast = [steps[f"{unit}_ratio"] for unit in ("steps", "seconds")]
    return (
        code(optimizer["label"]),
        f"{steps['tasks_reached']} of {steps['num_tasks']}",
        *map(_interval, fast),
        f"{final['tasks']} of {final['num_tasks']}",
        show(optimizer["against_reference"]["seconds_per_step_ratio"], 3),
    )


def _losses(board: Board, names: Sequence[str]) -> list[str]:
    losses = {(row["task"], row["optimizer"]): row["test_loss"] for row in board.content["rows"]}
    labels = [each["label"] for each in board.content["optimizers"]]
    rows = [
        (code(label), *(_value(losses[name, label]["estimate"]) for name in names))
        for label in labels
    ]
    return table(("optimizer", *map(code, names)), rows)


def _interval(interval: Mapping[str, float | None] | None) -> str:
    if interval is None:
        return "-"
    ends = [interval["low"], interval["high"]]
    middle = _value(interval["estimate"])
    return middle if None in ends else f"{middle} [{', '.join(_value(end) for end in ends)}]"


def _value(value: float | None) -> str:
    """A dash for what is unknown or was never reached."""
    return "-" if value is None else show(value)


def _made(content: Mapping[str, Any]) -> list[str]:
    made = content["made"]
    return table(
        ("what", "how"),
        [
            ("command", code(command_of(content))),
            ("ended", made["ended"]),
            ("minutes", show(made["minutes"], 3)),
            ("machine", made["machine"]),
            ("commit", code(made["commit"] or "none")),
        ],
    )


def command_of(content: Mapping[str, Any]) -> str:
    """What makes the evaluation again; numbers that the suite gives by itself are said as well."""
    settings, asked = content["settings"], content["made"]["settings"]
    words = ["learned-opt evaluate", *asked["optimizers"], f"--suite {content['suite']['name']}"]
    if settings["leagues"]:
        words.append(f"--leagues {' '.join(settings['leagues'])}")
    else:
        words.append(f"--leagues none --budget {settings['budget']}")
    if "equal_budgets" in settings["leagues"]:
        words.append(f"--budgets {' '.join(map(str, settings['budgets']))}")
    words.append(f"--num-seeds {settings['num_seeds']}")
    words.append(f"--num-tuning-seeds {settings['num_tuning_seeds']}")
    if asked["reference"]:
        words.append(f"--reference {asked['reference']}")
    if settings["seed"]:
        words.append(f"--seed {settings['seed']}")
    return " ".join([*words, "--out DIR"])
