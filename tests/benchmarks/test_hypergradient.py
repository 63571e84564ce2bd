"""The cost of an adaptive learning rate, measured beside its inner optimizer."""

import pytest

from benchmarks import hypergradient


@pytest.mark.slow
def test_a_step_of_marthe_costs_at_most_four_plain_steps():
    ratio = hypergradient.run(num_repeats=15)["ratio"]
    assert max(row["marthe"] for row in ratio.values()) <= 4


def test_bad_counts_are_refused():
    with pytest.raises(ValueError, match="counts must be at least 1, got 0"):
        hypergradient.run(num_repeats=0)
