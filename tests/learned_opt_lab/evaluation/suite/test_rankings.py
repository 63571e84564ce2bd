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
                    "test_loss": {"estimate": score},
                    "seconds_per_step": 1e-3,
                    "divergence_rate": 0.0,
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


def test_profile_of_the_unknown_is_unknown():
    found = rankings.profiles([Entry(label, label) for label in SCORES], make_rows(SCORES))
    assert np.isfinite(found["thresholds"]).all()
    assert np.isnan(found["shares"]["unknown"]).all()
    assert found["shares"]["worst"][-1] == 1.0
