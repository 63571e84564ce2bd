"""What a result means, and what to try next; what is unknown is said to be."""

import numpy as np
import pytest

from learned_opt_lab.cli import verdicts

LOSSES = {"outer_loss_first": 2.0, "outer_loss_last": 1.0}
SCORE = {"learned": 0.25, "adam_tuned": 0.5, "num_tasks": 4}


def curves(path, learned, adam):
    path.mkdir()
    steps = np.ones(3)
    np.savez(
        path / "heldout_curves.npz",
        learned=np.outer(learned, steps),
        adam_tuned=np.outer(adam, steps),
    )


@pytest.mark.parametrize(
    ("learned", "wins", "next_"),
    [
        ([0, 0, 0, 1], 3, "learned-opt evaluate {run} adam --suite heldout --out {run}_heldout"),
        ([0, 1, 2, 1], 1, "learned-opt train {run}/config.json --init-theta {run} --run-dir"),
    ],
)
def test_a_run_is_counted_task_by_task(learned, wins, next_, tmp_path):
    run = tmp_path / "run"
    curves(run, learned, [1] * 4)
    verdict = verdicts.of_run(run, {**LOSSES, "heldout": SCORE})
    assert verdict.line == (
        f"the learned optimizer is below tuned Adam on {wins} of 4 held-out tasks (mean test loss "
        "0.25 against 0.5)"
    )
    assert verdict.next.startswith(next_.format(run=run))


def test_what_is_unknown_of_a_run(tmp_path):
    unknown = {**SCORE, "learned": None}
    verdict = verdicts.of_run(tmp_path, {**LOSSES, "training_family": unknown})
    assert "on an unknown number of 4 tasks of the training family" in verdict.line
    assert "(mean test loss unknown against 0.5)" in verdict.line
    (tmp_path / "heldout_curves.npz").write_bytes(b"PK cut")
    assert verdicts.wins_of(tmp_path / "heldout_curves.npz") is None
    unscored = verdicts.of_run(tmp_path, LOSSES)
    assert unscored.line == "no task was scored, so whether it is below Adam is unknown"


def report(losses, to_come=()):
    rows = [
        {"optimizer": label, "task": task, "test_loss": {"estimate": loss}}
        for label, own in losses.items()
        for task, loss in enumerate(own)
    ]
    ranked = [{"label": label} for label in losses]
    return {
        "suite": {"name": "quick"},
        "optimizers": ranked, "rows": rows, "reference": "adam",
        "progress": {"to_come": list(to_come)},
    }  # fmt: skip


def test_an_evaluation(tmp_path):
    of = lambda *args: verdicts.of_report(report(*args), tmp_path, ("mine=run", "adam"))
    verdict = of({"mine": [1, 2, 3], "adam": [2, 1, 4]})
    assert verdict.line == "mine ranks first of 2; it ends below adam on 2 of 3 tasks"
    assert verdict.next == (
        f"learned-opt evaluate mine=run adam --suite heldout --out {tmp_path}_heldout"
    )
    behind = of({"adam": [1, 1], "mine": [2, None]})
    assert behind.line == "adam ranks first of 2; mine ends below adam on 0 of 2 tasks, 1 unknown"
    assert of({}, ["a"]) == ("no task is complete, so nothing is known yet", "")
    assert of({"adam": [1]}, ["b"]) == ("adam ranks first of 1", "")


def test_an_ablation():
    found = {"best": "full_es", "findings": ["Lowest outer loss: FullES, 1."]}
    assert verdicts.of_ablation(found, "quadratic") == (
        "Lowest outer loss: FullES, 1.", "learned-opt train quadratic estimator:full-es",
    )  # fmt: skip
    assert verdicts.of_ablation({**found, "best": "fixed_10"}, "quadratic").next == ""


def test_a_search(tmp_path):
    better = verdicts.of_search({"mean": -0.5, "start": 0.0}, tmp_path)
    assert better.line == "the search ends at a score of -0.5, below the start's 0"
    assert "unknown" in verdicts.of_search({"mean": float("nan"), "start": 0.0}, tmp_path).line
    assert "unknown" in verdicts.of_search(None, tmp_path).line


def test_a_batch(tmp_path):
    rows = [
        {"run_dir": tmp_path / "b" / name, "score": score, "outer_loss": loss}
        for name, score, loss in (("x", None, 2.0), ("y", None, 1.0), ("z", None, None))
    ]
    assert verdicts.of_batch(rows).line == "y has the lowest outer loss of 3 runs, 1"
    assert verdicts.of_batch(rows[2:]).line == "the losses of all runs are unknown"
