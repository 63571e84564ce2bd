"""Learned optimizers beside each other optimizer of a board, not only beside the reference."""

from collections.abc import Mapping
from typing import Any

from learned_opt_lab.drawing.markdown import code, show, table


def pairs_of(board: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a page keeps of a board: how often a run of a learned optimizer, `x`, ends below one of
    another, `y`, and on how many tasks.
    """
    learned = {each["label"] for each in board["optimizers"] if each["kind"] == "learned"}
    return [pair for pair in board["probability_of_improvement"] if pair["x"] in learned]


def pair_tables(board: Mapping[str, Any]) -> list[str]:
    """A table for each learned optimizer, in Markdown, from what is kept of a board."""
    lines: list[str] = []
    labels = [each["label"] for each in board["optimizers"]]
    pairs = {(pair["x"], pair["y"]): pair for pair in board["pairs"]}
    for learned in dict.fromkeys(x for x, _ in pairs):
        others = [label for label in labels if (learned, label) in pairs]
        rows = [
            (code(other), _said(pair), f"{pair['won']}, {pair['lost']} of {pair['num_tasks']}")
            for other, pair in ((other, pairs[learned, other]) for other in others)
        ]
        said = f"A run of {code(learned)} ends below one of another optimizer on the same task:"
        lines += ["", said, "", *table(("beside", "how often", "tasks won, lost"), rows)]
    return lines


def _said(pair: Mapping[str, Any]) -> str:
    ends = [show(pair[name]) for name in ("low", "high") if pair[name] is not None]
    return show(pair["estimate"]) + (f" [{', '.join(ends)}]" if ends else "")
