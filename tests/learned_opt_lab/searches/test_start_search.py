"""A candidate of the search for a start is the start that its numbers say."""

import dataclasses

import numpy as np
import pytest

from configs import base
from learned_opt_lab.runs.optimizer import build_optimizer
from learned_opt_lab.searches import start_search
from tests.support.lab.adam_starts import OPTIMIZER


def test_a_candidate_is_the_start_it_says():
    found = start_search.started_at(OPTIMIZER, np.array([np.log(0.02), 0.5, -0.1, 0.2, 0.03]))
    assert found.start.learning_rate == pytest.approx(0.02)
    assert (found.start.exponents, found.start.time_exponents) == ((0.5,), (-0.1, 0.2))
    assert found.start.weight_decay == pytest.approx(0.03)
    build_optimizer(found)
    for missing in ({"learning_rate": None}, {"exponents": ()}, {"time_exponents": ()}):
        start = dataclasses.replace(OPTIMIZER.start, **missing)
        config = base.TrainConfig(
            optimizer=dataclasses.replace(OPTIMIZER, start=start), search=base.StartSearch()
        )
        with pytest.raises(ValueError, match="StartSearch needs"):
            start_search.start_search(config)
