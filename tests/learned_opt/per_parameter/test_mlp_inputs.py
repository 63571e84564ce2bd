"""What the MLP optimizer takes and refuses: types, empty trees, arguments; what state it keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_opt
from tests.support.learned_opt.thetas import loud_theta


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_updates_keep_the_type_and_accumulators_do_not(dtype):
    with jax.enable_x64(dtype == "float64"):
        optimizer = learned_opt.mlp()
        opt = optimizer.optimizer(loud_theta(optimizer))
        params = {
            "a": jnp.ones((2, 2), dtype),
            "s": jnp.ones((), dtype),
            "none": jnp.zeros((0, 3), dtype),
        }
        updates, state = jax.jit(opt.update)(params, opt.init(params), params)
        assert {leaf.dtype.name for leaf in jax.tree.leaves(updates)} == {dtype}
        wide = "float64" if dtype == "float64" else "float32"
        assert {x.dtype.name for x in jax.tree.leaves((state.momenta, state.second_moments))} == {
            wide
        }
        np.testing.assert_allclose(state.momenta["a"][0], 0.5 * np.ones((2, 2)), rtol=1e-6)
        assert updates["none"].shape == (0, 3)
        in_single = jax.tree.map(lambda x: x.astype(jnp.float32), params)
        want, _ = opt.update(in_single, opt.init(in_single), in_single)
        np.testing.assert_allclose(updates["a"].astype(jnp.float32), want["a"], rtol=1e-2)


def test_an_empty_tree():
    optimizer = learned_opt.mlp()
    opt = optimizer.optimizer(optimizer.init(jax.random.key(0)))
    updates, state = opt.update({}, opt.init({}), {})
    assert updates == {}
    assert int(state.count) == 1


def test_state_takes_24_bytes_a_parameter():
    optimizer = learned_opt.mlp()
    params = {"w": jnp.zeros((1000, 20)), "b": jnp.zeros(20)}
    state = jax.eval_shape(optimizer.optimizer(optimizer.init(jax.random.key(0))).init, params)
    assert sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)) == 24 * 20_020 + 4


def test_refuses_what_it_cannot_update():
    optimizer = learned_opt.mlp()
    opt = optimizer.optimizer(optimizer.init(jax.random.key(0)))
    with pytest.raises(TypeError, match="int32"):
        opt.init({"a": jnp.zeros(3, jnp.int32)})
    with pytest.raises(ValueError, match="params"):
        opt.update(jnp.ones(2), opt.init(jnp.ones(2)))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"preset": "metz"}, "'metz2019'"),
        ({"momentum_decays": (0.5, 1.0)}, r"momentum_decays must lie in \[0, 1\), .*got 1.0"),
        (
            {"second_moment_decays": (-0.1,)},
            r"second_moment_decays must lie in \[0, 1\), .*got -0.1",
        ),
        ({"hidden_sizes": (0,)}, "hidden_sizes must be a whole number from 1 .*got 0"),
        ({"timescales": (0.0,)}, "timescales must be above 0 .*got 0.0"),
        ({"features": ("adam",)}, "features: got 'adam'"),
        ({"features": ()}, "at least one"),
        ({"step_multiplier": float("nan")}, "step_multiplier must be finite, got nan"),
        ({"second_moment_decays": (0.9, 0.99)}, "5 momentum decays and 2"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        learned_opt.mlp(**kwargs)


def test_inputs_can_be_taken_away():
    optimizer = learned_opt.mlp(preset="metz2019_released", momentum_decays=(), timescales=())
    theta = optimizer.init(jax.random.key(0))
    assert theta["layer_0"]["weights"].shape == (1 + 1 + 5 + 5, 32)
    opt = optimizer.optimizer(theta)
    params = jnp.ones(3)
    _, state = opt.update(params, opt.init(params), params)
    assert state.momenta.shape == (0, 3)
