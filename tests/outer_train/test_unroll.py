"""The dynamic unroll against plain `jax.grad` of a Python loop, in 64 bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from outer_train._unroll import unroll

NUM_PARTICLES = 3


def _step(theta, state, i, constants):
    w, m, kind, count = state
    gain, drive = constants
    grad = w * w - gain + drive * jnp.sin(i.astype(w.dtype)) + kind
    m = theta[:, :1] * m + grad
    w = w - theta[:, 1:] * jnp.tanh(m)
    return (w, m, kind, count + 1), jnp.sum(jnp.cos(w), axis=1)


def _inputs():
    theta = jnp.asarray(np.linspace(0.2, 0.8, NUM_PARTICLES * 2).reshape(NUM_PARTICLES, 2))
    w = jnp.asarray(np.linspace(-1, 1, NUM_PARTICLES * 4).reshape(NUM_PARTICLES, 4))
    kind = jnp.asarray(np.linspace(0, 0.1, NUM_PARTICLES * 4).reshape(NUM_PARTICLES, 4))
    return (
        theta,
        (w, jnp.zeros_like(w), kind, jnp.zeros(NUM_PARTICLES, jnp.int32)),
        (jnp.float64(0.5), jnp.float64(0.3)),
    )


def _plain(theta, w, num_steps):
    _, state, constants = _inputs()
    state = (w, *state[1:])
    total = jnp.zeros(NUM_PARTICLES)
    for i in range(num_steps):
        state, loss = _step(theta, state, jnp.int32(i), constants)
        total = total + loss
    return jnp.sum(total * jnp.arange(1.0, NUM_PARTICLES + 1)) + jnp.sum(state[0])


def test_gradients_equal_plain_autodiff_at_three_lengths_with_one_trace():
    with jax.enable_x64(True):
        theta, state, constants = _inputs()
        num_traces = 0
        run = unroll(_step, max_num_steps=40, chunk_size=7)

        def objective(theta, w, num_steps):
            nonlocal num_traces
            num_traces += 1
            result = run(theta, (w, *state[1:]), num_steps, constants)
            return jnp.sum(result.loss * jnp.arange(1.0, NUM_PARTICLES + 1)) + jnp.sum(
                result.state[0]
            )

        fast = jax.jit(jax.value_and_grad(objective, argnums=(0, 1)))
        for num_steps in (1, 14, 33):
            value, grads = fast(theta, state[0], jnp.int32(num_steps))
            expected, expected_grads = jax.jit(
                jax.value_and_grad(_plain, argnums=(0, 1)), static_argnums=2
            )(theta, state[0], num_steps)
            np.testing.assert_allclose(value, expected, rtol=1e-12)
            for grad, expected_grad in zip(grads, expected_grads, strict=True):
                np.testing.assert_allclose(grad, expected_grad, rtol=1e-9, atol=1e-9)
        assert num_traces == 1


@pytest.mark.parametrize("chunk_size", [3, 50], ids=["chunks", "one chunk"])
def test_all_loops_trace_a_step_once_between_them(chunk_size):
    """A learned optimizer's step takes a second to trace."""
    num_traces = 0

    def step(*args):
        nonlocal num_traces
        num_traces += 1
        return _step(*args)

    with jax.enable_x64(True):
        theta, state, constants = _inputs()
        run = unroll(step, max_num_steps=10, chunk_size=chunk_size)
        loss = lambda theta: jnp.sum(run(theta, state, jnp.int32(7), constants).loss)
        jax.eval_shape(loss, theta)
        assert num_traces == 1
        jax.eval_shape(jax.grad(loss), theta)
        assert num_traces <= 2  # JAX may trace a backward pass in a context of its own.


def test_a_step_that_is_not_live_passes_no_nan_backward():
    def step(theta, state, i, constants):
        # Past three steps the state is exactly 0, where the root's derivative is infinite.
        state = jnp.where(i < 3, theta * 0.5 ** i.astype(jnp.float32), 0.0)
        return state, jnp.sqrt(state)

    theta = jnp.asarray([1.0, 2.0], jnp.float32)
    live = lambda i, constants: i < constants
    run = unroll(step, max_num_steps=8, chunk_size=3, live=live)
    lengths = jnp.asarray([3, 2], jnp.int32)
    loss, grad = jax.value_and_grad(
        lambda theta: run(theta, theta, jnp.int32(6), lengths).loss.sum()
    )(theta)
    roots = np.sqrt(0.5 ** np.arange(3))
    np.testing.assert_allclose(loss, roots.sum() + np.sqrt(2) * roots[:2].sum(), rtol=1e-6)
    np.testing.assert_allclose(grad, [roots.sum() / 2, roots[:2].sum() / 2 / np.sqrt(2)], rtol=1e-6)


def test_leaves_that_no_step_changes_are_not_kept():
    num_kept = 64
    run = unroll(
        lambda theta, s, i, c: ((s[0] * theta, s[1]), s[0] + s[1].sum()), num_kept, chunk_size=1
    )
    state = (jnp.float32(1), jnp.ones(1000, jnp.float32))
    jaxpr = jax.make_jaxpr(jax.grad(lambda t: run(t, state, jnp.int32(5), ()).loss))(
        jnp.float32(0.5)
    )
    assert f"f32[{num_kept}]" in str(jaxpr)
    assert f"f32[{num_kept},1000]" not in str(jaxpr)


@pytest.mark.parametrize("name", ["max_num_steps", "chunk_size"])
def test_lengths_must_be_positive(name):
    with pytest.raises(ValueError, match=name):
        unroll(_step, **{"max_num_steps": 5, "chunk_size": 5, name: 0})


def test_a_sum_of_many_steps_loses_none():
    """300,000 losses of 0.1: added up one by one in float32 they come to 0.3 % less,
    and stop at 2^24 terms.
    """
    step = lambda theta, state, i, constants: (state, theta * jnp.full(2, 0.1, jnp.float32))
    run = jax.jit(unroll(step, 2**31 - 1, 2**30))
    result = run(jnp.float32(1.0), jnp.zeros(2, jnp.float32), jnp.int32(300_000), ())
    np.testing.assert_allclose(result.loss, 30_000.0, rtol=1e-6)
