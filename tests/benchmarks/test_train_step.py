"""The benchmark of a whole train step, in small."""

import pytest

from benchmarks import train_step


@pytest.mark.slow
def test_every_optimizer_is_timed():
    found = train_step.run(depth=1, width=8, length=16, batch_size=2, num_repeats=1)
    assert set(found["ratio_to_adamw"]) == set(train_step.OPTIMIZERS)
    assert found["num_parameters"] == 256 * 8 + 16 * 8 + 12 * 64 + 13 * 8 + 16


def test_bad_counts_are_refused():
    with pytest.raises(ValueError, match="num_repeats must be at least 1, got 0"):
        train_step.run(num_repeats=0)
