"""What holds for every hand-designed optimizer: one table, every property."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt import hyperparameters, schedules
from learned_opt.hooks import with_hooks
from learned_opt.hypergradient import hd, marthe, rtho
from learned_opt.hypergradient_search import find_hyper_learning_rate, loss_diverged
from learned_opt.registry import OPTIMIZERS

LEARNED = {
    "sgd": hyperparameters.sgd,
    "momentum": hyperparameters.momentum,
    "adam": hyperparameters.adam,
    "adam8": hyperparameters.adam8,
    "constant": schedules.constant_schedule,
    "inverse_time": functools.partial(schedules.inverse_time_schedule, time_constant=5.0),
    "exponential": functools.partial(schedules.exponential_schedule, decay_rate=0.1),
    "free": functools.partial(schedules.free_schedule, 3),
}
HYPERGRADIENTS = {
    "hd": lambda: hd(optax.sgd, 0.1, 1e-3),
    "rtho": lambda: rtho(functools.partial(optax.adam, eps=1e-4), 0.01, 1e-4),  # 1e-8 is 0 in Optax's float16
    "marthe": lambda: marthe(functools.partial(optax.sgd, momentum=0.9), 0.1, 1e-3),
}


def transformation(name):
    if name in HYPERGRADIENTS:
        return HYPERGRADIENTS[name]()
    if name == "hooks":
        return with_hooks(transformation("adam"), optax.linear_schedule(1.0, 0.1, 10))
    learned = LEARNED[name]()
    return learned.optimizer(learned.init(jax.random.key(0)))


NAMES = [*LEARNED, *HYPERGRADIENTS, "hooks"]
NOT_FINITE = (math.nan, math.inf, -math.inf, np.float32(math.nan), np.array(math.inf), jnp.float32(math.nan))
every_optimizer = pytest.mark.parametrize("name", NAMES)

PARAMS = {"live": [1.0, -2.0, 0.5], "dead": [[1.0, -1e-3], [0.0, 3.0]], "mixed": [0.7, 2.0, -1.0]}
MIXED = np.array([1.0, 0.0, 0.0])


def make_params(dtype=jnp.float32):
    return {name: jnp.array(value, dtype) for name, value in PARAMS.items()}


def loss(params):
    mixed = jnp.asarray(MIXED, params["mixed"].dtype) * params["mixed"]
    return jnp.sum(jnp.square(params["live"])) + jnp.sum(jnp.square(mixed)) + 0 * jnp.sum(params["dead"])


def step(tx, params, state, grads=None):
    grads = jax.grad(loss)(params) if grads is None else grads
    updates, state = tx.update(grads, state, params, value_fn=loss)
    return updates, jax.tree.map(lambda p, u: p + u, params, updates), state


def finite(tree):
    return all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating))


@every_optimizer
def test_without_a_gradient_no_bit_moves_in_any_type(name):
    tx = transformation(name)
    for dtype in (jnp.float32, jnp.float16, jnp.bfloat16):
        start = params = make_params(dtype)
        state = tx.init(params)
        for _ in range(3):
            _, params, state = step(tx, params, state)
        np.testing.assert_array_equal(params["dead"], start["dead"])
        np.testing.assert_array_equal(params["mixed"][1:], start["mixed"][1:])
        if dtype == jnp.float32:
            assert np.all(params["live"] != start["live"])
            assert params["mixed"][0] != start["mixed"][0]
        assert params["live"].dtype == dtype
        assert finite((params, state))


@pytest.mark.parametrize("name", [*LEARNED, "hooks"])
def test_after_one_huge_gradient_nothing_drifts(name):
    tx = transformation(name)
    zero = jax.tree.map(jnp.zeros_like, make_params())
    huge = {**zero, "live": jnp.array([1e20, -1e20, 3e38])}

    @jax.jit
    def run(params):
        def body(carry, t):
            grads = jax.tree.map(lambda h: jnp.where(t == 0, h, 0), huge)
            carry = step(tx, *carry, grads)[1:]
            return carry, carry[0]

        return jax.lax.scan(body, (params, tx.init(params)), jnp.arange(1000))

    (_, state), path = run(make_params())
    assert finite((path, state))
    np.testing.assert_array_equal(path["live"][500], path["live"][-1])
    np.testing.assert_array_equal(path["dead"][-1], make_params()["dead"])
    if name in ("adam", "adam8", "hooks"):
        first = make_params()["live"] - 1e-3 * np.array([1, -1, 1])
        np.testing.assert_allclose(path["live"][0], first, rtol=1e-6)
        assert np.abs(path["live"][-1] - first).max() < 0.05


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("value", [100.0, -100.0])
def test_no_theta_moves_what_has_no_gradient(name, value):
    theta = jax.tree.map(lambda x: jnp.full_like(x, value), LEARNED[name]().init(jax.random.key(0)))
    tx, params = LEARNED[name]().optimizer(theta), make_params()
    zero = jax.tree.map(jnp.zeros_like, params)
    _, moved, state = step(tx, params, tx.init(params), zero)
    _, moved, state = step(tx, moved, state, zero)
    jax.tree.map(np.testing.assert_array_equal, moved, params)
    assert finite(state)


@pytest.mark.parametrize("name", LEARNED)
def test_derivatives_at_a_zero_gradient_are_finite(name):
    """Of three steps, with the smallest eps and a decay of 0 too."""
    extremes = {"adam": {"eps": 1e-20, "b1": 0.0, "b2": 0.0}, "adam8": {"eps": 1e-30, "b2": 0.0}}
    learned = LEARNED[name](**extremes.get(name, {}))

    def end(theta, params):
        tx = learned.optimizer(theta)
        state = tx.init(params)
        for _ in range(3):
            _, params, state = step(tx, params, state)
        return sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(params))

    @jax.jit
    def both(theta, params):
        ones = jax.tree.map(jnp.ones_like, theta)
        forward = jax.jvp(lambda theta: end(theta, params), (theta,), (ones,))[1]
        return forward, jax.grad(end, argnums=(0, 1))(theta, params)

    forward, reverse = both(learned.init(jax.random.key(0)), make_params())
    assert finite((forward, reverse))
    np.testing.assert_allclose(forward, sum(np.sum(x) for x in jax.tree.leaves(reverse[0])), rtol=1e-3, atol=1e-6)
    assert forward != 0


def test_the_derivative_of_adams_quotient_is_right():
    """Against 64 bits, where squares do not underflow."""
    point = (0.3, 0.2, math.log(0.4))
    plain = lambda m, v, log_eps: m / jnp.sqrt(v + jnp.exp(2 * log_eps))  # noqa: E731
    with jax.enable_x64(True):
        want = jax.grad(plain, argnums=(0, 1, 2))(*map(jnp.float64, point))
        got = jax.grad(hyperparameters._over_root, argnums=(0, 1, 2))(*map(jnp.float64, point))
    np.testing.assert_allclose(got, want, rtol=1e-12)
    value = hyperparameters._over_root(jnp.float32(1e-20), jnp.float32(0), jnp.float32(math.log(1e-25)))
    np.testing.assert_allclose(value, 1e5, rtol=1e-4)


@every_optimizer
def test_a_state_of_another_tree_is_refused_by_the_leafs_name(name):
    if name == "sgd":
        pytest.skip("holds no tree")
    tx, params = transformation(name), make_params()
    others = {
        "['live']": {**{k: v for k, v in params.items() if k != "live"}, "renamed": params["live"]},
        "['more']": {**params, "more": jnp.ones(2)},
        "['dead']": {**params, "dead": jnp.ones((4, 1))},
    }
    for leaf, other in others.items():
        state = jax.eval_shape(tx.init, other)
        with pytest.raises(ValueError) as error:  # noqa: PT011
            jax.eval_shape(functools.partial(step, tx), params, state)
        assert leaf in str(error.value)


class Model(eqx.Module):
    weight: jax.Array
    count: jax.Array
    name: str
    activation: object = jnp.tanh
    bias: None = None

    def loss(self):
        return jnp.sum(self.activation(self.weight) ** 2)


@every_optimizer
def test_a_whole_model_is_updated_by_the_tree_of_its_gradients(name):
    """Functions, strings, integers and None among the leaves, as in Equinox."""
    model = Model(jnp.array([0.3, -0.8]), jnp.int32(3), "model")
    grads = eqx.filter_grad(Model.loss)(model)
    tx = transformation(name)
    arrays = eqx.filter(model, eqx.is_array)
    alone = lambda w: jnp.sum(jnp.tanh(w) ** 2)  # noqa: E731
    state_alone, inits = tx.init(model.weight), {"arrays": tx.init(arrays)}
    if name not in HYPERGRADIENTS:
        inits["whole"] = tx.init(model)
    for _ in range(2):
        want, state_alone = tx.update(grads.weight, state_alone, model.weight, value_fn=alone)
        for kind, state in inits.items():
            updates, new = tx.update(grads, state, model, value_fn=lambda m: m.loss())
            assert (updates.count, updates.activation, updates.name) == (None, None, None)
            np.testing.assert_allclose(updates.weight, want, rtol=1e-6)
            assert jax.tree.structure(new) == jax.tree.structure(state)
            assert eqx.apply_updates(model, updates).weight.shape == (2,)
            inits[kind] = new


@every_optimizer
def test_fresh_states_are_donated_and_a_second_step_compiles_nothing(name):
    tx, traces = transformation(name), []

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def donating(params, state):
        traces.append(1)
        return step(tx, params, state)[1:]

    params = make_params()
    state = tx.init(params)
    for _ in range(3):
        params, state = donating(params, state)
    again = make_params()
    again = donating(again, jax.jit(tx.init)(again))
    assert len(traces) == 1
    assert finite((params, state, again))


@pytest.mark.parametrize("name", [*NAMES, *OPTIMIZERS])
def test_no_buffer_stands_twice_in_a_fresh_state(name):
    if name in OPTIMIZERS:
        learned = OPTIMIZERS[name]()
        tx = learned.optimizer(learned.init(jax.random.key(0)))
    else:
        tx = transformation(name)
    params = make_params()
    arrays = [x for x in jax.tree.leaves((params, tx.init(params))) if x.size]
    assert len({x.unsafe_buffer_pointer() for x in arrays}) == len(arrays)
    assert not any(x.weak_type for x in jax.tree.leaves(tx.init(params)))


@pytest.mark.parametrize("name", LEARNED)
def test_a_donated_theta_does_not_end_the_factory(name):
    learned = LEARNED[name]()
    for leaf in jax.tree.leaves(learned.init(jax.random.key(0))):
        leaf.delete()
    assert finite(learned.init(jax.random.key(0)))


def test_a_donated_state_leaves_the_callers_rate():
    rate = jnp.float32(0.1)
    for leaf in jax.tree.leaves(rtho(optax.sgd, rate, rate).init(make_params())):
        leaf.delete()
    assert float(rate) == np.float32(0.1)


FLAGS = {
    "x64": lambda: jax.enable_x64(True),
    "rank promotion": lambda: jax.numpy_rank_promotion("raise"),
    "debug_nans": lambda: jax.debug_nans(True),
    "tracer leaks": jax.checking_leaks,
    "disable_jit": jax.disable_jit,
}


@every_optimizer
def test_under_every_flag_the_step_is_the_same(name):
    """Besides strict promotion, which all tests have."""
    tx = transformation(name)
    want = step(tx, *step(tx, make_params(), tx.init(make_params()))[1:])[1]
    for flag in FLAGS.values():
        with flag():
            tx = transformation(name)
            got = step(tx, *step(tx, make_params(), tx.init(make_params()))[1:])[1]
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), got, want)
    with jax.enable_x64(True):
        got, state = jax.jit(lambda p: step(tx, p, tx.init(p))[1:])(make_params(jnp.float64))
        assert all(x.dtype in (jnp.float64, jnp.int32) for x in jax.tree.leaves((got, state)))


@every_optimizer
def test_the_last_count_of_an_int32_does_not_turn_negative(name):
    tx, params = transformation(name), make_params()
    last = lambda x: jnp.full_like(x, 2**31 - 1) if x.dtype == jnp.int32 else x  # noqa: E731
    state = jax.tree.map(last, tx.init(params))
    _, params, state = step(tx, params, state)
    assert finite((params, state))
    assert all(np.all(x >= 0) for x in jax.tree.leaves(state) if x.dtype == jnp.int32)


class Bad(NamedTuple):
    """An argument, and values that it must not have."""

    factory: Callable
    name: str
    values: tuple = (*NOT_FINITE, -1.0, "0.1", None, 1j, 1e-50, 1e300, 10**400, [0.1, 0.2], True)
    match: str = ""


DECAYS = (*NOT_FINITE, -0.1, 1.0, 1.5, "0.9", None, 1 - 1e-16)
H, S, SGD, part = hyperparameters, schedules, optax.sgd, functools.partial
SEARCH = part(find_hyper_learning_rate, lambda value: [1.0])
BAD = [
    *(Bad(f, "learning_rate") for f in (H.sgd, H.momentum, H.adam, H.adam8, S.constant_schedule)),
    *(Bad(f, "eps") for f in (H.adam, H.adam8)),
    *(Bad(H.adam8, name) for name in ("exponential_decay", "linear_decay")),
    *(Bad(H.adam8, name, (*NOT_FINITE, -1.0, 0.0, "0.1", 1e-50)) for name in ("l1", "l2")),
    *(Bad(f, name, DECAYS) for f in (H.adam, H.adam8) for name in ("b1", "b2")),
    Bad(H.momentum, "decay", DECAYS),
    *(Bad(f, "momentum", DECAYS) for f in (S.constant_schedule, S.inverse_time_schedule, S.exponential_schedule)),
    Bad(part(S.free_schedule, 3), "momentum", DECAYS),
    Bad(S.free_schedule, "num_steps", (*NOT_FINITE, 0, -1, 2.5, "3", None, 2**31, 10**400)),
    *(Bad(S.inverse_time_schedule, name) for name in ("learning_rate", "decay_exponent", "time_constant")),
    Bad(S.exponential_schedule, "decay_rate"),
    Bad(part(S.encode_pair, momentum=0.9), "learning_rate", (*NOT_FINITE, 0.0, "a", 1e-50, [0.1, math.nan])),
    Bad(part(S.encode_pair, 0.1), "momentum", (*NOT_FINITE, 1.0, -0.1, [0.1, 1.0])),
    Bad(part(marthe, SGD), "learning_rate"),
    *(Bad(part(marthe, SGD, 0.1), name) for name in ("hyper_learning_rate", "meta_step")),
    Bad(part(marthe, SGD, 0.1), "mu", (*NOT_FINITE, -0.1, 1.1, None, "adaptiv", 1j)),
    *(Bad(part(f, SGD, hyper_learning_rate=0.1), "learning_rate") for f in (hd, rtho)),
    *(Bad(part(f, SGD, 0.1), "hyper_learning_rate") for f in (hd, rtho)),
    Bad(part(marthe, learning_rate=0.1), "inner", (None, SGD(0.1), 0.1)),
    Bad(part(with_hooks, SGD(0.1)), "learning_rate", (*NOT_FINITE, -1.0, "1", 1e300, 1e-50, 1j)),
    Bad(part(with_hooks, SGD(0.1)), "weight_decay", (*NOT_FINITE, -1.0, "1", 1e300, 1e-50, None)),
    *(Bad(SEARCH, name, (*NOT_FINITE, -1.0, "1", 0)) for name in ("start", "factor", "max_trials")),
    Bad(SEARCH, "factor", (1.0, 1e20), "factor|trials"),
    Bad(SEARCH, "max_trials", (1.5, 100), "trials"),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_hyperparameters_out_of_range_are_refused_at_construction(bad):
    for value in bad.values:
        with pytest.raises(ValueError, match=bad.match or bad.name):
            bad.factory(**{bad.name: value})


def test_losses_of_no_step_have_no_verdict():
    with pytest.raises(ValueError, match=r"got shape \(0,\)"):
        loss_diverged(np.array([]))


def test_a_decay_nearly_one_and_a_tiny_eps_still_make_adams_steps():
    """1 - b2 = 1e-10 is 0 in float32 if it is formed as 1 - b2, and 1e-20 squared is 0."""
    learned = hyperparameters.adam(0.1, 1 - 1e-9, 1 - 1e-10, 1e-20)
    tx, params = learned.optimizer(learned.init(jax.random.key(0))), make_params()
    updates, _ = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
    np.testing.assert_allclose(updates["live"], -0.1, rtol=1e-5)


def test_penalties_that_are_given_fall_on_every_parameter():
    """As `optax.add_decayed_weights` before Adam; those of the start spare what never had a gradient."""
    zero = jax.tree.map(jnp.zeros_like, make_params())
    for kwargs, moves in (({}, False), ({"l2": 0.1}, True), ({"l1": 0.1}, True)):
        learned = hyperparameters.adam8(**kwargs)
        tx = learned.optimizer(learned.init(jax.random.key(0)))
        updates, _ = tx.update(zero, tx.init(make_params()), make_params())
        np.testing.assert_allclose(updates["live"], -1e-3 * moves * np.array([1, -1, 1]), rtol=1e-4)
        np.testing.assert_array_equal(updates["dead"][1, 0], 0)
