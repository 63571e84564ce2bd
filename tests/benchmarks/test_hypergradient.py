"""The cost of an adaptive learning rate, measured beside its inner optimizer."""

import pytest

from benchmarks import hypergradient


@pytest.mark.slow
def test_a_step_of_marthe_costs_at_most_four_plain_steps():
    """Counted, not timed: a busy machine makes any ratio of seconds."""
    ratios = hypergradient.count()
    assert max(row["marthe"] for row in ratios["flops"].values()) <= 2.5
    assert max(row["marthe"] for row in ratios["bytes"].values()) <= 4


@pytest.mark.slow
def test_every_method_is_timed():
    ratio = hypergradient.run(num_repeats=1, num_steps=1, batch_size=2)["ratio"]
    assert all(set(row) == {"hd", "rtho", "marthe"} for row in ratio.values())


def test_bad_counts_are_refused():
    with pytest.raises(ValueError, match="counts must be at least 1, got 0"):
        hypergradient.run(num_repeats=0)
