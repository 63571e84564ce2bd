"""A learned optimizer is an ordinary Optax transformation:
what Optax, Flax and Orbax do with one, they do with it.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from jax import lax

import learned_opt

PARAMS = {"kernel": jnp.arange(6.0).reshape(2, 3) / 5, "bias": jnp.ones(3)}
GRADS = jax.tree.map(jnp.cos, PARAMS)


@pytest.fixture(scope="module")
def opt():
    optimizer = learned_opt.mlp((4,))
    return optimizer.optimizer(
        jax.tree.map(lambda x: 10 * x + 1, optimizer.init(jax.random.key(0)))
    )


def test_unknown_extra_arguments_are_ignored(opt):
    state = opt.init(PARAMS)
    plain, _ = opt.update(GRADS, state, PARAMS)
    extra, _ = opt.update(GRADS, state, PARAMS, value=jnp.ones(()), loss=1.0, grad_fn=None)
    jax.tree.map(np.testing.assert_array_equal, plain, extra)


def test_chain_with_schedule_clipping_and_weight_decay(opt):
    chain = optax.chain(
        optax.clip_by_global_norm(1e9),
        opt,
        optax.add_decayed_weights(-0.1),
        optax.scale_by_schedule(lambda t: 0.5),
    )
    got, _ = jax.jit(chain.update)(GRADS, chain.init(PARAMS), PARAMS)
    alone, _ = opt.update(GRADS, opt.init(PARAMS), PARAMS)
    want = jax.tree.map(lambda u, w: 0.5 * (u - 0.1 * w), alone, PARAMS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), got, want)


def test_multi_transform_with_masked_nodes(opt):
    both = optax.multi_transform(
        {"learned": opt, "sgd": optax.sgd(0.5)}, {"kernel": "learned", "bias": "sgd"}
    )
    got, _ = jax.jit(both.update)(GRADS, both.init(PARAMS), PARAMS)
    alone, _ = opt.update(GRADS["kernel"], opt.init(PARAMS["kernel"]), PARAMS["kernel"])
    np.testing.assert_allclose(got["kernel"], alone, rtol=1e-5)
    np.testing.assert_allclose(got["bias"], -0.5 * GRADS["bias"], rtol=1e-6)


def test_scan_equals_a_loop(opt):
    def step(carry, _):
        params, state = carry
        updates, state = opt.update(params, state, params)
        return (optax.apply_updates(params, updates), state), None

    start = (PARAMS, opt.init(PARAMS))
    (scanned, state), _ = lax.scan(step, start, None, length=3)
    carry = start
    for _ in range(3):
        carry, _ = jax.jit(step)(carry, None)
    assert int(state.count) == 3
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), scanned, carry[0]
    )


def test_flax_train_state(opt):
    model = nn.Dense(3)
    state = TrainState.create(apply_fn=model.apply, params={"params": PARAMS}, tx=opt)
    state = jax.jit(lambda s: s.apply_gradients(grads={"params": GRADS}))(state)
    updates, _ = opt.update(GRADS, opt.init(PARAMS), PARAMS)
    for name, leaf in optax.apply_updates(PARAMS, updates).items():
        np.testing.assert_allclose(state.params["params"][name], leaf, rtol=1e-6)
    assert int(state.step) == 1


def test_nnx_optimizer(opt):
    with jax.numpy_dtype_promotion("standard"):
        model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, opt, wrt=nnx.Param)
        before = nnx.to_pure_dict(nnx.state(model))

        @nnx.jit
        def train(model, optimizer):
            grads = nnx.grad(lambda m: jnp.sum(m(jnp.ones((1, 2))) ** 2))(model)
            optimizer.update(model, grads)
            return grads

        grads = nnx.to_pure_dict(train(model, optimizer))
        after = nnx.to_pure_dict(nnx.state(model))
    updates, _ = opt.update(grads, opt.init(before), before)
    for name, leaf in updates.items():
        np.testing.assert_allclose(after[name], before[name] + leaf, rtol=1e-5, atol=1e-6)


def test_state_goes_through_an_orbax_checkpoint(opt, tmp_path):
    import orbax.checkpoint as ocp

    _, state = opt.update(GRADS, opt.init(PARAMS), PARAMS)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state", jax.tree.map(jnp.zeros_like, state))
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, restored, state)


def test_gradients_of_another_type_than_the_parameters(opt):
    half = jax.tree.map(lambda g: g.astype(jnp.bfloat16), GRADS)
    got, _ = opt.update(half, opt.init(PARAMS), PARAMS)
    want, _ = opt.update(
        jax.tree.map(lambda g: g.astype(jnp.float32), half), opt.init(PARAMS), PARAMS
    )
    jax.tree.map(np.testing.assert_array_equal, got, want)
