"""The word of a row follows from a number and its interval alone."""

import numpy as np
import pytest
import scipy.stats

from learned_opt_lab.papers.claims import measured
from learned_opt_lab.papers.claims.measured import Measured, exact, once
from learned_opt_lab.papers.claims.rules import Less, More, Near, Same


def interval(low, high):
    return Measured((low + high) / 2, low, high, "3 seeds")


@pytest.mark.parametrize(
    ("rule", "ours", "word"),
    [
        (More(0), interval(1, 2), "shown"),
        (More(0), interval(-1, 2), "not shown"),
        (More(0), interval(-2, -1), "reversed"),
        (More(0, 8.7), interval(8, 9), "shown"),
        (More(0, 8.7), interval(10, 11), "shown"),
        (More(0, 8.7), interval(7, 8), "direction"),
        (More(0, 8.7), interval(-1, 9), "not shown"),
        (More(0), once(1), "direction"),
        (More(0), once(-1), "not shown"),
        (More(0), exact(1), "shown"),
        (More(0), exact(0), "not shown"),
        (Less(1), interval(0.5, 0.9), "shown"),
        (Less(1), interval(0.5, 1.1), "not shown"),
        (Less(1), interval(1.1, 1.2), "reversed"),
        (Less(1, 1e-5), interval(0.1, 0.2), "direction"),
        (Less(1, 1e-5), interval(1e-6, 0.2), "shown"),
        (Less(1), once(0.5), "direction"),
        (Near(4.25, 0.05), exact(4.36), "shown"),
        (Near(4.25, 0.01), exact(4.36), "not shown"),
        (Near(4.25, 0.05), interval(4.2, 4.3), "shown"),
        (Near(4.25, 0.05), interval(4.2, 5), "direction"),
        (Near(4.25, 0.05), once(4.25), "direction"),
        (Same(1), interval(-0.5, 0.7), "shown"),
        (Same(1), interval(-3, 3), "direction"),
        (Same(1), interval(2, 3), "not shown"),
        (Same(1), once(2), "not shown"),
    ],
)
def test_word(rule, ours, word):
    assert rule.word(ours) == word


def test_mean_has_the_interval_of_student():
    values = [1.0, 2.0, 4.0]
    found = measured.mean_of(values, "seeds")
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    np.testing.assert_allclose(found[:3], (7 / 3, expected.low, expected.high))
    assert found.over == "3 seeds"
    assert measured.mean_of([2.0], "seeds") == once(2.0)


def test_ratio_is_a_mean_of_logarithms():
    found = measured.ratio_of([1.0, 4.0], "starts")
    assert found.value == pytest.approx(2)
    assert found.low * found.high == pytest.approx(4)


def test_share_has_an_interval_within_zero_and_one():
    found = measured.share_of(9, 10, "tasks")
    np.testing.assert_allclose(found[:3], (0.9, 0.5958, 0.9821), atol=1e-4)
    assert measured.share_of(10, 10, "tasks").high == 1


def test_resampled_interval_holds_the_mean():
    values = np.arange(20.0)
    found = measured.resampled(lambda rows: values[rows].mean(), 20, "seeds")
    assert found.low < found.value == values.mean() < found.high
