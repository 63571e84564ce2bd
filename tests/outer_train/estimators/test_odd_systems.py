"""Systems that are unlike those of outer-training:
every estimator gives the right number, or refuses when it is made.

Each estimator compiles twice here, so many oddities share a system.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from outer_train import estimators
from outer_train.particles.counts import count, over_live_steps
from outer_train.particles.episodes import staggered_steps
from outer_train.problem import UnrolledSystem
from tests.support.quick import by_name

KEY = jax.random.key(0)
THETA = {"empty": jnp.zeros((0,), jnp.float32), "w": jnp.asarray([0.5, -1.0], jnp.float32)}
PAIRED = (
    "evolution_strategies",
    "reparameterization",
    "merged",
    "persistent_es",
    "noise_reuse_es",
    "full_es",
)
NAMES = (*PAIRED, "truncated_backprop", "forward_mode")
BY_DIFFERENCES = ("evolution_strategies", "persistent_es", "noise_reuse_es", "full_es")
each = by_name(NAMES, quick=("persistent_es", "truncated_backprop", "full_es"))


def make(name, problem, num_particles, **options):
    return getattr(estimators, name)(problem, num_particles, **options)


def counting(num_steps=4):
    """No float in the state, an empty first leaf of theta.

    The loss is theta^2 times the data, after the first step.
    """

    def step(theta, state, key, data):
        del key
        return state + 1, jnp.where(state < 0, 0.0, jnp.sum(jnp.square(theta["w"])) * data)

    return UnrolledSystem(lambda theta, key: jnp.int32(0), step, num_steps)


@each
def test_unknown_is_nan_and_the_gradient_moves_nothing(name):
    """Finite losses first, which shows that the odd theta and state are no matter;
    then losses that are all nan.
    """
    estimator = make(name, counting(), 4)
    state, estimate = estimator.init(THETA, KEY), jax.jit(estimator.estimate)
    result, _ = estimate(THETA, state, KEY, jnp.int32(3), jnp.float32(1.0))
    assert result.grad["empty"].shape == (0,)
    if name in BY_DIFFERENCES:  # exact along the noise: L+ - L- = 2 * 2 theta . eps
        assert float(result.grad["w"] @ THETA["w"]) > 0
    else:
        np.testing.assert_allclose(result.grad["w"], 2 * THETA["w"], rtol=1e-4)
    np.testing.assert_allclose(result.loss, 1.25, rtol=0.01)
    assert int(result.info.num_unknown) == int(result.info.num_non_finite) == 0
    assert all(np.isfinite(v) for v in result.info.variance.values())

    result, state = estimate(THETA, state, KEY, jnp.int32(3), jnp.float32(np.nan))
    assert np.isnan(result.loss)
    assert int(result.info.num_unknown) == 2
    assert int(result.info.num_non_finite) == 4
    np.testing.assert_array_equal(result.grad["w"], np.zeros(2))
    for kind in (result.info.variance, result.info.weight, result.info.diagnosis):
        assert all(np.isnan(value) for value in kind.values()), kind
    result, _ = estimate(THETA, state, KEY, jnp.int32(3), jnp.float32(1.0))
    assert np.isfinite(result.loss)  # the particles go on


@each
def test_one_pair_of_an_episode_of_one_step_with_a_whole_number_for_a_loss(name):
    """No state at all, loss in int32: zero derivative, and a jump that differences see.

    One sample has no variance.
    """

    def step(theta, state, key, data):
        del key, data
        return state, jnp.sum(jnp.sign(theta)).astype(jnp.int32)

    problem = UnrolledSystem(lambda theta, key: (), step, 1)
    num = 2 if name == "merged" else 1
    options = {} if name == "full_es" else {"max_num_steps": 50}
    if name in ("reparameterization", "merged", "truncated_backprop"):
        options["chunk_size"] = 1000
    theta = jnp.asarray([2.0], jnp.float32)
    estimator = make(name, problem, num, **options, **({"std": 3.0} if name in PAIRED else {}))
    result, _ = jax.jit(estimator.estimate)(
        theta, estimator.init(theta, KEY), KEY, jnp.int32(1 if name == "full_es" else 50)
    )
    assert int(result.info.num_live_steps) == num * (2 if name in PAIRED else 1)
    assert int(result.info.num_resets) == num
    assert float(result.loss) in (1.0, 0.0, 0.5)
    assert np.isfinite(result.grad).all()
    if name in ("reparameterization", "truncated_backprop", "forward_mode"):
        assert float(result.grad[0]) == 0
    if num == 1:
        assert all(np.isnan(v) for v in result.info.variance.values())


@each
def test_what_cannot_be_is_refused_when_it_is_made(name):
    for bad in (0, -3, 2.5, True, 2**31, np.nan):
        with pytest.raises(ValueError, match="num_steps of the problem must be"):
            make(name, counting(bad), 4)
        with pytest.raises(ValueError, match="must be"):
            make(name, counting(), bad)
    options = {} if name == "full_es" else {"max_num_steps": 2**31}
    if name in PAIRED:
        for std in (0.0, -0.1, np.nan, np.inf, 1e-50, 1e-30, 1e30):
            with pytest.raises(ValueError, match="std must be above 0 and finite"):
                make(name, counting(), 4, std=std)
    if options:
        with pytest.raises(
            ValueError, match="max_num_steps must be a whole number of at most 2147483647"
        ):
            make(name, counting(), 4, **options)
    if name in ("reparameterization", "merged", "truncated_backprop"):
        with pytest.raises(ValueError, match="chunk_size must be at least 1, got 0"):
            make(name, counting(), 4, chunk_size=0)
    estimator = make(name, counting(2**31 - 1), 4)
    for theta, message in (
        ({}, "at least one outer parameter"),
        ({"w": jnp.int32([1])}, r"theta\['w'\] must be of a"),
    ):
        with pytest.raises(ValueError, match=message):
            estimator.init(theta, KEY)
    with pytest.raises(ValueError, match=r"theta\['w'\] must be finite, got 1 of 2"):
        estimator.init({"w": jnp.asarray([0.0, np.nan], jnp.float32)}, KEY)


def test_options_of_single_estimators_are_refused():
    for options in ({"clip_norm": np.nan}, {"clip_norm": np.inf}, {"clip_norm": 1e-50}):
        with pytest.raises(ValueError, match="clip_norm must be above 0 and finite"):
            estimators.truncated_backprop(counting(), 4, **options)
    for bad in (0, 1.5, 2**31):
        with pytest.raises(ValueError, match="num_directions must be"):
            estimators.forward_mode(counting(), 4, num_directions=bad)
        with pytest.raises(ValueError, match="noise_reuse must be"):
            estimators.persistent_es(counting(), 4, noise_reuse=bad)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (
            lambda theta, state, key, data: (state, jnp.zeros(2, jnp.float32)),
            "loss must be one real number",
        ),
        (
            lambda theta, state, key, data: (state.astype(jnp.float32), jnp.float32(0)),
            "must not change its state's",
        ),
    ],
)
def test_a_step_that_returns_something_else_is_named(step, message):
    problem = UnrolledSystem(lambda theta, key: jnp.int32(0), step, 4)
    estimator = estimators.evolution_strategies(problem, 2)
    with pytest.raises(ValueError, match=message):
        estimator.estimate(THETA, estimator.init(THETA, KEY), KEY, 2)


@pytest.mark.parametrize("noise_reuse", [5, 2**31 - 1])
def test_noise_that_serves_longer_than_an_episode_is_drawn_once_an_episode(noise_reuse):
    """As noise-reuse ES does; with a counter that stood at the episode's length
    for "never" there was none at all.
    """
    problem, found = counting(4), []
    for estimator in (
        estimators.persistent_es(problem, 2, 0.1, noise_reuse=noise_reuse),
        estimators.noise_reuse_es(problem, 2, 0.1),
    ):
        state, estimate, grads = estimator.init(THETA, KEY), jax.jit(estimator.estimate), []
        for i in range(4):  # two episodes of two truncations
            result, state = estimate(
                THETA, state, jax.random.fold_in(KEY, i), jnp.int32(2), jnp.float32(1.0)
            )
            grads.append(result.grad["w"])
        found.append(np.array(grads))
    np.testing.assert_array_equal(*found)
    assert (np.abs(found[0]) > 1e-3).all()
    assert not np.allclose(found[0][0], found[0][2])  # the next episode has its own


def test_staggered_steps_of_the_longest_episode():
    """Within the episode, and spread over it."""
    largest = 2**31 - 1
    steps = np.asarray(staggered_steps(largest, 8, KEY, jnp.arange(8, dtype=jnp.int32)), np.int64)
    np.testing.assert_array_equal(steps // 2**28, np.arange(8))
    assert steps.max() < largest


def test_counts_beyond_int32_are_floats():
    """A thousand pairs of an episode of 2^31 - 1 steps:
    what one estimate may count does not fit an int32.
    """
    live = jnp.full(1000, 2**30, jnp.int32)
    flags = jnp.zeros(1000, bool)
    counts = count(jnp.ones(1000), ~flags, live, flags, num_particles=1000, max_num_steps=2**31)
    np.testing.assert_allclose(counts.num_live_steps, 1000.0 * 2**30, rtol=1e-6)
    few = count(
        jnp.ones(1000),
        ~flags,
        jnp.full(1000, 7, jnp.int32),
        flags,
        num_particles=1000,
        max_num_steps=20,
    )
    assert few.num_live_steps.dtype == jnp.int32
    assert int(few.num_live_steps) == 7000
    # Half of the steps were live, so what one step makes is twice what was divided by the length.
    samples, first, counts = over_live_steps(
        jnp.ones((1000, 3)), counts, jnp.int32(2**31 - 1), 1000, None
    )
    np.testing.assert_allclose(first.mean, 2.0, rtol=1e-6)
    np.testing.assert_allclose(samples, 2.0, rtol=1e-6)
    np.testing.assert_allclose(counts.mean_loss, 2.0, rtol=1e-6)
