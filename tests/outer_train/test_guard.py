"""Norms of any size, and the outer step that is only taken where its result is finite."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from outer_train import outer_step, particle_mesh, truncation
from outer_train.estimators import Estimate, GradientEstimator, Info
from outer_train.estimators._truncated_backprop import clipped
from outer_train.guard import clip_by_global_norm, guarded_update
from outer_train.side_by_side import outer_step_of_seeds
from outer_train.trees import global_norm, mean_of_known

KEY = jax.random.key(0)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e15, 1e25, 1e37])
def test_norms_and_clips_of_any_size(scale):
    tree = {
        "a": jnp.asarray([3.0, 0.0], jnp.float32) * np.float32(scale),
        "b": jnp.float32(4 * scale),
    }
    tree["empty"] = jnp.zeros(0, jnp.float32)

    @jax.jit  # XLA makes one division of two
    def run(tree):
        clip, leave = clip_by_global_norm(2 * scale), clip_by_global_norm(min(6 * scale, 3e38))
        return (
            global_norm(tree),
            clip.update(tree, clip.init(tree))[0],
            leave.update(tree, leave.init(tree))[0],
        )

    norm, short, left = run(tree)
    np.testing.assert_allclose(norm, 5 * scale, rtol=1e-6)
    np.testing.assert_allclose(short["a"], [1.2 * scale, 0.0], rtol=1e-6)
    np.testing.assert_allclose(short["b"], 1.6 * scale, rtol=1e-6)
    np.testing.assert_array_equal(left["a"], tree["a"])


def test_a_clip_is_optax_s_to_the_bit_where_that_is_right():
    tree = {"w": jax.random.normal(KEY, (7, 3)), "b": 100 * jax.random.normal(KEY, (5,))}
    for longest in (0.37, 1e4):
        clips = clip_by_global_norm(longest), optax.clip_by_global_norm(longest)
        ours, theirs = (jax.jit(clip.update)(tree, clip.init(tree))[0] for clip in clips)
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert clip_by_global_norm(1.0).init(tree) == optax.clip_by_global_norm(1.0).init(tree)


def test_a_particle_s_gradient_near_the_largest_float_is_clipped():
    grad = jnp.full((3, 50), 1.0, jnp.float32) * jnp.asarray([[1e38], [3e38], [1e-3]], jnp.float32)
    short = np.asarray(jax.jit(clipped)({"w": grad}, 2.0, jnp.asarray([1, 3, 1]))["w"], np.float64)
    np.testing.assert_allclose(
        np.linalg.norm(short, axis=1), [2.0, 6.0, 1e-3 * np.sqrt(50)], rtol=1e-5
    )


def test_families_without_a_gradient_are_left_out_of_the_mean():
    trees = [jnp.full(2, v, jnp.float32) for v in (3e38, 3e38, 1e38)]
    np.testing.assert_allclose(mean_of_known(trees, [True, True, True]), 7e38 / 3, rtol=1e-6)
    np.testing.assert_allclose(mean_of_known(trees, [False, True, True]), 2e38, rtol=1e-6)
    np.testing.assert_array_equal(mean_of_known(trees, [False, False, False]), 0.0)


THETA = {"w": jnp.asarray([1.0, -2.0], jnp.float32)}
BEST_SO_FAR = optax.GradientTransformation(
    lambda params: jnp.float32(np.inf), lambda grad, state, params: (grad, state)
)
"""Its state holds an infinity of its own, as that of `optax.contrib.reduce_on_plateau` does."""


@pytest.mark.parametrize(
    ("grad", "known", "optimizer", "taken"),
    [
        ([1.0, 2.0], True, optax.sgd(0.5), True),
        ([1.0, 2.0], False, optax.sgd(0.5), False),
        ([np.nan, 2.0], True, optax.adam(0.5), False),
        # The clip would hide it.
        ([np.inf, 2.0], True, optax.chain(optax.clip(1.0), optax.sgd(0.5)), False),
        ([3e38, 2.0], True, optax.sgd(2.0), False),  # the update overflows
        # The second moment overflows, theta would never move again.
        ([1e30, 2.0], True, optax.adam(0.5), False),
        ([1e18, 2.0], True, optax.adam(0.5), True),
        ([1.0, 2.0], True, BEST_SO_FAR, True),
    ],
)
def test_only_finite_steps_are_taken(grad, known, optimizer, taken):
    state, step = optimizer.init(THETA), jax.jit(guarded_update(optimizer))
    theta, new_state, was_taken = step(
        THETA, state, {"w": jnp.asarray(grad, jnp.float32)}, jnp.bool_(known)
    )
    assert bool(was_taken) == taken
    assert np.isfinite(theta["w"]).all()
    same = np.array_equal(theta["w"], THETA["w"])
    assert same != taken
    if not taken:
        jax.tree.map(np.testing.assert_array_equal, new_state, state)


def given_gradients():
    """An estimator whose gradient, loss and count of unknowns are its data."""

    def estimate(theta, state, key, num_steps, data):
        grad, loss, unknown = data
        count = jnp.int32(0)
        info = Info(count, count, jnp.int32(10), num_steps, {}, {}, {}, unknown)
        return Estimate(theta | {"w": grad}, loss, info), state

    return GradientEstimator(lambda theta, key: jnp.zeros(2, jnp.float32), estimate)


def data(grad, loss=1.0, unknown=0):
    return jnp.asarray(grad, jnp.float32), jnp.float32(loss), jnp.int32(unknown)


def test_a_step_that_is_not_taken_is_counted_and_the_run_goes_on():
    adam = optax.chain(clip_by_global_norm(1.0), optax.adam(0.1))
    run = outer_step(
        [given_gradients(), given_gradients()], adam, truncation.constant(5), particle_mesh(2, 2)
    )
    state = run.init(THETA, KEY)
    state, row = run.step(state, KEY, (data([1.0, 2.0]), data([3.0, 0.0])))
    assert (int(row["num_steps_not_taken"]), int(row["num_non_finite"])) == (0, 0)
    np.testing.assert_allclose(row["grad_norm"], np.hypot(2, 1), rtol=1e-6)
    before = jax.device_get((state.theta, state.opt_state))
    for bad in (
        (data([np.inf, 0]), data([0, 0])),
        (data([0, 0], np.nan, 2), data([0, 0], np.nan, 2)),
    ):
        state, row = run.step(state, KEY, bad)
        assert (int(row["num_steps_not_taken"]), int(row["num_non_finite"])) == (1, 1)
        jax.tree.map(
            np.testing.assert_array_equal, jax.device_get((state.theta, state.opt_state)), before
        )
    assert np.isnan(row["outer_loss"])
    assert np.isnan(row["grad_norm"])
    # A family of which nothing is known does not halve the other's gradient;
    # the mean loss of both is unknown.
    state, row = run.step(state, KEY, (data([3.0, 4.0]), data([0, 0], np.nan, 2)))
    np.testing.assert_allclose(row["grad_norm"], 5.0, rtol=1e-6)
    assert np.isnan(row["outer_loss"])
    assert float(row["outer_loss_0"]) == 1
    assert int(row["num_steps_not_taken"]) == 0
    # A gradient of which no square is finite still steps, clipped.
    state, row = run.step(state, KEY, (data([3e30, 4e30]), data([3e30, 4e30])))
    assert int(row["num_steps_not_taken"]) == 0
    np.testing.assert_allclose(row["grad_norm"], 5e30, rtol=1e-5)
    assert int(state.step) == 5
    assert run.step._cache_size() == 1


def test_one_seed_s_step_that_is_not_taken_is_no_other_seed_s():
    run = outer_step_of_seeds(
        [_seeded()], optax.sgd(1.0), truncation.constant(5), particle_mesh(2, 2), [0, 1]
    )
    thetas = {"w": jnp.asarray([[1.0, 1.0], [2.0, 2.0]], jnp.float32)}
    state, row = run.step(run.init(thetas, KEY), KEY, (jnp.asarray([np.inf, 1.0], jnp.float32),))
    np.testing.assert_array_equal(row["num_steps_not_taken"], [1, 0])
    np.testing.assert_array_equal(state.theta["w"], [[1.0, 1.0], [0.0, 0.0]])


def _seeded():
    """Gradient `data[0]` where theta is 1, `data[1] * theta` elsewhere."""

    def estimate(theta, state, key, num_steps, data=()):
        grad = jnp.where(theta["w"] == 1, data[0], data[1] * theta["w"])
        count = jnp.int32(0)
        return Estimate(
            {"w": grad}, jnp.float32(0), Info(count, count, count, num_steps, {}, {}, {})
        ), state

    return GradientEstimator(lambda theta, key: jnp.zeros(2, jnp.float32), estimate)


@pytest.mark.parametrize(
    ("theta", "message"),
    [
        (
            {"w": jnp.asarray([1.0, np.nan], jnp.float32)},
            r"theta\['w'\] must be finite, got 1 of 2",
        ),
        ({"w": np.asarray([np.inf], np.float32)}, "must be finite"),
        ({"w": jnp.arange(3)}, "floating-point type, got int32"),
        ({}, "at least one outer parameter"),
    ],
)
def test_a_theta_that_cannot_be_trained_is_refused(theta, message):
    run = outer_step(
        [given_gradients()], optax.sgd(1.0), truncation.constant(5), particle_mesh(2, 1)
    )
    with pytest.raises(ValueError, match=message):
        run.init(theta, KEY)


@pytest.mark.parametrize("max_norm", [-1.0, 0.0, math.nan, math.inf, 1e-60, 1e39, "one"])
def test_a_norm_that_is_no_length_is_refused(max_norm):
    with pytest.raises(ValueError, match="max_norm must be"):
        clip_by_global_norm(max_norm)
