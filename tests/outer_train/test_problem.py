"""The inner problem: what its steps return, which split they measure,
what clipping does, and what restarts.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.base import LearnedOptimizer
from learned_opt.hand_designed import hyperparameters
from outer_train import estimators, inner_problem, late_weight
from tasks.base import Task, TaskFamily

RATE, TARGETS = 0.25, {"train": 1.0, "outer_valid": 3.0}
T = 6


def _family(scale=1.0):
    """|w - target of the split|^2 / 2 from w = 0: SGD's iterates are w_t = 1 - (1 - rate)^t."""
    loss = lambda w, key, target: (scale * jnp.square(w - target) / 2, {})
    sample_batch = lambda data, key, split: jnp.float32(TARGETS[split])
    task = Task(lambda key: jnp.float32(0), loss, sample_batch)
    return TaskFamily(lambda key: (), lambda task_params: task)


def _episode(problem, theta):
    state, losses = problem.init(theta, jax.random.key(0)), []
    for i in range(T):
        state, loss = problem.step(theta, state, jax.random.key(i), ())
        losses.append(float(loss))
    return np.array(losses)


def _closed_form(split):
    return (1 - (1 - RATE) ** np.arange(1, T + 1) - TARGETS[split]) ** 2 / 2


def _linear():
    """SGD whose rate falls to zero in a straight line where it is told the number of steps."""

    def optimizer(theta, *, num_steps=None):
        length = jnp.inf if num_steps is None else num_steps
        return optax.sgd(lambda count: theta * (1 - count.astype(jnp.float32) / length))

    return LearnedOptimizer(lambda key: jnp.float32(RATE), optimizer)


def test_a_share_of_the_episodes_tells_its_length():
    learned = _linear()
    theta = learned.init(jax.random.key(0))
    told = 1 - np.cumprod(1 - RATE * (1 - np.arange(T) / T))
    told = (told - TARGETS["train"]) ** 2 / 2
    problem = lambda share, learned: inner_problem(
        _family()._replace(share_told=share), learned, T, "train"
    )
    losses = lambda share: _episode(problem(share, learned), theta)
    np.testing.assert_allclose(losses(1.0), told, rtol=1e-5)
    np.testing.assert_allclose(losses(0.0), _closed_form("train"), rtol=1e-5)
    half = problem(0.5, learned)
    starts = jax.vmap(lambda key: half.init(theta, key).told)(
        jax.random.split(jax.random.key(1), 400)
    )
    assert set(np.asarray(starts)) == {T, 0}
    assert 150 < np.sum(np.asarray(starts) == 0) < 250
    # One that cannot take it has nothing to draw, nor has one that is always told.
    sgd = hyperparameters.sgd(RATE)
    state = problem(0.5, sgd).init(sgd.init(None), jax.random.key(0))
    assert state.told == ()
    with pytest.raises(ValueError, match="share_told must"):
        problem(1.1, learned)


@pytest.mark.parametrize("name", ["noise_reuse_es", "merged", "truncated_backprop"])
def test_an_episode_of_unknown_length_is_as_long_as_others(name):
    learned = _linear()
    problem = inner_problem(_family()._replace(share_told=0.0), learned, T)
    estimator = getattr(estimators, name)(problem, 2, max_num_steps=2, stagger=False)
    theta = learned.init(jax.random.key(0))
    state, resets = estimator.init(theta, jax.random.key(1)), []
    for i in range(T // 2):
        estimate, state = estimator.estimate(theta, state, jax.random.key(i), jnp.int32(2))
        resets.append(int(estimate.info.num_resets))
    assert resets == [0, 0, 2]


def _with_infinities(lost_at=None):
    """SGD whose state holds the best loss so far, and a number that is lost at a step."""

    def optimizer(theta):
        def init(params):
            return jnp.inf, jnp.float32(1), jnp.int32(0)

        def update(grads, state, params=None, *, value, **_):
            best, finite, count = state
            finite = jnp.where(count == (-1 if lost_at is None else lost_at), jnp.inf, finite)
            kept = jnp.inf if lost_at is None else jnp.minimum(best, value)
            return -theta * grads, (kept, finite, count + 1)

        return optax.GradientTransformationExtraArgs(init, update)

    return LearnedOptimizer(lambda key: jnp.float32(RATE), optimizer)


@pytest.mark.parametrize("name", ["noise_reuse_es", "merged", "truncated_backprop"])
@pytest.mark.parametrize(("lost_at", "expected"), [(None, [0, 0, 2]), (1, [2, 2, 2])])
def test_what_is_infinite_from_the_start_is_not_lost(name, lost_at, expected):
    problem = inner_problem(_family(), _with_infinities(lost_at), T)
    estimator = getattr(estimators, name)(problem, 2, max_num_steps=2, stagger=False)
    state, resets = estimator.init(jnp.float32(RATE), jax.random.key(1)), []
    for i in range(T // 2):
        estimate, state = estimator.estimate(
            jnp.float32(RATE), state, jax.random.key(i), jnp.int32(2)
        )
        resets.append(int(estimate.info.num_resets))
    assert resets == expected


def test_objective_and_reduction_in_closed_form():
    sgd = hyperparameters.sgd(RATE)
    theta = sgd.init(jax.random.key(0))
    valid, train = _closed_form("outer_valid"), _closed_form("train")
    episode = lambda *args, **kwargs: _episode(
        inner_problem(_family(), sgd, T, *args, **kwargs), theta
    )
    np.testing.assert_allclose(episode(), valid, rtol=1e-5)
    np.testing.assert_allclose(episode("train"), train, rtol=1e-5)
    np.testing.assert_allclose(episode("train", num_loss_batches=3), train, rtol=1e-5)
    np.testing.assert_allclose(episode("train", "final").mean(), train[-1], rtol=1e-5)
    np.testing.assert_allclose(episode("train", "mean_log"), np.log(0.1 + train), rtol=1e-5)
    late = np.arange(1, T + 1.0) ** 2
    np.testing.assert_allclose(episode("train", "late_mean"), train * late / late.mean(), rtol=1e-5)
    np.testing.assert_allclose(
        episode("train", "late_mean").mean(), np.average(train, weights=late), rtol=1e-5
    )
    np.testing.assert_allclose(
        episode("train", "mean_log", log_offset=0.02), np.log(0.02 + train), rtol=1e-5
    )
    np.testing.assert_allclose(episode("train", "log_final").mean(), np.log(train[-1]), rtol=1e-5)
    np.testing.assert_allclose(episode("valid", loss_clip=3.0), np.minimum(valid, 3), rtol=1e-5)
    weighted = inner_problem(_family()._replace(weight=4.0), sgd, T, "train", "mean_log")
    np.testing.assert_allclose(_episode(weighted, theta), 4 * np.log(0.1 + train), rtol=1e-5)


@pytest.mark.parametrize("num_steps", [1, 2, 7, 1000])
def test_late_weights_have_a_mean_of_one(num_steps):
    weights = late_weight(np.arange(num_steps), num_steps)
    np.testing.assert_allclose(weights.mean(), 1.0, rtol=1e-12)
    np.testing.assert_allclose(
        weights / weights[-1], (np.arange(num_steps) + 1.0) ** 2 / num_steps**2
    )
    assert late_weight(2**31 - 2, 2**31 - 1) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("weight", "reduction"),
    [
        (0.0, "mean"),
        (float("inf"), "mean"),
        (float("nan"), "mean"),
        (1e-50, "mean"),
        (2.0, "log_mean"),
    ],
)
def test_weights_that_cannot_be_are_refused(weight, reduction):
    with pytest.raises(ValueError, match="a family's weight must be above 0"):
        inner_problem(
            _family()._replace(weight=weight), hyperparameters.sgd(RATE), T, reduction=reduction
        )


def test_log_mean_is_taken_by_full_es_alone():
    sgd = hyperparameters.sgd(RATE)
    problem = inner_problem(_family(), sgd, T, "train", "log_mean")
    theta = sgd.init(jax.random.key(0))
    for name in (
        "evolution_strategies",
        "merged",
        "persistent_es",
        "truncated_backprop",
        "forward_mode",
    ):
        with pytest.raises(ValueError, match=r"'log_mean' is no sum of step losses.*full_es"):
            getattr(estimators, name)(problem, 4)
    full = estimators.full_es(problem, 4, 1e-3)
    result, _ = full.estimate(theta, full.init(theta, jax.random.key(0)), jax.random.key(1), 1)
    np.testing.assert_allclose(result.loss, np.log(_closed_form("train").mean()), rtol=1e-3)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, 1e20])
def test_a_loss_that_is_not_a_number_counts_as_the_clip(bad):
    sgd = hyperparameters.sgd(RATE)
    problem = inner_problem(_family(scale=bad), sgd, T, loss_clip=7.0)
    np.testing.assert_array_equal(_episode(problem, sgd.init(jax.random.key(0))), np.full(T, 7.0))


def test_a_particle_whose_state_is_not_finite_starts_afresh_and_the_others_go_on():
    def optimizer(theta):
        def update(grads, state, params=None, **extra):
            del extra, params
            return jnp.where(state > 2, jnp.nan, -theta * grads), state + 1

        return optax.GradientTransformationExtraArgs(lambda params: jnp.float32(0), update)

    learned = LearnedOptimizer(lambda key: jnp.float32(RATE), optimizer)
    problem = inner_problem(_family(), learned, 100)
    es = estimators.evolution_strategies(problem, 4)
    state = es.init(jnp.float32(RATE), jax.random.key(0))
    state = state._replace(
        inner=state.inner._replace(opt_state=jnp.asarray([[2.0], [0.0], [0.0], [2.0]]))
    )
    result, state = es.estimate(jnp.float32(RATE), state, jax.random.key(1), 2)
    assert int(result.info.num_resets) == 2
    np.testing.assert_array_equal(state.step, [0, 2, 2, 0])
    np.testing.assert_array_equal(state.inner.step[:, 0], [0, 2, 2, 0])
    assert np.isfinite(state.inner.params).all()
    assert np.isfinite(result.grad)
    assert int(result.info.num_non_finite) == 0  # the clip made their losses finite


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((0,), {}, "num_steps"),
        ((5, "test"), {}, "objective must be one of valid, train"),
        ((5, "valid", "sum"), {}, "reduction must be one of"),
        ((5,), {"loss_clip": 0.0}, "loss_clip"),
        ((5,), {"num_loss_batches": 0}, "num_loss_batches"),
        ((2.5,), {}, "num_steps must be a whole number"),
        ((2**31,), {}, "num_steps must be a whole number"),
        ((5,), {"loss_clip": np.nan}, "loss_clip must be above 0 and finite"),
        ((5,), {"loss_clip": np.inf}, "loss_clip must be above 0 and finite"),
        ((5,), {"loss_clip": 1e-50}, "loss_clip must be above 0 and finite"),
        ((5,), {"log_offset": np.inf}, "log_offset must be above 0 and finite"),
        ((5,), {"num_loss_batches": np.nan}, "num_loss_batches must be a whole number"),
    ],
)
def test_bad_arguments_are_refused(args, kwargs, message):
    with pytest.raises(ValueError, match=message):
        inner_problem(_family(), hyperparameters.sgd(), *args, **kwargs)
