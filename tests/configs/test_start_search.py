"""A candidate of the search for a start is the start that its numbers say."""

import dataclasses

import numpy as np
import pytest

from configs import base, start_search
from configs.build import build_optimizer

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


def test_a_candidate_is_the_start_it_says():
    found = start_search.started_at(OPTIMIZER, np.array([np.log(0.02), 0.5, -0.1, 0.2, 0.03]))
    assert found.adam_learning_rate == pytest.approx(0.02)
    assert (found.adam_exponents, found.adam_time_exponents) == ((0.5,), (-0.1, 0.2))
    assert found.adam_weight_decay == pytest.approx(0.03)
    build_optimizer(found)
    with pytest.raises(ValueError, match="start_search needs"):
        start_search.start(dataclasses.replace(OPTIMIZER, adam_exponents=None))
