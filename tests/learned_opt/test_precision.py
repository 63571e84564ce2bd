"""A small transformer trains as well with averages or parameters of 16 bits."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from tasks import SPLITS, byte_transformer_family

NUM_SEEDS, NUM_STEPS, LOSS_SCALE = 4, 400, 1024.0


@pytest.fixture(scope="module")
def final_loss():
    """Mean over the seeds and the last tenth of the steps."""
    family = byte_transformer_family(depth=2, width=48, length=32, batch_size=8)
    task = family.task(family.sample(jax.random.key(0)))

    def train(key, opt, dtype, scale):
        params = jax.tree.map(lambda x: x.astype(dtype), task.init(key))

        def step(carry, key):
            params, state = carry
            batch = task.sample_batch(family.data, key, SPLITS[0])

            def scaled(params):
                wide = jax.tree.map(lambda x: x.astype(jnp.float32), params)
                return task.loss(wide, key, batch)[0] * scale

            loss, grads = jax.value_and_grad(scaled)(params)
            grads = jax.tree.map(lambda g: g / jnp.asarray(scale, g.dtype), grads)
            updates, state = opt.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), loss / scale

        _, losses = jax.lax.scan(step, (params, opt.init(params)), jax.random.split(key, NUM_STEPS))
        return jnp.mean(losses[-NUM_STEPS // 10 :])

    def found(opt, dtype=jnp.float32, scale=1.0):
        keys = jax.random.split(jax.random.key(1), NUM_SEEDS)
        return float(np.mean(jax.jit(jax.vmap(lambda k: train(k, opt, dtype, scale)))(keys)))

    return found


@pytest.fixture(scope="module")
def in_float32(final_loss):
    return final_loss(learned_opt.load())


@pytest.mark.slow
def test_averages_in_bfloat16_cost_at_most_a_hundredth(final_loss, in_float32):
    assert final_loss(learned_opt.load(state_dtype="bfloat16")) < 1.01 * in_float32


@pytest.mark.slow
def test_parameters_in_bfloat16_cost_at_most_a_fiftieth(final_loss, in_float32):
    assert final_loss(learned_opt.load(), jnp.bfloat16) < 1.02 * in_float32


@pytest.mark.slow
def test_float16_with_a_scaled_loss_costs_at_most_a_fiftieth(final_loss, in_float32):
    assert final_loss(learned_opt.load(), jnp.float16, LOSS_SCALE) < 1.02 * in_float32
