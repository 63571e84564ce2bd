"""Each estimator's stated bias, none or that of the truncation,
in z-tests on a system with a closed-form gradient.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from outer_train import estimators
from tests.support.outer_train.systems import gradient, linear_quadratic

NUM_REPEATS, NUM_PARTICLES = 48, 128  # 6,144 particles
LENGTHS = (4, 5, 3)
THETA = np.array([0.3, -0.5, 0.2, 0.4])
Z_LIMIT = 4.5

TRUNCATED = ("evolution_strategies", "reparameterization", "merged", "truncated_backprop")
UNBIASED = ("persistent_es", "noise_reuse_es", "forward_mode")
WHOLE_EPISODES = ("full_es",)


def _estimator(name, problem, **kwargs):
    if name == "merged":
        kwargs |= {"cross_fit": True}
    return getattr(estimators, name)(problem, NUM_PARTICLES, **kwargs)


def _z_scores(estimator, expected_per_truncation):
    """Standard scores `[truncations, outer parameters]` of independent estimates' mean."""
    theta = jnp.asarray(THETA, jnp.float32)
    estimate = jax.jit(jax.vmap(estimator.estimate, in_axes=(None, 0, 0, None)))
    keys = jax.random.split(jax.random.key(7), NUM_REPEATS)
    state = jax.vmap(estimator.init, in_axes=(None, 0))(theta, keys)
    scores = []
    for i, length in enumerate(LENGTHS):
        keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, i)
        result, state = estimate(theta, state, keys, jnp.int32(length))
        grads = np.asarray(result.grad, np.float64)
        error = grads.mean(0) - expected_per_truncation[i]
        scores.append(error / (grads.std(0, ddof=1) / np.sqrt(NUM_REPEATS) + 1e-6))
    assert estimate._cache_size() == 1  # one compilation for all lengths
    # The episode ended.
    assert np.asarray(result.info.num_resets).tolist() == [NUM_PARTICLES] * NUM_REPEATS
    return np.array(scores)


@pytest.mark.parametrize("name", TRUNCATED + UNBIASED)
def test_mean_is_the_gradient_it_states(name):
    problem, matrices = linear_quadratic()
    ends = np.cumsum(LENGTHS)
    windows = list(zip(ends - LENGTHS, ends, strict=True))
    exact = {
        kind: [gradient(matrices, THETA, *w, from_start=kind) for w in windows]
        for kind in (True, False)
    }
    scores = _z_scores(_estimator(name, problem), exact[name in UNBIASED])
    assert np.abs(scores).max() < Z_LIMIT
    # Precise enough to tell the two apart in the last window.
    if name in ("truncated_backprop", "forward_mode"):
        other = exact[name not in UNBIASED][-1]
        assert np.abs(exact[name in UNBIASED][-1] - other).max() > 0.1


def test_random_directions_are_unbiased():
    problem, matrices = linear_quadratic()
    ends = np.cumsum(LENGTHS)
    exact = [
        gradient(matrices, THETA, e - n, e, from_start=True)
        for e, n in zip(ends, LENGTHS, strict=True)
    ]
    scores = _z_scores(estimators.forward_mode(problem, NUM_PARTICLES, num_directions=2), exact)
    assert np.abs(scores).max() < Z_LIMIT


@pytest.mark.parametrize("name", WHOLE_EPISODES)
def test_full_es_sees_whole_episodes_whatever_the_length(name):
    problem, matrices = linear_quadratic(num_steps=6)
    theta = jnp.asarray(THETA, jnp.float32)
    for objective, window in (("mean", (0, 6)), ("last", (5, 6))):
        estimator = getattr(estimators, name)(problem, NUM_PARTICLES, objective=objective)
        keys = jax.random.split(jax.random.key(3), NUM_REPEATS)
        state = jax.vmap(estimator.init, in_axes=(None, 0))(theta, keys)
        estimate = jax.jit(jax.vmap(estimator.estimate, in_axes=(None, 0, 0, None)))
        result, state = estimate(theta, state, keys, jnp.int32(1))
        grads = np.asarray(result.grad, np.float64)
        error = grads.mean(0) - gradient(matrices, THETA, *window, from_start=True)
        assert np.abs(error / (grads.std(0, ddof=1) / np.sqrt(NUM_REPEATS))).max() < Z_LIMIT
        assert np.asarray(state.episodes).min() == 1


def test_pes_variance_grows_with_the_truncations_and_nres_does_not():
    """Late in an episode: PES has added up a draw a truncation, NRES holds one."""
    problem, _ = linear_quadratic(num_steps=64)
    theta = jnp.asarray(THETA, jnp.float32)
    variance = {}
    for name in ("persistent_es", "noise_reuse_es"):
        estimator = getattr(estimators, name)(problem, 4096)
        estimate = jax.jit(estimator.estimate)
        for length in (16, 4, 1):
            state = estimator.init(theta, jax.random.key(0))
            for i in range(64 // length):
                result, state = estimate(
                    theta, state, jax.random.fold_in(jax.random.key(1), i), jnp.int32(length)
                )
            variance[name, length] = float(result.info.variance[name])
    assert variance["persistent_es", 4] > 2.5 * variance["persistent_es", 16]
    assert variance["persistent_es", 1] > 2.5 * variance["persistent_es", 4]
    # The last step's loss alone is noisier.
    assert variance["noise_reuse_es", 1] < 2 * variance["noise_reuse_es", 16]
    assert variance["noise_reuse_es", 1] < variance["persistent_es", 1] / 5


def test_stagger_offsets_the_step_counters_only_and_ends_episodes_apart():
    problem, _ = linear_quadratic(num_steps=12)
    theta = jnp.asarray(THETA, jnp.float32)
    plain = estimators.evolution_strategies(problem, 24).init(theta, jax.random.key(0))
    staggered = estimators.evolution_strategies(problem, 24, stagger=True)
    state = staggered.init(theta, jax.random.key(0))
    np.testing.assert_array_equal(plain.inner, state.inner)
    np.testing.assert_array_equal(plain.step, np.zeros(24))
    np.testing.assert_array_equal(np.bincount(state.step, minlength=12), np.full(12, 2))
    estimate = jax.jit(staggered.estimate)
    result, state = estimate(theta, state, jax.random.key(1), jnp.int32(3))
    # Pairs at steps 10 and 11 have 2 and 1 steps left; those at 9 to 11 start anew.
    assert int(result.info.num_live_steps) == 2 * (20 * 3 + 2 * 2 + 2 * 1)
    assert int(result.info.num_resets) == 6
    np.testing.assert_array_equal(np.bincount(state.step, minlength=12)[:3], [6, 0, 0])
