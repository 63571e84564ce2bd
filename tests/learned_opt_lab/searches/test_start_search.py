"""A candidate of the search for a start is the start that its numbers say."""

import dataclasses

import numpy as np
import pytest

from configs import base
from learned_opt_lab.runs.build import build_optimizer
from learned_opt_lab.searches import start_search
from tests.support.lab.adam_starts import OPTIMIZER


def test_a_candidate_is_the_start_it_says():
    found = start_search.started_at(OPTIMIZER, np.array([np.log(0.02), 0.5, -0.1, 0.2, 0.03]))
    assert found.adam_learning_rate == pytest.approx(0.02)
    assert (found.adam_exponents, found.adam_time_exponents) == ((0.5,), (-0.1, 0.2))
    assert found.adam_weight_decay == pytest.approx(0.03)
    build_optimizer(found)
    wrong = dataclasses.replace(OPTIMIZER, adam_exponents=None)
    with pytest.raises(ValueError, match="StartSearch needs"):
        start_search.start_search(base.TrainConfig(optimizer=wrong, search=base.StartSearch()))
