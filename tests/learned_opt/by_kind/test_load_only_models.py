"""`load(only=, others=)` in models of Flax and Equinox, and where there is no gradient."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState

import learned_opt
from learned_opt.by_kind import with_others
from tests.support.learned_opt.by_kind import GRADS, PARAMS, SGD, close, first_step

pytestmark = pytest.mark.usefixtures("standard_promotion")


def test_flax_linen_and_nnx(opt):
    optimizer = with_others(opt, learned_opt.matrices, SGD)
    model = nn.Dense(3)
    state = TrainState.create(apply_fn=model.apply, params={"params": PARAMS}, tx=optimizer)
    state = state.apply_gradients(grads={"params": GRADS})
    close(state.params["params"], optax.apply_updates(PARAMS, first_step(optimizer)))
    module = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    before = nnx.to_pure_dict(nnx.state(module, nnx.Param))
    grads = jax.tree.map(jnp.cos, nnx.state(module, nnx.Param))
    want = optax.apply_updates(before, first_step(optimizer, before, nnx.to_pure_dict(grads)))
    mask = jax.tree.map(lambda x: x.ndim == 2, nnx.state(module, nnx.Param))
    for only in (learned_opt.matrices, mask, {"kernel": True, "bias": False}):
        module = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
        trained = nnx.Optimizer(module, with_others(opt, only, SGD), wrt=nnx.Param)
        trained.update(module, grads)
        close(nnx.to_pure_dict(nnx.state(module, nnx.Param)), want)


def test_equinox_models_with_functions_and_none(opt):
    key = jax.random.key(0)
    model = eqx.nn.Sequential(
        [
            eqx.nn.MLP(2, 2, 3, 1, key=key, use_final_bias=False),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.Dropout(0.5),
            {"counts": jnp.zeros(3, int), "key": key},
        ]
    )
    optimizer = with_others(opt, "matrix", optax.adamw(0.5))
    grads = jax.tree.map(lambda x: jnp.cos(x) if eqx.is_inexact_array(x) else None, model)
    trained = eqx.filter(model, eqx.is_inexact_array)
    want, _ = optimizer.update(grads, optimizer.init(trained), trained)
    assert want[0].layers[0].bias is not None
    # A state of the whole model, of its arrays or of what is trained, with either at update.
    for start in (model, eqx.filter(model, eqx.is_array), trained):
        state = optimizer.init(start)
        for at_update in (start, model):
            got, new = optimizer.update(grads, state, at_update)
            close(got, want)
            assert jax.tree.structure(new) == jax.tree.structure(state)
    # A mask in the shape of the model, which is callable.
    mask = jax.tree.map(lambda x: eqx.is_inexact_array(x) and x.ndim == 2, model)
    assert callable(mask)
    by_mask = with_others(opt, mask, optax.adamw(0.5))
    close(by_mask.update(grads, by_mask.init(trained), trained)[0], want)
    close(by_mask.update(grads, by_mask.init(model), model)[0], want)


def test_where_a_gradient_is_none_nothing_moves(opt):
    optimizer = with_others(opt, "matrix", optax.adamw(0.5))
    state = optimizer.init(PARAMS)
    of_some = optimizer.init(PARAMS | {"Dense_0": {"kernel": None, "bias": None}})
    for none in (None, {"kernel": None, "bias": None}):
        for start in (state, of_some):
            updates, new = optimizer.update(GRADS | {"Dense_0": none}, start, PARAMS)
            assert jax.tree.leaves(updates["Dense_0"]) == []
            assert jax.tree.structure(new) == jax.tree.structure(start)
            close(updates["head"], first_step(optimizer)["head"])
    grads = GRADS | {"Dense_0": {"kernel": None, "bias": GRADS["Dense_0"]["bias"]}}
    close(
        first_step(optimizer, grads=grads)["Dense_0"]["bias"],
        first_step(optimizer)["Dense_0"]["bias"],
    )
