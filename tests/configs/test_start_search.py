"""The search for a start finds one that Adam's rates do not beat, and keeps to what it is asked."""

import dataclasses

import numpy as np
import pytest

from configs import base, start_search
from configs.build import build_optimizer
from tasks.random_quadratic import random_quadratic_family

OPTIMIZER = base.Mlp(
    hidden_sizes=(4,),
    timescales=(10.0, 100.0),
    features=("adam_momentum", "parameter", "log_parameter"),
    exp_multiplier=1.0,
    output_init_scale=0.01,
    adam_learning_rate=1e-3,
    adam_exponents=(0.0,),
    adam_time_exponents=(0.0, 0.0),
)


def test_scores_in_closed_form():
    adam = np.full((6, 2, 8), 0.5)
    losses = np.stack([np.full((2, 8), 0.5), np.full((2, 8), 0.1), np.full((2, 8), np.nan)])
    want = 2.0 * np.log((np.array([0.5, 0.1, 10.0]) + 4e-3) / 0.504)
    np.testing.assert_allclose(start_search.score(losses, adam), np.clip(want, -2.0, 4.0), rtol=1e-12)


def test_a_candidate_is_the_start_it_says():
    found = start_search.started_at(OPTIMIZER, np.array([np.log(0.02), 0.5, -0.1, 0.2, 0.03]))
    assert found.adam_learning_rate == pytest.approx(0.02)
    assert (found.adam_exponents, found.adam_time_exponents) == ((0.5,), (-0.1, 0.2))
    assert found.adam_weight_decay == pytest.approx(0.03)
    build_optimizer(found)
    with pytest.raises(ValueError, match="start_search needs"):
        start_search.start(dataclasses.replace(OPTIMIZER, adam_exponents=None))


def test_the_search_leaves_a_rate_that_is_far_too_small():
    config = base.TrainConfig(optimizer=OPTIMIZER)
    found, scores = start_search.search(config, [random_quadratic_family(4, 0.1, 1.0)], 5, 32, 40)
    assert found.mean[0] > np.log(1e-3) + 0.5
    assert scores[-1] < scores[0]
