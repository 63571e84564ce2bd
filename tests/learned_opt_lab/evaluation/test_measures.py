"""Measures on curves whose answers are read off by eye."""

import numpy as np
import pytest

from learned_opt_lab.evaluation import measures


def test_final_loss_is_the_mean_of_the_last_tenth_capped():
    curve = np.concatenate([np.full(18, 9.0), [2.0, np.nan]])
    assert measures.final_losses(curve, cap=10.0) == pytest.approx(6.0)
    assert measures.final_losses([1.0, 2.0, 3.0], cap=10.0) == 3.0


def test_smooth_is_a_trailing_mean():
    curve = np.arange(40.0)
    expected = [np.mean(curve[max(0, i - 3) : i + 1]) for i in range(40)]
    np.testing.assert_allclose(measures.smooth(curve, cap=100.0), expected)


def test_steps_to_counts_steps_and_says_inf():
    curves = [[5.0, 3.0, 1.0, 0.5], [5.0, 4.0, 4.0, 4.0], [np.nan, np.nan, 0.1, np.nan]]
    np.testing.assert_array_equal(
        measures.steps_to(curves, 1.0, eval_every=10, cap=10.0), [20, np.inf, 20]
    )


def test_a_falling_curve_reaches_its_own_final_loss():
    """The last tenth is what both smooth over; their sums differ by rounding."""
    for seed in range(20):
        curve = np.sort(np.random.default_rng(seed).uniform(size=(1, 101)))[:, ::-1]
        target = measures.final_losses(curve, 10.0)[0]
        assert measures.steps_to(curve, target, eval_every=1, cap=10.0)[0] == 100


def test_divergence_is_not_finite_or_twice_the_start():
    fine = [2.0, 1.0, 1.0]
    test = np.array([fine, [2.0, np.inf, 1.0], [2.0, 3.0, 3.9], [2.0, 3.0, 4.1]])
    train = np.array([[2.0, np.nan, 1.0], fine, fine, fine])
    np.testing.assert_array_equal(
        measures.diverged({"test": test}, 10.0), [False, True, False, True]
    )
    np.testing.assert_array_equal(
        measures.diverged({"test": test, "train": train}, 10.0), [True, True, False, True]
    )
    assert measures.first_non_finite_step({"test": test, "train": train}, 0, eval_every=5) == 5
    assert measures.first_non_finite_step({"test": test}, 3, eval_every=5) is None


def test_normalized_scores_by_hand():
    scores = measures.normalized_scores(
        [0.5, 2.5, 0.0, 9.0, 0.1], [False] * 4 + [True], start=2.5, reference=0.5
    )
    np.testing.assert_allclose(scores, [0.0, 1.0, -0.25, 2.0, 2.0])
    # A reference that went nowhere: the scale is a hundredth of the start.
    np.testing.assert_allclose(
        measures.normalized_scores([1.99], [False], start=2.0, reference=2.0), [-0.5]
    )
