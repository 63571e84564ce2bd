"""The leagues in `report.json`: one board for each budget, all against one reference.

A board has what a report has at its top (optimizers with ranks and intervals, rows, pairs,
profiles), and how long each optimizer needs to the reference's losses, tuning included. The
reference is the hand-designed optimizer that was best at the largest budget, by validation losses.
"""

from typing import Any

import numpy as np

from learned_opt_lab.evaluation import measures
from learned_opt_lab.evaluation.leagues.contestants import league_rival
from learned_opt_lab.evaluation.leagues.run import EQUAL, UNTUNED, LeagueResults
from learned_opt_lab.evaluation.leagues.time_to_target import time_to_target
from learned_opt_lab.evaluation.suite.entries import Entry
from learned_opt_lab.evaluation.suite.report import (
    Against,
    build_board,
    header,
    tasks_that_ran,
)
from learned_opt_lab.evaluation.suite.run import Results
from learned_opt_lab.evaluation.suite.settings import Settings
from learned_opt_lab.results.folder import finite
from tasks import Suite

DEFINITIONS = {
    UNTUNED: "nobody tunes: every optimizer at its published default, a learned one as it is; "
    "knows_horizon says whose schedule is told the number of steps",
    EQUAL: "every optimizer tries the same number of configurations, the default first and then "
    "random draws from its search space; a larger budget keeps those of a smaller one. A learned "
    "optimizer searches its rate, weight decay and schedule",
    "chosen": "the configuration with the lowest final validation loss, mean over tuning runs, "
    "which are other runs than those reported",
    "reference": "the hand-designed optimizer with the lowest final validation loss at the "
    "largest budget, on the scale of each task from the best of them to no progress, mean over "
    "tasks",
    "cost": "runs of a search times their steps times measured seconds a step; a budget of 1 "
    "searches nothing",
    "time_to_target": "share of tasks on which an optimizer's median time to the target is at most "
    "a ratio times the fastest optimizer's; the score is the area under it up to a ratio of 4",
}


def league_report(
    suite: Suite, entries: list[Entry], settings: Settings, results: LeagueResults
) -> dict[str, Any]:
    """The content of `report.json`.

    Its top is the board of the largest budget; `leagues` holds all boards.

    Raises:
      ValueError: when no task could be run.
    """
    largest = max(results.cells)
    reference = choose_reference(suite, entries, settings, results)
    own = {
        task: cell for (task, label), cell in results.cells[largest].items() if label == reference
    }
    (entry,) = (entry for entry in entries if entry.label == reference)
    boards = {
        budget: _board(suite, entries, results, budget, Against(entry, own))
        for budget in results.cells
    }
    untuned = boards[1] if UNTUNED in settings.leagues else None
    equal = sorted(set(settings.budgets)) if EQUAL in settings.leagues else []
    leagues = {
        "definitions": DEFINITIONS,
        "reference": {"label": reference, "budget": largest, "is_tuned": largest > 1},
        UNTUNED: untuned,
        EQUAL: {str(budget): boards[budget] for budget in equal},
    }
    head = header(suite, settings, reference, results.skipped)
    league = EQUAL if equal and largest == max(equal) else UNTUNED
    return finite(head | boards[largest] | {"league": league, "leagues": leagues})


def main_results(results: LeagueResults) -> Results:
    """The cells that the top of the report is of."""
    return Results(results.cells[max(results.cells)], results.skipped, results.started)


def choose_reference(
    suite: Suite, entries: list[Entry], settings: Settings, results: LeagueResults
) -> str:
    """Label of the reference: the one that the settings name, or the best hand-designed one.

    Test losses have no part in the choice. Of equals it is the first.
    """
    if settings.reference is not None:
        return settings.reference
    candidates = [entry.label for entry in entries if entry.kind == "baseline"]
    cells, gaps = results.cells[max(results.cells)], []
    for task in tasks_that_ran(suite, results.skipped):
        losses = [cells[task.name, label].curves["outer_valid"]["loss"] for label in candidates]
        final = np.asarray([measures.final_losses(each, task.loss_cap).mean() for each in losses])
        start = float(measures.cap_losses(losses[0], task.loss_cap)[:, 0].mean())
        none = np.zeros(len(final), bool)
        gaps.append(measures.normalized_scores(final, none, start, final.min()))
    return candidates[int(np.mean(gaps, axis=0).argmin())]


def _board(
    suite: Suite, entries: list[Entry], results: LeagueResults, budget: int, against: Against
) -> dict[str, Any]:
    cells = results.cells[budget]
    board = build_board(suite, entries, Results(cells, results.skipped, results.started), against)
    for row in board["rows"]:
        record = cells[row["task"], row["optimizer"]].record
        row |= {"cost": record["cost"], "knows_horizon": record["knows_horizon"]}
        for name in ("steps_to_target", "steps_to_best"):
            row[name]["seconds_with_tuning"] = row[name]["seconds"] + record["cost"]["seconds"]
    profiles = {
        name: time_to_target(board["rows"], f"steps_to_{name}") for name in ("target", "best")
    }
    by_label = {entry.label: entry for entry in entries}
    for optimizer in board["optimizers"]:
        rival = league_rival(by_label[optimizer["label"]])
        rows = [row for row in board["rows"] if row["optimizer"] == optimizer["label"]]
        optimizer |= {
            "default": dict(rival.space.default),
            "default_source": rival.source,
            "knows_horizon": any(row["knows_horizon"] for row in rows),
            "speed": {
                unit: profile["scores"][optimizer["label"]]
                for unit, profile in profiles["best"]["units"].items()
            },
            "cost": {
                name: sum(row["cost"][name] for row in rows)
                for name in ("runs", "steps", "seconds")
            },
        }
    return {"budget": budget, **board, "time_to_target": profiles}
