"""The cross-entropy method finds a rate that Adam's do not beat,
and its score is the one it says.
"""

import numpy as np
import pytest

from configs import base
from learned_opt_lab.evaluation.baselines import LEARNING_RATES
from learned_opt_lab.searches import cross_entropy, start_search
from tasks.analytic.random_quadratic import random_quadratic_family
from tests.support.lab.adam_starts import OPTIMIZER


def test_scores_in_closed_form():
    adam = np.full((6, 2, 8), 0.5)
    losses = np.stack([np.full((2, 8), 0.5), np.full((2, 8), 0.1), np.full((2, 8), np.nan)])
    want = 2.0 * np.log((np.array([0.5, 0.1, 10.0]) + 4e-3) / 0.504)
    scores = cross_entropy.score(losses, adam, base.StartSearch())
    np.testing.assert_allclose(scores, np.clip(want, -2.0, 4.0), rtol=1e-12)


def test_adam_is_given_the_lower_rates_of_its_tuning():
    assert base.StartSearch().adam_learning_rates == LEARNING_RATES[:6]


def test_the_search_leaves_a_rate_that_is_far_too_small():
    search = base.StartSearch(num_generations=5, population=32, num_steps=40)
    candidates = start_search.start_search(base.TrainConfig(optimizer=OPTIMIZER, search=search))
    reports = []
    found, scores = cross_entropy.minimize(
        candidates, [random_quadratic_family(4, 0.1, 1.0)], search,
        report=lambda now, so_far: reports.append((now, list(so_far))),
    )  # fmt: skip
    assert found.mean[0] > np.log(1e-3) + 0.5
    assert scores[-1].mean < scores[-1].start
    assert scores[0].mean == pytest.approx(scores[0].start)
    assert [so_far for _, so_far in reports] == [scores[: i + 1] for i in range(5)]
    np.testing.assert_array_equal(reports[-1][0].mean, found.mean)


def test_a_candidate_of_unknown_score_is_drawn_around_by_nobody():
    scores = np.array([np.nan, 3.0, 1.0, np.inf, 2.0])
    np.testing.assert_array_equal(cross_entropy._lowest(scores, 4, 0), [2, 4, 1])
    np.testing.assert_array_equal(cross_entropy._lowest(scores, 2, 0), [2, 4])
    with pytest.raises(ValueError, match="fewer than two candidates of generation 7"):
        cross_entropy._lowest(np.array([np.nan, 1.0]), 4, 7)
