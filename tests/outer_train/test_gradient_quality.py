"""Size, spread and angle of estimates that are huge, tiny, few or unknown."""

import numpy as np
import pytest

from outer_train.gradient_quality import Estimates, cosine, norm, reliability, summarize


def test_estimates_without_a_finite_sample_are_left_out():
    grads = np.array([[3.0, 4.0], [np.nan, np.nan], [3.0, -4.0]])
    found = summarize(Estimates(grads, np.array([1.0, np.nan, 2.0]), 9), np.array([2.0, 0.0]))
    assert (found.norm, found.mean_norm, found.loss) == pytest.approx((3.0, 5.0, 1.5))
    assert found.variance == pytest.approx(16)
    assert (found.cosine, found.mean_cosine) == pytest.approx((1.0, 0.6))


def test_of_no_estimate_nothing_is_known_and_one_has_no_spread():
    nothing = Estimates(np.full((2, 3), np.nan), np.full(2, np.nan), 8)
    found = summarize(nothing, np.ones(3))
    assert np.isnan(found[:-1]).all()
    assert found.num_non_finite == 8
    assert np.isnan(reliability(nothing))
    one = summarize(Estimates(np.array([[3.0, 4.0], [np.nan, 1.0]]), np.ones(2), 0), np.ones(2))
    assert one.norm == pytest.approx(5)
    assert np.isnan(one.variance)


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e200])
def test_norms_and_angles_of_any_size(scale):
    a, b = np.array([3.0, 4.0]) * scale, np.array([4.0, 3.0]) * scale
    assert norm(a) == pytest.approx(5 * scale)
    assert cosine(a, b) == pytest.approx(24 / 25)
    assert cosine(a, b / scale) == pytest.approx(24 / 25)
    for other in (np.zeros(2), np.array([np.nan, 1.0]), np.array([np.inf, 1.0])):
        assert np.isnan(cosine(a, other))
