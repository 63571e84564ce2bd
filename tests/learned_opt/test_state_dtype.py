"""Running averages in bfloat16: right in the mean, half the memory, no worse training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_opt
from learned_opt.trees.rounding import rounded


@pytest.mark.parametrize("scale", [1.0, 2.0**-66, -(2.0**41)])
def test_rounding_is_right_in_the_mean(scale):
    n = 200_000
    x = scale * (1.0 + jax.random.uniform(jax.random.key(0), (n,)))
    errors = []
    for count in range(5):
        y = np.asarray(rounded(x, jnp.bfloat16, jnp.int32(count)), np.float64)
        errors.append((y - np.asarray(x, np.float64)) / scale)
    errors = np.asarray(errors)
    # Between neighbours, which are 2^-7 apart here, in proportion to the distance.
    assert np.abs(errors).max() < 2.0**-7
    assert abs(errors.mean()) < 4 * errors.std() / np.sqrt(errors.size)
    # Also where the numbers end in the same bits, and independent from step to step.
    low = np.asarray(x).view(np.uint32) % 2**16 < 2**12
    assert abs(errors[:, low].mean()) < 4 * errors[:, low].std() / np.sqrt(errors[:, low].size)
    residual = errors - errors.mean(axis=0)
    assert abs(np.corrcoef(errors[0] - errors[1], errors[2] - errors[3])[0, 1]) < 0.015
    assert residual.std() > 0


def test_one_number_over_many_steps_is_right_in_the_mean():
    x, counts = jnp.float32(1.001), jnp.arange(20_000, dtype=jnp.int32)
    y = np.asarray(jax.vmap(lambda c: rounded(x, jnp.bfloat16, c))(counts), np.float64)
    assert abs(y.mean() - 1.001) < 4 * y.std() / np.sqrt(y.size)


def test_what_bfloat16_holds_stays():
    exact = jnp.asarray([0.0, -0.0, 1.0, -2.5, 2.0**-126, np.inf, -np.inf], jnp.float32)
    for count in range(50):
        np.testing.assert_array_equal(rounded(exact, jnp.bfloat16, jnp.int32(count)), exact)
    assert np.isnan(rounded(jnp.float32(np.nan), jnp.bfloat16, jnp.int32(3)))
    np.testing.assert_array_equal(rounded(exact, jnp.float32, jnp.int32(0)), exact)


@pytest.mark.parametrize("name", ["general", "mlp"])
def test_averages_follow_those_in_float32(name):
    """A decay of .999 does not stand still."""
    params = {"w": jnp.ones((40, 50))}
    wide, narrow = learned_opt.load(name), learned_opt.load(name, state_dtype="bfloat16")
    states = [wide.init(params), narrow.init(params)]
    updates = [jax.jit(opt.update) for opt in (wide, narrow)]
    for step in range(300):
        grads = {"w": 1.0 + 0.1 * jax.random.normal(jax.random.key(step), (40, 50))}
        states = [u(grads, s, params)[1] for u, s in zip(updates, states, strict=True)]
    for a, b in zip(*(jax.tree.leaves(s) for s in states), strict=True):
        if a.ndim:
            assert b.dtype == jnp.bfloat16
            assert b.nbytes == a.nbytes / 2
            axes = tuple(range(1, a.ndim))
            mean = jnp.mean(b.astype(jnp.float32), axis=axes)
            np.testing.assert_allclose(mean, jnp.mean(a, axis=axes), rtol=0.01)


def test_a_parameter_without_gradient_rests():
    opt = learned_opt.load(state_dtype="bfloat16")
    params = {"w": jnp.ones((3, 4)), "frozen": jnp.ones(5)}
    grads = {"w": jnp.ones((3, 4)), "frozen": jnp.zeros(5)}
    state, update = opt.init(params), jax.jit(opt.update)
    for _ in range(20):
        updates, state = update(grads, state, params)
        assert not updates["frozen"].any()
        assert updates["w"].all()


@pytest.mark.parametrize("dtype", ["float16", "int8", "bf16", 3])
def test_other_types_are_refused(dtype):
    with pytest.raises(ValueError, match=r"state_dtype: got .*, allowed are float32 and bfloat16"):
        learned_opt.load(state_dtype=dtype)
