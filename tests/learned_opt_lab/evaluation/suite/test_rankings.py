"""Ranks by hand: what is unknown is last, and equals share a rank."""

import numpy as np
import pytest

from learned_opt_lab.evaluation.suite import rankings
from learned_opt_lab.evaluation.suite.entries import Entry

SCORES = {"unknown": np.nan, "adam": 0.0, "same": 0.5, "again": 0.5, "worst": 2.0}


def make_rows(scores):
    rows = []
    for task in ("a", "b"):
        for label, score in scores.items():
            steps = {
                "steps": 10.0,
                "steps_ratio": 1.0,
                "steps_ratio_runs": [1.0] * 3,
                "seconds_ratio_runs": [1.0] * 3,
            }
            rows.append(
                {
                    "task": task,
                    "optimizer": label,
                    "normalized": {"runs": [score] * 3},
                    "validation_loss": {"estimate": score},
                    "test_loss": {"estimate": score, "runs": [score] * 3},
                    "start_loss": 1.0,
                    "num_runs": 3,
                    "seconds_per_step": 1e-3,
                    "divergence_rate": 0.0,
                    "diverged_runs": [],
                    "steps_to_target": steps,
                    "steps_to_best": steps,
                }
            )
    return rows


@pytest.mark.parametrize("order", [list(SCORES), list(SCORES)[::-1]])
def test_unknown_is_last_and_equals_share_a_rank(order):
    entries = [Entry(label, label, baseline="adam") for label in order]
    rows = make_rows({label: SCORES[label] for label in order})
    ranked = rankings.summaries(entries, rows, [r for r in rows if r["optimizer"] == "adam"])
    assert {s["label"]: s["rank"] for s in ranked} == {
        "adam": 1,
        "same": 2,
        "again": 2,
        "worst": 4,
        "unknown": 5,
    }
    assert [s["label"] for s in ranked][::4] == ["adam", "unknown"]
    unknown = ranked[-1]
    assert np.isnan(unknown["normalized"]["estimate"])
    assert np.isnan(unknown["improvement_over_reference"]["estimate"])
    assert unknown["validation_at_most_reference"] == {"tasks": 0, "num_tasks": 0}


@pytest.mark.parametrize("order", [["adam", "high", "nan"], ["nan", "high", "adam"]])
def test_what_is_no_number_is_behind_what_is_only_high(order):
    scores = {"adam": 0.0, "high": 3.0, "nan": 10.0}
    rows = make_rows({label: scores[label] for label in order})
    for row in rows:
        if row["optimizer"] != "adam":
            step = 5 if row["optimizer"] == "nan" else None
            runs = [{"run": run, "first_non_finite_step": step} for run in range(3)]
            row |= {"diverged_runs": runs, "divergence_rate": 1.0}
    entries = [Entry(label, label, baseline="adam") for label in order]
    ranked = rankings.summaries(entries, rows, [r for r in rows if r["optimizer"] == "adam"])
    assert [(s["label"], s["rank"]) for s in ranked] == [("adam", 1), ("high", 2), ("nan", 3)]
    assert [s["normalized"]["estimate"] for s in ranked] == [0.0, 2.0, 2.0]
    assert [s["num_lost_tasks"] for s in ranked] == [0, 2, 2]
    assert ranked[2]["num_non_finite_runs"] == 6


def test_who_loses_all_runs_of_a_task_beats_nobody():
    interval = lambda low, high: {"estimate": (low + high) / 2, "low": low, "high": high}
    summary = {
        "normalized": interval(-0.3, -0.1),
        "improvement_over_reference": interval(0.6, 0.8),
    }
    assert rankings.verdict_of(summary | {"num_lost_tasks": 0}) == "beats"
    assert rankings.verdict_of(summary | {"num_lost_tasks": 1}) == "is level with"


def test_profile_of_the_unknown_is_unknown():
    found = rankings.profiles([Entry(label, label) for label in SCORES], make_rows(SCORES))
    assert np.isfinite(found["thresholds"]).all()
    assert np.isnan(found["shares"]["unknown"]).all()
    assert found["shares"]["worst"][-1] == 1.0
