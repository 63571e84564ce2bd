"""What an evaluation found, in a sentence for each board.

A sentence is a list of pieces, so that the template can mark labels and say of each number where it
stands in `report.json`.
"""

from typing import Any, NamedTuple

from learned_opt_lab.evaluation.page.boards import Board

_MOST_LEARNED = 3
"""Learned optimizers that a sentence speaks of."""


class Piece(NamedTuple):
    """A part of a sentence.

    Attributes:
      kind: "label", "text", or "number", whose text is its path in `report.json`.
      text: of it.
    """

    kind: str
    text: str


def reference_name(report: dict[str, Any]) -> str:
    """What everything is measured against, and how it was tuned."""
    label = report["reference"]
    if not (leagues := report.get("leagues")):
        return f"tuned {label}" if report["reference_is_tuned"] else label
    found = leagues["reference"]
    return (
        f"{label} at the best of {found['budget']} configurations"
        if found["is_tuned"]
        else f"{label} at its default"
    )


def is_reference(board: Board, label: str, report: dict[str, Any]) -> bool:
    """Whether an optimizer of a board is what everything is measured against: in leagues it may be
    there at another budget, and then it is not.
    """
    leagues = report.get("leagues")
    budget = leagues["reference"]["budget"] if leagues else board.budget
    return label == report["reference"] and board.budget == budget


def sentence_of(board: Board, report: dict[str, Any]) -> list[Piece]:
    """Who ranks first, and how that one and the learned optimizers did against the reference."""
    optimizers = board.content["optimizers"]
    first = [i for i, optimizer in enumerate(optimizers) if optimizer["rank"] == 1]
    learned = [i for i, o in enumerate(optimizers) if o["kind"] == "learned" and i not in first]
    pieces: list[Piece] = []
    for count, i in enumerate(first):
        joint = "" if count == 0 else " and " if count == len(first) - 1 else ", "
        pieces += [Piece("text", joint), Piece("label", optimizers[i]["label"])]
    ranks = " ranks first of " if len(first) == 1 else " share the first rank of "
    pieces.append(Piece("text", f"{ranks}{len(optimizers)} optimizers"))
    spoken = False
    for i in [*first, *learned[:_MOST_LEARNED]]:
        if is_reference(board, optimizers[i]["label"], report):
            continue
        if i in first:
            lead = [Piece("text", " and" if len(first) == 1 else "; ")]
            lead += [Piece("label", optimizers[i]["label"])] if len(first) > 1 else []
        else:
            lead = [Piece("text", "; "), Piece("label", optimizers[i]["label"])]
            lead += [Piece("text", " ranks "), Piece("number", f"{board.path}optimizers.{i}.rank")]
            lead += [Piece("text", " and")]
        pieces += lead + _against(board, i, "it" if spoken else reference_name(report))
        spoken = True
    return [*pieces, Piece("text", f".{_one_run(report)}")]


def _one_run(report: dict[str, Any]) -> str:
    """Why nobody is said to win where each task has one run alone."""
    if report["settings"]["num_seeds"] > 1:
        return ""
    return " One run of a task does not tell chance from skill, so nobody is said to win."


def _against(board: Board, i: int, reference: str) -> list[Piece]:
    path = f"{board.path}optimizers.{i}.against_reference."
    optimizer = board.content["optimizers"][i]
    verdict, tasks = optimizer["verdict"], optimizer["against_reference"]["num_tasks"]
    diverged = [
        Piece("text", ", "),
        Piece("number", f"{board.path}optimizers.{i}.num_diverged_runs"),
        Piece("text", " runs diverged"),
    ]
    return [
        Piece("text", f" {verdict} {reference} ("),
        Piece("number", f"{path}won"),
        Piece("text", " won and "),
        Piece("number", f"{path}lost"),
        Piece("text", f" lost of {tasks} task{'s' if tasks != 1 else ''}, "),
        Piece("number", f"{path}seconds_per_step_ratio"),
        Piece("text", " times the seconds a step"),
        *(diverged if optimizer["num_diverged_runs"] else []),
        Piece("text", ")"),
    ]
