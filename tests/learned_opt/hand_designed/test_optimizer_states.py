"""The state of every hand-designed optimizer:
whose tree it is for, what may be donated, what a flag changes.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.catalog import OPTIMIZERS
from learned_opt.hypergradient._marthe import rtho
from tests.support.learned_opt.hand_designed import (
    LEARNED,
    NAMES,
    by_kind,
    every_optimizer,
    finite,
    make_params,
    step,
    transformation,
)


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
    frozen: jax.Array
    name: str
    activation: object = jnp.tanh
    bias: None = None

    def loss(self):
        return jnp.sum(self.activation(self.weight) ** 2)


@every_optimizer
def test_a_whole_model_is_updated_by_the_tree_of_its_gradients(name):
    """Functions, strings, integers, None and what is not trained among the leaves,
    as in Equinox.
    """
    model = Model(jnp.array([0.3, -0.8]), jnp.int32(3), jnp.ones(2), "model")
    grads = eqx.tree_at(lambda g: g.frozen, eqx.filter_grad(Model.loss)(model), None)
    tx = transformation(name)
    arrays = eqx.filter(model, eqx.is_array)
    alone = lambda w: jnp.sum(jnp.tanh(w) ** 2)
    state_alone, inits = tx.init(model.weight), {"arrays": tx.init(arrays), "whole": tx.init(model)}
    for _ in range(2):
        want, state_alone = tx.update(grads.weight, state_alone, model.weight, value_fn=alone)
        for kind, state in inits.items():
            # Not compiled: a model has leaves that are no arrays.
            updates, new = tx.update(grads, state, model, value_fn=lambda m: m.loss())
            assert [updates.count, updates.frozen, updates.activation, updates.name] == [None] * 4
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


@by_kind([*NAMES, *OPTIMIZERS])
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


@by_kind(LEARNED)
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


@pytest.mark.slow
@every_optimizer
def test_under_every_flag_the_step_is_the_same(name):
    """Besides strict promotion, which all tests have."""

    def two_steps():
        tx = transformation(name)
        return jax.jit(lambda p: step(tx, *step(tx, p, tx.init(p))[1:])[1])(make_params())

    want = two_steps()
    for flag in FLAGS.values():
        with flag():
            got = two_steps()
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), got, want)
    with jax.enable_x64(True):
        tx = transformation(name)
        got, state = jax.jit(lambda p: step(tx, p, tx.init(p))[1:])(make_params(jnp.float64))
        assert all(x.dtype in (jnp.float64, jnp.int32) for x in jax.tree.leaves((got, state)))
