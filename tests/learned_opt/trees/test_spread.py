"""Where new arrays are put: beside a parameter, or whole on the devices that have them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

import learned_opt
from learned_opt.trees import spread


@pytest.fixture(params=[AxisType.Auto, AxisType.Explicit])
def mesh(request):
    return jax.make_mesh((2, 4), ("x", "y"), axis_types=(request.param,) * 2)


def spread_over(mesh):
    place = lambda x, *spec: jax.device_put(x, NamedSharding(mesh, P(*spec)))
    return {"a": place(jnp.ones((4, 8)), "x", "y"), "b": place(jnp.ones(8), "y")}


def plain_zeros(params):
    """As a transformation may make them that has never heard of a mesh."""
    return jax.tree.map(lambda x: jnp.zeros(x.shape), params)


def specs(tree):
    plain = lambda spec: tuple(spec)[: max((i + 1 for i, s in enumerate(spec) if s), default=0)]
    return {
        jax.tree_util.keystr(path): plain(x.sharding.spec)
        for path, x in jax.tree.leaves_with_path(tree)
    }


def test_scalars_are_whole_and_have_the_type_asked_for(mesh):
    params = spread_over(mesh)
    rate = spread.scalar_beside(params, 0.25, jnp.float32)
    assert (float(rate), rate.dtype, rate.weak_type) == (0.25, jnp.float32, False)
    for scalar in (rate, spread.zero_count(params)):
        assert scalar.sharding.is_equivalent_to(NamedSharding(mesh, P()), 0)
    given = jnp.float32(2.0)
    spread.scalar_beside(params, given, jnp.float32).delete()
    assert float(given) == 2.0


def test_what_lies_on_one_device_has_its_state_there():
    device = jax.devices()[3]
    params = {"a": jax.device_put(jnp.ones(3), device), "b": np.ones(2, np.float32)}
    state = spread.state_beside(optax.adam(0.1).init(params), params)
    lies = [
        spread.zeros_beside(params["a"], jnp.float32),
        spread.zeros_beside(params["a"], jnp.float32, 2),
        spread.zero_count(params),
        state[0].count,
        state[0].mu["a"],
    ]
    assert {x.sharding for x in lies} == {SingleDeviceSharding(device)}


@pytest.mark.parametrize("how", ["eager", "jit"])
def test_a_state_of_optax_lies_beside_its_parameters(mesh, how):
    """Also where it holds a part of the tree, or a leaf of another shape at the same path."""
    params, tx = (
        spread_over(mesh),
        optax.chain(
            optax.masked(optax.trace(0.9), {"a": True, "b": False}),
            optax.scale_by_factored_rms(min_dim_size_to_factor=2),
            optax.scale_by_adam(),
            optax.GradientTransformation(plain_zeros, None),
            learned_opt.load("mlp"),
        ),
    )
    init = lambda p: spread.state_beside(tx.init(p), p)
    with jax.set_mesh(mesh):
        found = specs((init if how == "eager" else jax.jit(init))(params))
        expected = tx.init(params)
    assert jax.tree.structure(expected) == jax.tree.structure(jax.eval_shape(init, params))
    mirrored = {
        "[0].inner_state.trace['a']": ("x", "y"),
        "[1].v['b']": ("y",),
        "[2].mu['a']": ("x", "y"),
        "[2].nu['b']": ("y",),
        "[3]['a']": ("x", "y"),
        "[4].momenta['a']": (None, "x", "y"),
    }
    assert {path: found[path] for path in mirrored} == mirrored
    assert found["[2].count"] == ()
    if how == "eager":
        assert found["[1].v_row['b']"] == ()


def test_a_state_goes_through_other_transformations(mesh):
    """`vmap` and derivatives of an init meet no rule that is not there."""
    params = jax.tree.map(lambda x: jnp.stack([x, x]), spread_over(mesh))
    with jax.set_mesh(mesh):

        def init(params):
            state = spread.state_beside(optax.contrib.schedule_free_sgd(0.1).init(params), params)
            return state, sum(jnp.sum(x) for x in jax.tree.leaves(state.z))

        states, total = jax.jit(jax.vmap(init))(params)
        slopes = jax.jit(jax.grad(lambda p: init(p)[1]))(params)
    assert jax.tree.leaves(states.z)[0].shape == params["a"].shape
    np.testing.assert_allclose(total, [40.0, 40.0])
    np.testing.assert_array_equal(slopes["a"], np.ones_like(params["a"]))
