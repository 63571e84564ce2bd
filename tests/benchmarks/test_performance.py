"""Counted flop, rows of the update benchmark, and refused arguments."""

import pytest

from benchmarks import outer_training, scaling, update_cost


def test_flop_of_w1_are_counted_by_hand():
    family, _ = outer_training.w1_family(num_images=2000)
    parameters = 64 * 32 + 32 + 32 * 10 + 10
    one = 2 * (7 * 32 + 32 * 2) * parameters + 6 * 128 * parameters
    two = 2 * (7 * 32 + 32 * 32 + 32 * 2) * parameters + 6 * 128 * parameters
    assert outer_training.counted_flop(family, 128, (32,), differentiated=False) == one
    assert outer_training.counted_flop(family, 128, (32, 32), differentiated=True) == 3 * two


def test_rows_of_optax_updates():
    rows = {row["optimizer"]: row for row in update_cost.run((1000,), 1, ("sgd",))}
    assert set(rows) == {"sgd", "adam"}
    assert rows["adam"]["ratio_to_adam"] == 1.0
    assert rows["sgd"]["state_bytes_per_parameter"] == 0.0
    assert rows["adam"]["state_bytes_per_parameter"] == pytest.approx(8.0, abs=0.01)
    assert 900 <= rows["adam"]["parameters"] <= 1100


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="counts must be at least 1, got 0 repeats"):
        update_cost.run((1000,), 0)
    with pytest.raises(ValueError, match="axis must be one of pairs"):
        scaling.measure("depth", (1,))
