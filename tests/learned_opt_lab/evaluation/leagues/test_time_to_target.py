"""Profiles by hand: two optimizers on two tasks."""

import math

import numpy as np
import pytest
import scipy.integrate

from learned_opt_lab.evaluation.leagues.time_to_target import (
    MAX_RATIO,
    ratios_to_fastest,
    scores,
    shares_within,
    time_to_target,
)

STEPS = {
    ("fast", "a"): [10.0, 10.0, 30.0],
    ("slow", "a"): [20.0, 20.0, math.inf],
    ("fast", "b"): [math.inf, math.inf, 5.0],
    ("slow", "b"): [40.0, 50.0, 60.0],
}
SECONDS = {"fast": 2.0, "slow": 0.5}


def rows():
    return [
        {
            "optimizer": label,
            "task": task,
            "steps_to_best": {"runs": steps},
            "seconds_per_step": SECONDS[label],
            "cost": {"seconds": 10.0},
        }
        for (label, task), steps in STEPS.items()
    ]


def test_medians_ratios_and_scores():
    units = time_to_target(rows(), "steps_to_best")["units"]
    assert units["steps"]["times"] == {"fast": [10.0, math.inf], "slow": [20.0, 50.0]}
    assert units["steps"]["ratios_to_fastest"] == {"fast": [1.0, math.inf], "slow": [2.0, 1.0]}
    estimates = {label: score["estimate"] for label, score in units["steps"]["scores"].items()}
    assert estimates == pytest.approx({"fast": 0.5, "slow": (2 / 3 + 1) / 2})
    assert units["seconds"]["times"] == {"fast": [20.0, math.inf], "slow": [10.0, 25.0]}
    assert units["seconds_with_tuning"]["times"] == {"fast": [30.0, math.inf], "slow": [20.0, 35.0]}
    assert units["seconds_with_tuning"]["ratios_to_fastest"]["fast"][0] == 1.5
    for unit in units.values():
        for label, score in unit["scores"].items():
            assert score["low"] <= score["estimate"] <= score["high"], label


def test_a_score_is_the_area_under_its_profile():
    ratios = ratios_to_fastest(np.random.default_rng(0).uniform(1, 9, (5, 7)))
    grid = np.linspace(1, MAX_RATIO, 200_001)
    areas = scipy.integrate.trapezoid(shares_within(ratios, grid), grid) / (MAX_RATIO - 1)
    np.testing.assert_allclose(scores(ratios), areas, atol=1e-4)
    assert (ratios.min(axis=0) == 1).all()


def test_targets_that_nobody_or_everybody_has():
    times = np.array([[math.inf, 0.0], [math.inf, 0.0], [math.inf, 3.0]])
    np.testing.assert_array_equal(
        ratios_to_fastest(times), [[math.inf, 1.0], [math.inf, 1.0], [math.inf, math.inf]]
    )


def test_one_run_has_no_interval():
    alone = [row | {"steps_to_best": {"runs": row["steps_to_best"]["runs"][:1]}} for row in rows()]
    score = time_to_target(alone, "steps_to_best")["units"]["steps"]["scores"]["slow"]
    assert score["estimate"] == pytest.approx((2 / 3 + 1) / 2)
    assert np.isnan([score["low"], score["high"]]).all()
