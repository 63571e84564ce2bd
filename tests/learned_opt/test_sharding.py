"""Parameters spread over eight devices: the state lies as they do, the update is that of one
device, and nothing but a few sums is sent.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import learned_opt
from learned_opt.per_parameter.layouts import _mirrored
from tests.support.learned_opt.every import AROUND, EVERY, HAND_DESIGNED, PER_PARAMETER
from tests.support.learned_opt.meshes import (
    SHAPES,
    SPECS,
    beside,
    bytes_a_device,
    drawn,
    make_mesh,
    parts,
    sent,
    specs_of,
    spread,
)
from tests.support.learned_opt.thetas import loud_theta

GROUPS = {
    "hand_designed": tuple(HAND_DESIGNED),
    "hypergradient": tuple(AROUND),
    "load": ("load_general",),
    "others": ("load_matrices",),
    **{name: (name,) for name in PER_PARAMETER},
}
"""Those whose programs are small are compiled as one."""
SUMS = {"hand_designed": (0, 0), "adafactor_mlp": (3, 100)}
"""Reductions for each tensor at most, and numbers in them; means of rows and columns are many."""


def loss(params):
    return sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(params)) / 2


@functools.cache
def together(group):
    """The group's optimizers beside each other."""
    made = {name: EVERY[name]() for name in GROUPS[group]}

    def update(grads, state, params):
        each = {
            name: tx.update(grads, state[name], params, value_fn=loss) for name, tx in made.items()
        }
        return tuple({name: out[i] for name, out in each.items()} for i in range(2))

    init = lambda params: {name: tx.init(params) for name, tx in made.items()}
    return optax.GradientTransformation(init, update)


@functools.cache
def of_one_device(group):
    tx, params, grads = together(group), drawn(SHAPES, 0), drawn(SHAPES, 1)
    state, update = tx.init(params), jax.jit(tx.update)
    for _ in range(3):
        found, state = update(grads, state, params)
    return found


def assert_lies(tree, shardings):
    def check(path, x, wanted):
        assert x.sharding.is_equivalent_to(wanted, x.ndim), (jax.tree_util.keystr(path), x.sharding)

    jax.tree.map_with_path(check, tree, shardings)
    total = sum(
        x.nbytes // parts(s)
        for x, s in zip(jax.tree.leaves(tree), jax.tree.leaves(shardings), strict=True)
    )
    assert bytes_a_device(tree) == total


KINDS = (AxisType.Auto, AxisType.Explicit)
QUICK = {
    ("hand_designed", "fsdp", AxisType.Auto),
    ("hand_designed", "both", AxisType.Explicit),
    ("hypergradient", "both", AxisType.Auto),
    ("load", "both", AxisType.Auto),
}
every_layout = pytest.mark.parametrize(
    ("group", "layout", "kind"),
    [
        pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow)
        for group in GROUPS
        for layout in SPECS
        for kind in KINDS
        for case in [(group, layout, kind)]
    ],
)


@every_layout
def test_a_fresh_state_lies_as_the_parameters(group, layout, kind):
    mesh, tx = make_mesh(layout, kind), together(group)
    params = spread(drawn(SHAPES, 0), layout, mesh)
    wanted = beside(layout, mesh, jax.eval_shape(tx.init, params))
    with jax.set_mesh(mesh):
        states = [tx.init(params), jax.jit(tx.init)(params)]
        states.append(jax.jit(tx.init, out_shardings=wanted)(params))
        # There each device has a rate, or a mean over its part of a row, of its own.
        if group not in ("hypergradient", "adafactor_mlp"):
            specs = jax.tree.map(lambda s: s.spec, wanted)
            inside = jax.shard_map(
                tx.init, mesh=mesh, in_specs=(specs_of(layout),), out_specs=specs
            )
            states.append(jax.jit(inside)(params))
        for state in states:
            assert_lies(state, wanted)
            assert jax.tree.map(jax.typeof, state) == jax.tree.map(jax.typeof, states[0])


@every_layout
def test_an_update_is_that_of_one_device(group, layout, kind):
    mesh, tx = make_mesh(layout, kind), together(group)
    params, grads = (spread(drawn(SHAPES, seed), layout, mesh) for seed in (0, 1))
    with jax.set_mesh(mesh):
        state = tx.init(params)
        wanted = beside(layout, mesh, state)
        lowered = jax.jit(tx.update, donate_argnums=1).lower(grads, state, params)
        update = lowered.compile()  # called with arrays that lie in another way, it raises
        for _ in range(3):
            before = state
            found, state = update(grads, state, params)
            assert all(x.is_deleted() for x in jax.tree.leaves(before))
        assert_lies(state, wanted)
    if group != "orthogonal_mlp":  # It needs whole matrices.
        sums = sent(update.as_text())
        most, numbers = SUMS.get(group, (1, 10))
        assert len(sums) <= most * len(SHAPES)
        assert sum(sums) <= numbers * len(SHAPES) * len(GROUPS[group])
    for name, updates in of_one_device(group).items():
        for leaf, expected in updates.items():
            np.testing.assert_allclose(
                found[name][leaf], expected, rtol=2e-5, atol=1e-6, err_msg=f"{name}: {leaf}"
            )
            assert found[name][leaf].sharding.is_equivalent_to(params[leaf].sharding, expected.ndim)


@pytest.mark.parametrize("group", GROUPS)
def test_types_are_stable_and_abstract_parameters_have_a_state(group):
    """As Optax tries its own, on one array of float16."""
    tx, mesh = together(group), make_mesh("fsdp", AxisType.Explicit)
    abstract = tx.init(jax.ShapeDtypeStruct((2, 4, 8), jnp.float32))
    shapes = jax.eval_shape(tx.init, jnp.zeros((2, 4, 8)))
    assert jax.tree.map(jnp.shape, abstract) == jax.tree.map(jnp.shape, shapes)
    with jax.set_mesh(mesh):
        params = jnp.ones((2, 8, 4), jnp.float16, device=NamedSharding(mesh, P(None, "x")))
        states = [tx.init(params), jax.jit(tx.init)(params)]
        updates, state = jax.jit(tx.update)(params, states[0], params)
        types = [jax.tree.map(jax.typeof, state) for state in (*states, state)]
        assert types[0] == types[1] == types[2]
        assert {jax.typeof(x) for x in jax.tree.leaves(updates)} == {jax.typeof(params)}


@pytest.mark.parametrize(
    "group",
    [
        g if g in ("load", "hypergradient") else pytest.param(g, marks=pytest.mark.slow)
        for g in GROUPS
    ],
)
def test_inside_shard_map_a_device_has_parameters_of_its_own(group):
    """Also their rate, and the mean over a tensor; the types of a state go through a scan."""
    tx, mesh = together(group), make_mesh("fsdp", AxisType.Auto)
    shapes = {"kernel": (16, 3), "bias": (8,)}
    params, specs = drawn(shapes, 0), {name: P("x") for name in shapes}

    def train(params):
        def step(carry, _):
            params, state = carry
            updates, state = tx.update(params, state, params)
            return (params, state), updates

        return jax.lax.scan(step, (params, tx.init(params)), length=2)[1]

    inside = jax.shard_map(train, mesh=mesh, in_specs=(specs,), out_specs=P(None, "x"))
    found = jax.jit(inside)(params)
    own = {name: x[: x.shape[0] // 8] for name, x in params.items()}
    for name, expected in jax.jit(train)(own).items():
        for leaf, x in expected.items():
            np.testing.assert_allclose(
                found[name][leaf][:, : x.shape[1]], x, rtol=1e-5, err_msg=f"{name}: {leaf}"
            )


@pytest.mark.parametrize("group", ["hypergradient", pytest.param("load", marks=pytest.mark.slow)])
def test_an_axis_may_be_left_to_the_compiler(group):
    """By a `shard_map` over the other one, and by a mesh with an axis of each kind."""
    tx, shapes = together(group), {"kernel": (8, 4), "bias": (8,)}
    specs = {"kernel": P("x", "y"), "bias": P("x")}

    def first_step(params):
        return tx.update(params, tx.init(params), params)[0]

    def place(mesh):
        put = lambda x, spec: jax.device_put(x, NamedSharding(mesh, spec))
        return jax.tree.map(put, drawn(shapes, 0), specs)

    mesh = jax.make_mesh((2, 4), ("x", "y"), axis_types=(AxisType.Auto,) * 2)
    inside = jax.shard_map(
        first_step, mesh=mesh, in_specs=P("x"), out_specs=P("x"), axis_names={"x"}
    )
    half = jax.tree.map(lambda x: x[: x.shape[0] // 2], drawn(shapes, 0))
    with jax.set_mesh(mesh):
        found = jax.jit(inside)(place(mesh))
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)
    jax.tree.map(lambda a, b: close(a[: b.shape[0]], b), found, jax.jit(first_step)(half))
    mesh = jax.make_mesh((2, 4), ("x", "y"), axis_types=(AxisType.Auto, AxisType.Explicit))
    with jax.set_mesh(mesh):
        found = jax.jit(first_step)(place(mesh))
    jax.tree.map(close, found, jax.jit(first_step)(drawn(shapes, 0)))


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
    shapes = {"kernel": (256, 160), "scale": (64,), "temperature": ()}
    shapes |= {f"small_{i}": (7, 3) for i in range(20)}
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
