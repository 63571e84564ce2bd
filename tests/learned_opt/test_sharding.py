"""Parameters spread over eight devices: the state lies as they do, the update is that of one
device, and nothing but mean squares is sent.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import learned_opt
from learned_opt.per_parameter.layouts import _mirrored
from tests.support.learned_opt.thetas import loud_theta

SHAPES = {"kernel": (256, 160), "bias": (160,), "scale": (64,), "temperature": ()}
SPECS = {
    "rows": {"kernel": P("x"), "bias": P("x"), "scale": P()},
    "columns": {"kernel": P(None, ("x", "y")), "bias": P(("x", "y")), "scale": P("x")},
    "both": {"kernel": P("x", "y"), "bias": P("y"), "scale": P()},
}
OPTIMIZERS = {
    "load": learned_opt.load,
    "mlp": lambda: _fresh(learned_opt.mlp((8, 8))),
    "adafactor_mlp": lambda: _fresh(learned_opt.adafactor_mlp((8,), rms_normalized=True)),
}


def _fresh(optimizer):
    return optimizer.optimizer(optimizer.init(jax.random.key(0)))


def drawn(shapes, seed):
    rng = np.random.default_rng(seed)
    return {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}


def spread(tree, layout, kind):
    mesh = jax.make_mesh((2, 4), ("x", "y"), axis_types=(kind,) * 2)
    specs = SPECS[layout]
    return mesh, {
        k: jax.device_put(x, NamedSharding(mesh, specs.get(k, P()))) for k, x in tree.items()
    }


def lies(state):
    """What `jit` compiles for."""
    return [(x.aval, x.sharding) for x in jax.tree.leaves(state)]


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("layout", SPECS)
def test_the_state_lies_as_the_parameters(layout, kind):
    mesh, params = spread(drawn(SHAPES, 0), layout, kind)
    opt = OPTIMIZERS["load"]()
    with jax.set_mesh(mesh):
        for state in (opt.init(params), jax.jit(opt.init)(params)):
            for name, x in params.items():
                for average in (state.momenta[name], state.second_moments[name]):
                    wanted = NamedSharding(mesh, P(None, *x.sharding.spec))
                    assert average.sharding.is_equivalent_to(wanted, average.ndim), name
    zeros = jax.jit(
        jax.shard_map(
            lambda p: opt.init(p).momenta["kernel"],
            mesh=mesh,
            in_specs=(SPECS[layout] | {"temperature": P()},),
            out_specs=P(None, *SPECS[layout]["kernel"]),
        )
    )(params)
    assert zeros.shape == (zeros.shape[0], *SHAPES["kernel"])


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize(
    ("optimizer", "layout"),
    [("load", "both"), ("load", "columns"), ("mlp", "rows"), ("adafactor_mlp", "both")],
)
def test_an_update_is_that_of_one_device(optimizer, layout, kind):
    opt, params, grads = OPTIMIZERS[optimizer](), drawn(SHAPES, 0), drawn(SHAPES, 1)
    state, expected = opt.init(params), None
    for _ in range(3):
        expected, state = opt.update(grads, state, params)
    mesh, params = spread(params, layout, kind)
    _, grads = spread(grads, layout, kind)
    with jax.set_mesh(mesh):
        state, update = opt.init(params), jax.jit(opt.update, donate_argnums=1)
        text = update.lower(grads, state, params).compile().as_text()
        found, state = update(grads, state, params)
        first = lies(state)
        for _ in range(2):
            found, state = update(grads, state, params)
        assert lies(state) == first
    for word in ("all-gather", "collective-permute", "all-to-all"):
        assert word not in text
    for name in SHAPES:
        np.testing.assert_allclose(found[name], expected[name], rtol=2e-5, atol=1e-6)
        assert found[name].sharding.is_equivalent_to(params[name].sharding, found[name].ndim)


WAYS = {
    "load": lambda: learned_opt.load_theta("general"),
    "metz2019": lambda: _loud(learned_opt.mlp(preset="metz2019")),
    "metz2022": lambda: _loud(learned_opt.adafactor_mlp(preset="metz2022")),
    "normalized": lambda: _loud(learned_opt.adafactor_mlp((4,), rms_normalized=True)),
}


def _loud(optimizer):
    return optimizer, loud_theta(optimizer)


@pytest.mark.parametrize("name", WAYS)
def test_the_ways_to_go_over_a_tree_agree(name, monkeypatch):
    shapes = SHAPES | {f"small_{i}": (7, 3) for i in range(20)}
    shapes |= {f"layer_{i}": (200, 90) for i in range(10)} | {"empty": (0, 2), "image": (3, 3, 4)}
    optimizer, theta = WAYS[name]()
    params, grads = drawn(shapes, 0), drawn(shapes, 1)
    found = {}
    for way in ("spread", "together", "packed"):
        monkeypatch.setattr(_mirrored, "may_be_spread", lambda arrays, way=way: way == "spread")
        opt = (optimizer.packed if way == "packed" else optimizer.optimizer)(theta)
        state, update = opt.init(params), jax.jit(opt.update)
        for _ in range(2):
            found[way], state = update(grads, state, params)
    for leaf in shapes:
        for way in ("together", "packed"):
            a, b = found[way][leaf], found["spread"][leaf]
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6, err_msg=f"{way}: {leaf}")
