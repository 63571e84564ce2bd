"""What a result means, in a line, from numbers that are there already; and what to try next.

What is unknown is said to be: a loss that no run measured is neither good nor bad.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from configs.base import Estimator, kinds_of
from learned_opt_lab.results.folder import show

SCORED = {"heldout": "held-out tasks", "training_family": "tasks of the training family"}
"""Part of `summary.json` -> what was scored."""

LARGER = {"quick": "heldout", "real_quick": "real"}
"""A suite for a first look -> the one that is worth the time then."""


class Verdict(NamedTuple):
    """A line, and a command."""

    line: str
    next: str


def command(*words: str | Path) -> str:
    """A command as a shell reads it."""
    return shlex.join(["learned-opt", *map(str, words)])


def of_run(path: Path, summary: Mapping[str, Any]) -> Verdict:
    """Of a run that is complete: on how many of the scored tasks it is below tuned Adam.

    Args:
      path: the run directory.
      summary: what is in its `summary.json`.
    """
    evaluate = command("evaluate", path, "adam", "--suite", "heldout", "--out", f"{path}_heldout")
    name = next((each for each in SCORED if each in summary), None)
    if name is None:
        return Verdict("no task was scored, so whether it is below Adam is unknown", evaluate)
    score, wins = summary[name], wins_of(path / f"{name}_curves.npz")
    total = score["num_tasks"]
    count = "an unknown number" if wins is None else str(wins)
    line = (
        f"the learned optimizer is below tuned Adam on {count} of {total} {SCORED[name]} "
        f"(mean test loss {show(score['learned'])} against {show(score['adam_tuned'])})"
    )
    if wins is not None and 2 * wins < total:
        further = ("--init-theta", path, "--run-dir", f"{path}_longer")
        return Verdict(line, command("train", path / "config.json", *further))
    return Verdict(line, evaluate)


def wins_of(path: Path) -> int | None:
    """Tasks on which the learned optimizer's mean test loss is below tuned Adam's;
    None where the curves are not there, or are damaged.
    """
    try:
        with np.load(path) as curves:
            learned, adam = (curves[name].mean(axis=1) for name in ("learned", "adam_tuned"))
    except Exception:  # whatever a damaged file raises
        return None
    return int((learned < adam).sum())


def of_batch(rows: Sequence[Mapping[str, Any]]) -> Verdict:
    """Of several runs: which has the lowest score, or outer loss where none was scored."""
    for name, what in (("score", "score"), ("outer_loss", "outer loss")):
        if known := [row for row in rows if row[name] is not None]:
            best = min(known, key=lambda row: row[name])
            path = best["run_dir"]
            line = f"{path.name} has the lowest {what} of {len(rows)} runs, {show(best[name])}"
            words = ("evaluate", path, "adam", "--suite", "heldout")
            return Verdict(line, command(*words, "--out", f"{path.parent}_heldout"))
    return Verdict("the losses of all runs are unknown", "")


def of_report(report: Mapping[str, Any], out: Path, specs: Sequence[str]) -> Verdict:
    """Of an evaluation: who is first, and on how many tasks it, or the best of the others, ends
    below the reference. After a quick suite the next one is its large sister.

    Args:
      report: what is in `report.json`.
      out: the folder.
      specs: the optimizers as they were given.
    """
    if not (ranked := report["optimizers"]):
        return Verdict("no task is complete, so nothing is known yet", "")
    reference = report["reference"]
    others = [each["label"] for each in ranked if each["label"] != reference]
    line = f"{ranked[0]['label']} ranks first of {len(ranked)}"
    if others:
        losses: dict[str, dict[str, float | None]] = {}
        for row in report["rows"]:
            losses.setdefault(row["optimizer"], {})[row["task"]] = row["test_loss"]["estimate"]
        who = "it" if others[0] == ranked[0]["label"] else others[0]
        line += f"; {who} ends below {reference} on {_below(losses, others[0], reference)}"
    larger = LARGER.get(report["suite"]["name"])
    if larger is None or report["progress"]["to_come"]:
        return Verdict(line, "")
    return Verdict(line, command("evaluate", *specs, "--suite", larger, "--out", f"{out}_{larger}"))


def _below(losses: Mapping[str, Mapping[str, float | None]], label: str, reference: str) -> str:
    """On how many tasks; those that one of both has no loss of are unknown."""
    own, other = losses.get(label, {}), losses.get(reference, {})
    pairs = [(own[task], other.get(task)) for task in own]
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    if not known:
        return "an unknown number of tasks"
    unknown = f", {len(pairs) - len(known)} unknown" if len(known) < len(pairs) else ""
    return f"{sum(a < b for a, b in known)} of {len(pairs)} tasks{unknown}"


def of_search(scores: Mapping[str, float] | None, out: Path) -> Verdict:
    """Of a search: the last generation's mean against its start; lower is better."""
    if scores is None:
        line = "the score of the last generation is unknown"
    else:
        before, start = scores["mean"], scores["start"]
        known = np.isfinite([before, start]).all()
        word = ("below" if before < start else "not below") if known else "against"
        line = f"the search ends at a score of {show(before)}, {word} the start's {show(start)}"
    return Verdict(line, command("evaluate", out / "theta.npz", "adam", "--out", f"{out}_quick"))


def of_ablation(result: Mapping[str, Any], config: str | Path) -> Verdict:
    """Of an ablation: its first finding; what is best is trained next, if it is an estimator."""
    kind = kinds_of(Estimator).get(result["best"])
    following = command("train", config, f"estimator:{kind.word}") if kind else ""
    return Verdict(result["findings"][0], following)
