"""The learner and its ledger: what counts, what is dropped, and what a step does."""

import jax
import numpy as np
import optax
import pytest

from outer_train.workers.learner import ACCEPTED, DUPLICATE, REFUSED, STALE, Learner, fresh_state
from outer_train.workers.ledger import Ledger
from outer_train.workers.messages import Gradient

SIZE = 3
THETA = {"a": np.zeros(2, np.float32), "b": np.ones((), np.float32)}


def learner(**settings):
    settings = {"gradients_per_step": 2, "max_staleness": 1} | settings
    return Learner(fresh_state(THETA, optax.sgd(1.0)), optax.sgd(1.0), **settings)


def sent(life, sequence, version=0, value=1.0, family=0, size=SIZE):
    means = np.full((1, size), value, np.float32)
    return Gradient(
        0,
        life,
        sequence,
        family,
        version,
        4,
        10,
        80,
        0,
        0,
        1.0,
        0.1,
        0.1,
        means,
        np.ones((1, 1), np.float32),
    )


def test_each_gradient_counts_once():
    ledger = Ledger()
    rng = np.random.default_rng(0)
    # Every message of 5 lives twice or more, lives interleaved, numbers of one life in order.
    stream = [
        (life, number)
        for number in range(40)
        for life in rng.permutation(5)
        for _ in range(rng.integers(1, 4))
    ]
    counted = [entry for entry in stream if ledger.count(*entry)]
    assert len(counted) == len(set(counted)) == ledger.num_counted == 200


def test_a_step_is_the_mean_of_its_batch():
    made = learner()
    assert made.offer(sent(0, 0, value=1.0)) == ACCEPTED
    assert not made.is_ready()
    assert made.offer(sent(1, 0, value=3.0)) == ACCEPTED
    assert made.is_ready()
    batch, merged = made.step()
    assert [(g.life, g.sequence) for g in batch] == [(0, 0), (1, 0)]
    np.testing.assert_allclose(merged.grad, 2.0)
    np.testing.assert_allclose(made.vector, [-2.0, -2.0, -1.0])
    np.testing.assert_allclose(made.theta["b"], -1.0)
    assert made.step_count == 1


def test_what_is_older_than_the_bound_is_dropped():
    made = learner(gradients_per_step=1)
    for step in range(3):
        assert made.offer(sent(0, step, version=step)) == ACCEPTED
        made.step()
    verdicts = [
        made.offer(sent(1, number, version=version)) for number, version in enumerate((0, 1, 2, 3))
    ]
    assert verdicts == [STALE, STALE, ACCEPTED, ACCEPTED]


def test_duplicates_and_defects_are_told_apart():
    made = learner()
    assert made.offer(sent(0, 0)) == ACCEPTED
    assert made.offer(sent(0, 0)) == DUPLICATE
    assert made.offer(sent(1, 0, value=np.nan)) == REFUSED
    assert made.offer(sent(1, 1, version=7)) == REFUSED
    assert made.offer(sent(1, 2, size=SIZE + 1)) == REFUSED
    assert made.ledger.num_counted == 1


def test_no_family_is_outrun():
    """A fast family fills the batch, but the step waits for the slow one,
    which then counts as much.
    """
    made = learner()
    for number in range(5):
        made.offer(sent(0, number, value=1.0))
    assert not made.is_ready({0, 1})
    made.offer(sent(1, 0, value=5.0, family=1))
    assert made.is_ready({0, 1})
    np.testing.assert_allclose(made.step()[1].grad, 3.0)


def test_a_restored_learner_goes_on():
    made = learner()
    for life in range(2):
        made.offer(sent(life, 0))
    made.step()
    state = made.state(num_lives=7)
    again = Learner(state, optax.sgd(1.0), gradients_per_step=2, max_staleness=1)
    assert (again.step_count, int(state.num_lives)) == (1, 7)
    np.testing.assert_array_equal(again.vector, made.vector)


@pytest.mark.parametrize("settings", [{"gradients_per_step": 0}, {"max_staleness": -1}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match="must be at least 1 and max_staleness at least 0, got"):
        learner(**settings)


def test_a_step_without_a_finite_result_is_not_taken():
    """Unknown gradients, one that overflows theta, and then a sound one."""
    made = Learner(
        fresh_state(THETA, optax.adam(0.1)), optax.adam(0.1), gradients_per_step=1, max_staleness=9
    )
    before = made.state(0)
    nothing = sent(0, 0, value=0.0)._replace(
        num_non_finite=4, loss=np.nan, variances=np.full((1, 1), np.nan)
    )
    # The square of 1e30 is no second moment.
    for number, bad in enumerate((nothing, sent(0, 1, value=1e30))):
        assert made.offer(bad._replace(sequence=number)) == ACCEPTED
        _, merged = made.step()
        assert not merged.taken
        after = made.state(0)
        assert int(after.step) == number + 1
        np.testing.assert_array_equal(made.vector, [0, 0, 1])
        for old, new in zip(
            jax.tree.leaves(before.opt_state), jax.tree.leaves(after.opt_state), strict=True
        ):
            np.testing.assert_array_equal(old, new)
    made.offer(sent(0, 2, version=2))
    assert made.step()[1].taken
    np.testing.assert_allclose(made.vector, [-0.1, -0.1, 0.9], rtol=1e-5)


def test_a_theta_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match=r"theta\['a'\] must be finite, got 1 of 2"):
        fresh_state(THETA | {"a": np.array([0, np.nan], np.float32)}, optax.sgd(1.0))
