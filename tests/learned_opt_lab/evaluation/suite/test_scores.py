"""Scores and their intervals, against loops and by how often an interval holds the truth."""

import numpy as np
import pytest

from learned_opt_lab.evaluation import measures, statistics
from learned_opt_lab.evaluation.suite.scores import Finals, finals_of

NONE = np.zeros((4, 3), bool)
RNG = np.random.default_rng(0)
FINAL, REFERENCE = RNG.uniform(0.1, 0.4, (2, 4, 3))
START = np.asarray([1.0, 2.0, 0.9, 1.5])


def test_scores_by_hand():
    found = Finals(np.asarray([[0.2, 0.4]]), NONE[:1, :2], np.ones(1), np.asarray([[0.1, 0.3]]))
    np.testing.assert_allclose(found.scores, [[0.0, 0.25]])


def test_the_interval_equals_a_loop_that_draws_the_reference_with_it():
    found = Finals(FINAL, NONE, START, REFERENCE).interval(statistics.mean)
    drawn = np.random.default_rng(0).integers(3, size=(statistics.NUM_RESAMPLES, 4, 2))
    means = []
    for of_tasks in drawn:
        of_task = []
        for t, runs in enumerate(of_tasks):
            reference = REFERENCE[t][runs].mean()
            of_task.append(((FINAL[t][runs] - reference) / (START[t] - reference)).mean())
        means.append(np.mean(of_task))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))


def test_the_reference_is_level_with_itself_and_nothing_is_luck():
    found = Finals(REFERENCE, NONE, START, REFERENCE).interval(statistics.mean)
    assert found == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)


def interval(shared, of_reference_too):
    """Of two optimizers of one distribution, ten tasks of three runs; the reference's mean is known
    or it is not.
    """
    noise = RNG.normal(size=(3, 10, 3))
    final, reference = 0.3 + 0.03 * (shared * noise[0] + np.sqrt(1 - shared**2) * noise[1:])
    if not of_reference_too:
        reference = np.broadcast_to(reference.mean(axis=1, keepdims=True), (10, 3))
    return Finals(final, np.zeros((10, 3), bool), np.ones(10), reference).interval()


@pytest.mark.parametrize("shared", [0.0, 0.7])
def test_an_interval_holds_the_truth_about_as_often_as_it_says(shared):
    number = 200
    found = [interval(shared, True) for _ in range(number)]
    held = np.mean([each.low <= 0 <= each.high for each in found])
    # Within three standard deviations of 93 %: three runs are few for a bootstrap.
    assert held > 0.93 - 3 * np.sqrt(0.93 * 0.07 / number)


def test_without_the_luck_of_the_reference_it_does_not():
    found = [interval(0.0, False) for _ in range(200)]
    assert np.mean([each.low <= 0 <= each.high for each in found]) < 0.88


def test_a_lost_run_of_the_reference_does_not_set_the_scale():
    row = {
        "start_loss": 0.7,
        "test_loss": {"runs": [0.1, 0.1, 10.0]},
        "diverged_runs": [{"run": 2, "first_non_finite_step": 5}],
    }
    other = row | {"test_loss": {"runs": [0.1, 0.1, 0.1]}, "diverged_runs": []}
    reference, fine = (finals_of([each], [row]).scores[0] for each in (row, other))
    assert reference[2] == measures.WORST_SCORE
    np.testing.assert_allclose(fine, -0.2 / 0.4)
    np.testing.assert_allclose(reference[:2], fine[:2])
