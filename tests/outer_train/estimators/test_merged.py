"""Equation (1): the merge against hand computation, its variance,
its bias and what it does with infinities.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from outer_train import estimators
from outer_train.estimators import inverse_variance_weights
from outer_train.problem import UnrolledSystem
from tests.support.outer_train.systems import gradient, linear_quadratic

THETA = np.array([0.3, -0.5, 0.2, 0.4])
PARTS = ("reparameterization", "evolution_strategies")


def test_weights_are_equation_one():
    variances = [np.array([1.0, 4.0, 1e-20, 0.0, np.inf]), np.array([3.0, 1.0, 1.0, 0.0, 2.0])]
    weigh = jax.jit(inverse_variance_weights, static_argnums=1)
    weights = weigh([{"w": jnp.asarray(v, jnp.float32)} for v in variances])
    np.testing.assert_allclose(weights[0]["w"], [0.75, 0.2, 1.0, 0.5, 0.0], atol=1e-6)
    np.testing.assert_allclose(weights[0]["w"] + weights[1]["w"], 1, atol=1e-6)
    globally = weigh([{"w": jnp.asarray(v[:2], jnp.float32)} for v in variances], "global")
    np.testing.assert_allclose(globally[0]["w"], [4 / 9, 4 / 9], atol=1e-6)


def _rippled(frequency=60.0):
    """A linear-quadratic system whose loss also has a fast ripple,
    so that RP is noisy where ES averages it out.
    """
    smooth, _ = linear_quadratic(num_steps=4, noise=0.1)

    def step(theta, state, key, amplitude):
        state, loss = smooth.step(theta, state, key, ())
        return state, loss + amplitude * jnp.sum(jnp.sin(frequency * state)) / frequency

    return UnrolledSystem(smooth.init, step, 4)


def _samples(estimator, num_repeats):
    """Jitted `data -> num_repeats` independent gradients of a whole episode,
    `[repeats, outer parameters]`.
    """
    theta = jnp.asarray(THETA, jnp.float32)

    def one(key, data):
        return estimator.estimate(theta, estimator.init(theta, key), key, 4, data)[0].grad

    keys = jax.random.split(jax.random.key(0), num_repeats)
    run = jax.jit(jax.vmap(one, in_axes=(0, None)))
    return lambda data=(): np.asarray(run(keys, data), np.float64)


@functools.cache
def _part(name, num_pairs, num_repeats):
    return _samples(getattr(estimators, name)(_rippled(), num_pairs, 0.1), num_repeats)


@pytest.mark.parametrize(
    ("num_pairs", "num_repeats", "kwargs"),
    [(16, 1500, {}), (16, 1500, {"weighting": "global"}), (128, 400, {"cross_fit": True})],
    ids=["elementwise", "global", "cross_fit"],
)
def test_variance_is_near_the_smaller_of_both_where_both_matter(num_pairs, num_repeats, kwargs):
    merge = _samples(estimators.merged(_rippled(), num_pairs, 0.1, **kwargs), num_repeats)
    ratios, excess = [], []
    for amplitude in (4.5, 20.0, 120.0):
        amplitude = jnp.float32(amplitude)
        rp, es = (_part(name, num_pairs, num_repeats)(amplitude).var(0).sum() for name in PARTS)
        ratios.append(rp / es)
        excess.append(merge(amplitude).var(0).sum() / min(rp, es))
    assert ratios[0] < 0.07
    assert ratios[-1] > 15
    assert max(excess) < 1.25, (ratios, excess)


def test_cross_fitting_removes_the_bias_of_weights_from_the_same_samples():
    """Few pairs, and both parts unbiased: the plain merge fails the test that cross-fit passes."""
    problem, matrices = linear_quadratic(num_steps=4, noise=3.0)
    exact = gradient(matrices, THETA, 0, 4, from_start=True)
    scores = {}
    for cross_fit in (False, True):
        grads = _samples(estimators.merged(problem, 4, 0.1, cross_fit=cross_fit), 60_000)()
        scores[cross_fit] = np.abs(
            (grads.mean(0) - exact) / (grads.std(0) / np.sqrt(len(grads)))
        ).max()
    assert scores[True] < 4.5, scores
    assert scores[False] > 6, scores


def test_where_backpropagation_is_infinite_evolution_strategies_remain():
    def step(theta, state, key, data):
        del key, data
        # The root's derivative at 0 is infinite, times 0 through abs:
        # nan for every sample's second outer parameter.
        return state + 1, jnp.square(theta[0] - 1) + jnp.sqrt(jnp.abs(theta[1] * 0))

    problem = UnrolledSystem(lambda theta, key: jnp.float32(0), step, 5)
    theta, key = jnp.asarray([0.2, 0.5], jnp.float32), jax.random.key(0)
    for kwargs in ({}, {"weighting": "global"}, {"cross_fit": True}):
        merged = estimators.merged(problem, 8, **kwargs)
        result, _ = jax.jit(merged.estimate)(theta, merged.init(theta, key), key, jnp.int32(3))
        es = estimators.evolution_strategies(problem, 8)
        expected, _ = es.estimate(theta, es.init(theta, key), key, 3)
        assert np.isfinite(result.grad).all()
        if kwargs:
            np.testing.assert_allclose(
                result.grad, expected.grad, rtol=0.5 if "cross_fit" in kwargs else 1e-5
            )
        else:
            np.testing.assert_allclose(result.grad, [-1.6, expected.grad[1]], rtol=1e-4)
        assert int(result.info.num_non_finite) == 8


def test_a_cliff_raises_the_warning_and_a_smooth_loss_does_not():
    def step(theta, state, key, data):
        del key, data
        return state, jnp.sign(theta[0]) / 2 + 0.01 * theta[0]

    cliff = UnrolledSystem(lambda theta, key: jnp.float32(0), step, 4)
    for problem, theta, expected in (
        (cliff, jnp.zeros(1, jnp.float32), 1),
        (linear_quadratic()[0], jnp.asarray(THETA, jnp.float32), 0),
    ):
        merged = estimators.merged(problem, 256)
        result, _ = jax.jit(merged.estimate)(
            theta, merged.init(theta, jax.random.key(0)), jax.random.key(1), 4
        )
        assert int(result.info.diagnosis["cliff_warning"]) == expected
    # Smooth: all pairs are of one size,
    # up to the spread of a chi-square with four degrees of freedom.
    assert 32 < float(result.info.diagnosis["effective_samples"]) <= 256


@pytest.mark.parametrize("other", ["persistent_es", "noise_reuse_es"])
def test_any_parts_merge_over_one_unroll(other):
    """The merge's mean lies between its parts',
    which are those of the estimators alone on the same noise.
    """
    problem, _ = linear_quadratic()
    theta = jnp.asarray(THETA, jnp.float32)
    merged = estimators.merged(problem, 64, parts=("reparameterization", other))
    alone = getattr(estimators, other)(problem, 64)
    state, state_alone = merged.init(theta, jax.random.key(0)), alone.init(theta, jax.random.key(0))
    for i in range(2):
        key = jax.random.fold_in(jax.random.key(1), i)
        result, state = merged.estimate(theta, state, key, 6)
        expected, state_alone = alone.estimate(theta, state_alone, key, 6)
        np.testing.assert_allclose(
            result.info.variance[other], expected.info.variance[other], rtol=1e-4
        )
        np.testing.assert_allclose(sum(result.info.weight.values()), 1, rtol=1e-5)
    np.testing.assert_allclose(result.loss, expected.loss, rtol=1e-5)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_pairs": 0}, "num_pairs"),
        ({"num_pairs": 1}, "at least 2"),
        ({"num_pairs": 6, "std": -0.1}, "std must be above 0"),
        ({"num_pairs": 7, "cross_fit": True}, "even number"),
        ({"num_pairs": 8, "weighting": "mean"}, "weighting must be one of"),
        ({"num_pairs": 8, "parts": ("reparameterization",)}, "two or more"),
        ({"num_pairs": 8, "parts": ("persistent_es", "noise_reuse_es")}, "cannot hold both"),
    ],
)
def test_bad_arguments_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        estimators.merged(linear_quadratic()[0], **kwargs)


def test_both_parts_agree_on_a_smooth_quadratic():
    problem, _ = linear_quadratic(num_steps=4)
    means, squared_errors = [], []
    for name in PARTS:
        grads = _samples(getattr(estimators, name)(problem, 64, 0.1), 200)()
        means.append(grads.mean(0))
        squared_errors.append(grads.var(0, ddof=1) / len(grads))
    assert np.abs((means[0] - means[1]) / np.sqrt(sum(squared_errors))).max() < 4
