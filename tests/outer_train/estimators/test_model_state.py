"""Model state through every estimator: carried, differentiated, reset with the episode."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt import LearnedOptimizer
from learned_opt.hand_designed import hyperparameters
from outer_train import PARTICLES, estimators, inner_problem, outer_step, particle_mesh, truncation
from tasks.base import StatefulTask, TaskFamily
from tasks.images.class_subsets import fixed_family
from tests.support.outer_train.names import ESTIMATORS
from tests.support.quick import by_name

KEY = jax.random.key(0)
RATE, T = jnp.asarray([0.25], jnp.float32), 6
each = by_name(ESTIMATORS, quick=("persistent_es", "truncated_backprop"))


def summing_family():
    """loss = w, so SGD has w_t = -rate t; the state sums w, and is what an evaluation measures:
    -rate t (t - 1) / 2 after t steps.

    A counter and a key beside it, whose draws the sum must not see.
    """

    def init(key):
        state = {"count": 0, "key": key, "sum": jnp.float32(0)}
        return jnp.float32(0), state

    def loss(params, state, key, batch):
        new_key, used = jax.random.split(state["key"])
        state = {"count": state["count"] + 1, "key": new_key, "sum": state["sum"] + params}
        return params + 0.0 * jax.random.normal(used, (), jnp.float32), (state, {})

    eval_loss = lambda params, state, key, batch: (state["sum"], {})
    return fixed_family(StatefulTask(init, loss, eval_loss, lambda data, key, split: ()))


def rate_alone():
    """Gradient descent at the rate theta, linear in it."""

    def optimizer(theta):
        update = lambda grads, state, params=None, **extra: (-theta[0] * grads, state)
        return optax.GradientTransformationExtraArgs(lambda params: (), update)

    return LearnedOptimizer(lambda key: RATE, optimizer)


def summed(first, last):
    """Mean over steps first + 1..last of the measured loss, over the rate."""
    steps = np.arange(first + 1, last + 1)
    return float(np.mean(-steps * (steps - 1) / 2))


def make(name, problem, num=2, **options):
    if name in ("reparameterization", "merged", "truncated_backprop"):
        options["chunk_size"] = 2
    return getattr(estimators, name)(problem, num, **options)


@each
def test_the_state_lives_as_long_as_the_episode(name):
    """Losses are linear in theta: the mean over both sides of a pair is that of the middle."""
    estimator = make(name, inner_problem(summing_family(), rate_alone(), T, loss_clip=1e6))
    state, estimate = estimator.init(RATE, KEY), jax.jit(estimator.estimate)
    start = None if name == "full_es" else jax.random.key_data(state.inner.model_state["key"])
    windows = [(0, T)] * 3 if name == "full_es" else [(0, 4), (4, 6), (0, 4)]
    for i, (first, last) in enumerate(windows):
        result, state = estimate(RATE, state, jax.random.fold_in(KEY, i), jnp.int32(4))
        # A particle that carries one side goes on from the positive one.
        carried = name in ("evolution_strategies", "reparameterization", "merged") and first
        rtol = 0.2 if carried else 1e-4
        np.testing.assert_allclose(result.loss, summed(first, last) * RATE[0], rtol=rtol)
        if name in ("truncated_backprop", "forward_mode", "reparameterization") and not first:
            np.testing.assert_allclose(result.grad[0], summed(first, last), rtol=1e-4)
        if name == "forward_mode":  # persistent: the whole past counts
            np.testing.assert_allclose(result.grad[0], summed(first, last), rtol=1e-4)
        if name == "full_es":
            continue
        model_state = state.inner.model_state
        np.testing.assert_array_equal(model_state["count"], last % T)
        np.testing.assert_array_equal(model_state["count"].ravel(), state.inner.step.ravel())
        moved = jax.random.key_data(model_state["key"]) != start
        assert moved.any(axis=-1).all()


@each
def test_a_state_that_is_not_finite_starts_its_particle_afresh(name):
    if name == "full_es":
        return  # nothing outlives an episode
    problem = inner_problem(summing_family(), rate_alone(), T)
    estimator = make(name, problem, 4)
    state = estimator.init(RATE, KEY)
    model_state = state.inner.model_state
    bad = model_state["sum"].at[1].set(jnp.nan)
    inner = state.inner._replace(model_state=model_state | {"sum": bad})
    result, state = jax.jit(estimator.estimate)(
        RATE, state._replace(inner=inner), KEY, jnp.int32(2)
    )
    assert int(result.info.num_resets) == 1
    count = state.inner.model_state["count"].reshape(4, -1)[:, 0]
    np.testing.assert_array_equal(count, [2, 0, 2, 2])
    assert np.isfinite(state.inner.model_state["sum"]).all()
    assert np.isfinite(result.grad).all()


class Normalized(nn.Module):
    """One hidden layer, normalized over the batch."""

    @nn.compact
    def __call__(self, x, train):
        # A bias would have no gradient but rounding's, which Adam makes steps of.
        x = nn.Dense(3, use_bias=False, param_dtype=jnp.float64)(x)
        options = {"param_dtype": jnp.float64, "force_float32_reductions": False}
        x = nn.BatchNorm(not train, momentum=0.7, **options)(x)
        return nn.Dense(1, param_dtype=jnp.float64)(nn.tanh(x))[:, 0]


def normalized_family(keep=lambda state: state):
    """Regression in 64 bit on 32 examples; `keep` is what the next step has of the statistics."""
    module, rng = Normalized(), np.random.default_rng(0)
    inputs, targets = jnp.asarray(1 + rng.normal(size=(32, 4))), jnp.asarray(rng.normal(size=32))

    def init(key):
        variables = module.init(key, jnp.zeros((1, 4)), train=True)
        # Flax makes them in 32 bit, and keeps what it is given.
        wide = jax.tree.map(lambda x: x.astype(jnp.float64), variables["batch_stats"])
        return variables["params"], wide

    def loss(params, state, key, batch):
        variables = {"params": params, "batch_stats": state}
        outputs, new = module.apply(variables, batch[0], train=True, mutable=["batch_stats"])
        return jnp.mean(jnp.square(outputs - batch[1])), (keep(new["batch_stats"]), {})

    def eval_loss(params, state, key, batch):
        variables = {"params": params, "batch_stats": state}
        return jnp.mean(jnp.square(module.apply(variables, batch[0], train=False) - batch[1])), {}

    def sample_batch(data, key, split):
        rows = jax.random.randint(key, (8,), 0, 32)
        return data[0][rows], data[1][rows]

    task = StatefulTask(init, loss, eval_loss, sample_batch)
    return TaskFamily(lambda key: (), lambda drawn: task, (inputs, targets))


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_forward_equals_reverse_equals_finite_differences(name):
    num_steps = 7
    with jax.enable_x64(True):
        optimizer = getattr(hyperparameters, name)(learning_rate=0.1)
        theta = jax.tree.map(lambda x: x.astype(jnp.float64), optimizer.init(KEY))

        def run(make, family, **options):
            problem = inner_problem(family, optimizer, num_steps)
            estimator = make(problem, 2, **options)
            state = estimator.init(theta, KEY)
            return jax.jit(lambda t: estimator.estimate(t, state, KEY, num_steps)[0])

        reverse = run(estimators.truncated_backprop, normalized_family(), chunk_size=3)
        found = reverse(theta)
        forward = run(estimators.forward_mode, normalized_family())(theta)
        for leaf in theta:
            np.testing.assert_allclose(found.grad[leaf], forward.grad[leaf], rtol=0, atol=1e-10)
            losses = [reverse(theta | {leaf: theta[leaf] + h}).loss for h in (1e-5, -1e-5)]
            np.testing.assert_allclose(
                found.grad[leaf], (losses[0] - losses[1]) / 2e-5, rtol=0, atol=1e-7
            )
        if name == "sgd":
            return
        constant = run(
            estimators.truncated_backprop, normalized_family(jax.lax.stop_gradient), chunk_size=3
        )(theta)
        np.testing.assert_allclose(found.loss, constant.loss, rtol=1e-12)
        # Much of it has come by way of the statistics.
        rate = "log_learning_rate"
        assert abs(float(found.grad[rate] - constant.grad[rate])) > 1e-3


@pytest.mark.parametrize("name", ["persistent_es", "merged", "forward_mode"])
def test_two_devices_give_what_one_gives(name):
    problem = inner_problem(summing_family(), rate_alone(), T, loss_clip=1e6)
    thetas = []
    for num_devices in (1, 2):
        estimator = make(name, problem, 4, axis_name=PARTICLES, stagger=True)
        mesh = particle_mesh(4, num_devices)
        run = outer_step([estimator], optax.sgd(1e-3), truncation.constant(4), mesh)
        state = run.init(RATE, KEY)
        for _ in range(3):
            state, _ = run.step(state, KEY, ((),))
        thetas.append(float(state.theta[0]))
    np.testing.assert_allclose(*thetas, rtol=1e-5)
    assert thetas[0] != RATE[0]
