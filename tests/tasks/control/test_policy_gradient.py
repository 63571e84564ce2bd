"""The policy gradient is the surrogate's; environments move as their equations say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.base import SPLITS
from tasks.control import cart_pole, pendulum, policy_gradient_family
from tasks.control.policy_gradient import (
    ENVIRONMENTS,
    Networks,
    advantages,
    discounted_returns,
    rollout,
    surrogate,
)
from tasks.images.networks import MLP
from tests.support.training import adam_losses, at_start

SMALL = {"width": 8, "depth": 1, "length": 12, "batch_size": 4, "discount": 0.9}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_value_is_the_missed_reward_and_gradient_is_the_surrogate_s(name):
    system = ENVIRONMENTS[name]()
    networks = Networks(MLP((8,), system.num_actions, "tanh"), MLP((8,), 1, "tanh"))
    params, batch, key, value, metrics, grad = at_start(policy_gradient_family(name, **SMALL))

    @jax.jit
    def episodes_of(params, batch):
        episodes = rollout(system, networks, params, key, batch, 12)
        returns = discounted_returns(episodes.rewards, 0.9)
        return episodes, returns, advantages(networks, params, episodes, returns)

    episodes, returns, gains = episodes_of(params, batch)
    mean_return = np.asarray(episodes.rewards, np.float64).sum(0).mean()
    np.testing.assert_allclose(float(metrics["mean_return"]), mean_return, rtol=1e-5)
    np.testing.assert_allclose(float(value), 1 - mean_return / 12, rtol=1e-5)

    with jax.enable_x64(True):
        exact = lambda tree: jax.tree.map(
            lambda x: np.asarray(x, np.float64) if x.dtype == jnp.float32 else np.asarray(x), tree
        )
        fixed = exact((episodes, returns, gains))
        objective = jax.jit(lambda p: surrogate(networks, p, *fixed))
        params, grad = exact(params), exact(grad)
        direction = jax.tree.map(np.cos, params)
        moved = lambda step: jax.tree.map(lambda p, d: p + step * d, params, direction)
        difference = (float(objective(moved(1e-5))) - float(objective(moved(-1e-5)))) / 2e-5
        dots = jax.tree.map(lambda g, d: float(np.sum(g * d)), grad, direction)
    np.testing.assert_allclose(sum(jax.tree.leaves(dots)), difference, rtol=1e-4)


def test_the_surrogate_equals_numpy():
    system, networks = cart_pole(), Networks(MLP((8,), 2, "tanh"), MLP((8,), 1, "tanh"))
    task = policy_gradient_family(**SMALL).task(())

    @jax.jit
    def ours_of():
        params = task.init(jax.random.key(0))
        starts = jax.vmap(system.reset)(jax.random.split(jax.random.key(1), 4))
        # Of 100 steps, so that some episodes end.
        episodes = rollout(system, networks, params, jax.random.key(2), starts, 100)
        returns = discounted_returns(episodes.rewards, 0.9)
        gains = advantages(networks, params, episodes, returns)
        objective = surrogate(networks, params, episodes, returns, gains)
        return params, episodes, returns, gains, objective

    params, episodes, ours, gains, objective = ours_of()
    alive = np.asarray(episodes.alive, np.float64)
    assert 0 < alive.sum() < alive.size
    np.testing.assert_array_equal(np.asarray(episodes.rewards), alive)
    returns, later = np.zeros((100, 4)), np.zeros(4)
    for t in reversed(range(100)):
        later = alive[t] + 0.9 * later
        returns[t] = 0.1 * later
    np.testing.assert_allclose(ours, returns, atol=1e-5)

    def network(name, x):
        first, second = (params[name][f"Dense_{i}"] for i in (0, 1))
        return np.tanh(x @ first["kernel"] + first["bias"]) @ second["kernel"] + second["bias"]

    x = np.asarray(episodes.observations)
    baseline, logits = network("baseline", x)[..., 0], network("policy", x)
    gain = returns - baseline
    weights = alive / alive.sum()
    gain = gain - (weights * gain).sum()
    gain = gain / np.sqrt((weights * gain**2).sum() + 1e-8)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    chosen = np.take_along_axis(log_p, np.asarray(episodes.actions)[..., None], -1)[..., 0]
    expected = (weights * ((baseline - returns) ** 2 / 2 - chosen * gain)).sum()
    np.testing.assert_allclose(gains, gain, atol=1e-3)
    np.testing.assert_allclose(float(objective), expected, rtol=1e-3)


def test_without_discount_returns_are_shares_of_the_steps():
    rewards = jnp.ones((4, 1))
    np.testing.assert_allclose(discounted_returns(rewards, 1.0)[:, 0], [1, 0.75, 0.5, 0.25])


def test_cart_pole_moves_as_gymnasium_s():
    """Reference: one step of Gymnasium's CartPole-v1, Euler, written out again."""
    state, action = np.array([0.1, -0.2, 0.05, 0.3]), 1
    x, v, angle, spin = state
    temp = (10.0 + 0.05 * spin**2 * np.sin(angle)) / 1.1
    alpha = (9.8 * np.sin(angle) - np.cos(angle) * temp) / (
        0.5 * (4 / 3 - 0.1 * np.cos(angle) ** 2 / 1.1)
    )
    a = temp - 0.05 * alpha * np.cos(angle) / 1.1
    expected = [x + 0.02 * v, v + 0.02 * a, angle + 0.02 * spin, spin + 0.02 * alpha]
    moved, reward, alive = cart_pole().step(jnp.asarray(state, jnp.float32), jnp.int32(action))
    np.testing.assert_allclose(moved, expected, rtol=1e-5)
    assert float(reward) == 1
    assert bool(alive)
    assert not cart_pole().step(jnp.array([2.41, 1.0, 0.0, 0.0]), jnp.int32(0))[2]
    assert not cart_pole().step(jnp.array([0.0, 0.0, -0.22, 0.0]), jnp.int32(0))[2]


def test_pendulum_moves_and_pays_as_its_equations_say():
    angle, spin, torque = 3.5, -1.0, 2.0
    moved, reward, alive = pendulum().step(jnp.array([angle, spin]), jnp.int32(2))
    new_spin = spin + (15 * np.sin(angle) + 3 * torque) * 0.05
    np.testing.assert_allclose(moved, [angle + 0.05 * new_spin, new_spin], rtol=1e-5)
    cost = (angle - 2 * np.pi) ** 2 + 0.1 * spin**2 + 0.001 * torque**2
    np.testing.assert_allclose(float(reward), 1 - cost / 16.2736044, rtol=1e-5)
    assert bool(alive)
    upright = pendulum().step(jnp.zeros(2), jnp.int32(1))
    np.testing.assert_array_equal(upright[0], 0.0)
    assert float(upright[1]) == 1


def test_splits_are_disjoint_and_it_learns():
    family = policy_gradient_family(width=16, batch_size=8)
    starts = np.asarray(family.data)
    assert starts.shape == (4, 1024, 4)
    assert len(np.unique(starts.reshape(-1, 4), axis=0)) == 4 * 1024
    for i, split in enumerate(SPLITS):
        drawn = family.task(()).sample_batch(family.data, jax.random.key(0), split)
        assert all((starts[i] == row).all(-1).any() for row in np.asarray(drawn))
    losses = adam_losses(family, 60, 3e-2)
    # An untrained policy keeps the pole up for some twenty of 200 steps.
    assert 0.7 < losses[:2].mean() < 0.95
    assert losses[-10:].mean() < 0.6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"environment": "pong"}, "unknown environment 'pong'"),
        ({"length": 0}, "sizes must be at least 1"),
        ({"discount": 0.0}, "discount must be above 0"),
        ({"discount": float("nan")}, "discount must be above 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        policy_gradient_family(**{**SMALL, **arguments})
