"""Layers in one tensor: each is updated as a tensor of its own."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import learned_opt
from learned_opt.trees import packing, sample, spread
from learned_opt.trees.stacked import num_stacked
from tests.support.learned_opt.meshes import drawn, sent
from tests.support.learned_opt.thetas import LOG_FEATURES, loud_theta

OPTIMIZERS = {
    "shipped": lambda: learned_opt.load_theta("general"),
    "metz2019": lambda: _loud(learned_opt.mlp((4,), preset="metz2019")),
    "two layers": lambda: _loud(learned_opt.mlp((4, 4), features=LOG_FEATURES)),
    "factored": lambda: _loud(learned_opt.adafactor_mlp((4,), rms_normalized=True)),
    "metz2022": lambda: _loud(learned_opt.adafactor_mlp(preset="metz2022")),
}
SHAPES = {"w": (3, 6, 4), "b": (3, 4), "scale": (3,), "experts": (3, 2, 5, 7), "head": (4, 2)}
LAYERS = {"w": 1, "b": 1, "scale": 1, "experts": 2, "head": 0}


def _loud(optimizer):
    return optimizer, loud_theta(optimizer)


def tree(seed):
    rng = np.random.default_rng(seed)
    by_layer = 10.0 ** -np.arange(3)  # A mean over all layers would be that of the first.
    return {
        name: jnp.asarray(
            rng.normal(size=shape) * by_layer.reshape(-1, *(1,) * (len(shape) - 1))
            if LAYERS[name]
            else rng.normal(size=shape),
            jnp.float32,
        )
        for name, shape in SHAPES.items()
    }


def unstacked(tree):
    def layers(x, number):
        return [layers(part, number - 1) for part in x] if number else x

    return {name: layers(x, LAYERS[name]) for name, x in tree.items()}


def assert_close(found, wanted):
    def close(a, b):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6 * jnp.abs(b).max())

    jax.tree.map(close, found, wanted)


def three_updates(opt, change=lambda tree: tree):
    params, state = change(tree(0)), opt.init(change(tree(0)))
    update = jax.jit(opt.update)
    for seed in (1, 2, 3):
        updates, state = update(change(tree(seed)), state, params)
    return updates, state


@pytest.mark.parametrize("num_devices", [1, 8], ids=["one device", "several"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_layers_in_a_tensor_equal_layers_apart(name, num_devices, monkeypatch):
    monkeypatch.setattr(spread, "num_devices", lambda: num_devices)
    optimizer, theta = OPTIMIZERS[name]()
    apart, _ = three_updates(optimizer.optimizer(theta), unstacked)
    updates, state = three_updates(optimizer.optimizer(theta, stacked=LAYERS))
    assert_close(unstacked(updates), apart)
    for leaf, param in zip(jax.tree.leaves(state.momenta), jax.tree.leaves(tree(0)), strict=True):
        assert leaf.shape[1:] == param.shape
    together, _ = three_updates(optimizer.optimizer(theta))
    assert not np.allclose(together["w"], updates["w"], rtol=1e-3)


def test_large_layers_have_a_sample_each(monkeypatch):
    for module in (learned_opt.per_parameter.group, sample):
        monkeypatch.setattr(module, "SAMPLE", 10)
    monkeypatch.setattr(packing, "MAX_PACKED_LEAF", 1)
    optimizer, theta = OPTIMIZERS["shipped"]()
    apart, _ = three_updates(optimizer.optimizer(theta), unstacked)
    updates, _ = three_updates(optimizer.optimizer(theta, stacked=LAYERS))
    assert_close(unstacked(updates), apart)


@pytest.mark.parametrize(
    "stacked",
    [
        "blocks",
        ("blocks", "else"),
        {"blocks": True, "head": False},
        lambda params: {"blocks": 1, "head": 0},
        lambda params: jax.tree.map(lambda x: x.ndim == 3, params),
    ],
    ids=["name", "names", "prefix", "function", "by shape"],
)
def test_ways_to_say_it(stacked):
    params = {"blocks": {"w": jnp.ones((2, 3, 4)), "none": None}, "head": jnp.ones((3, 2))}
    numbers = num_stacked(stacked, params)
    assert numbers["blocks"]["w"] == 1
    assert numbers["head"] == 0
    assert jax.tree.structure(numbers) == jax.tree.structure(params)


@pytest.mark.parametrize(
    ("stacked", "message"),
    [
        ("layers", "no parameter lies under a key named layers"),
        ({"head": True}, "does not match the parameters: it says nothing of blocks/w"),
        ({"blocks": 1, "head": 0, "tail": 1}, "match the parameters: they have no tail"),
        ({"blocks": 4, "head": 0}, r"blocks/w has shape \(2, 3, 4\), which has no 4 axes"),
        (-1, "must be a boolean or a number of axes, got -1"),
        (1.5, "must be a boolean or a number of axes, got 1.5"),
    ],
)
def test_what_it_cannot_mean_is_refused(stacked, message):
    params = {"blocks": {"w": jnp.ones((2, 3, 4))}, "head": jnp.ones((3, 2))}
    with pytest.raises(ValueError, match=message):
        learned_opt.load(stacked=stacked).init(params)


@pytest.mark.parametrize("name", ["shipped", "factored"])
def test_none_and_functions_among_the_parameters(name):
    """As in an Equinox model, also where a gradient is None."""
    optimizer, theta = OPTIMIZERS[name]()
    params, grads = {"w": tree(0)["w"], "bias": jnp.ones(4)}, {"w": tree(1)["w"], "bias": None}
    opt = optimizer.optimizer(theta, stacked="w")
    alone, _ = opt.update({"w": grads["w"]}, opt.init({"w": params["w"]}), {"w": params["w"]})
    for extra in ({"none": None}, {"function": jnp.tanh}):
        whole = params | extra
        updates, _ = opt.update(grads | dict.fromkeys(extra), opt.init(whole), whole)
        assert_close({"w": updates["w"]}, alone)
        assert updates["bias"] is None


def test_boxes_of_nnx_and_their_arrays_are_the_same_parameters():
    class Model(nnx.Module):
        def __init__(self):
            self.w, self.head = nnx.Param(tree(0)["w"]), nnx.Param(tree(0)["head"])

    state = nnx.state(Model(), nnx.Param)
    mask = jax.tree.map(lambda x: x.ndim == 3, state)
    for params in (state, nnx.to_pure_dict(state)):
        for stacked in ("w", mask):
            assert jax.tree.leaves(num_stacked(stacked, params)) == [0, 1]


def test_layers_beside_parameters_of_others():
    opt = learned_opt.load(only="matrix", others=optax.sgd(1.0), stacked=LAYERS)
    params, grads = tree(0), tree(1)
    updates, _ = opt.update(grads, opt.init(params), params)
    alone = learned_opt.load(stacked="w")
    only_w, _ = alone.update({"w": grads["w"]}, alone.init({"w": params["w"]}), {"w": params["w"]})
    assert_close(updates["w"], only_w["w"])
    assert_close(updates["scale"], -grads["scale"])


def test_an_optimizer_without_layers_says_so(tmp_path):
    path = learned_opt.save(tmp_path, "sgd", {}, _sgd_theta())
    with pytest.raises(ValueError, match="has no choice of stacked"):
        learned_opt.load(path, stacked=True)


def _sgd_theta():
    return learned_opt.catalog.make_optimizer("sgd", {}).init(jax.random.key(0))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize(
    "spec", [P("x"), P(None, "x"), P(None, None, "x")], ids=["layers", "rows", "columns"]
)
def test_layers_over_eight_devices_send_a_few_sums(spec, kind):
    mesh = jax.make_mesh((8,), ("x",), axis_types=(kind,))
    opt = learned_opt.load(stacked="w", state_dtype="bfloat16")
    params, grads = (drawn({"w": (8, 16, 24), "bias": (5,)}, seed) for seed in (0, 1))
    alone, _ = jax.jit(opt.update)(grads, opt.init(params), params)
    place = lambda tree: {
        "w": jax.device_put(tree["w"], NamedSharding(mesh, spec)),
        "bias": jax.device_put(tree["bias"], NamedSharding(mesh, P())),
    }
    params, grads = place(params), place(grads)
    with jax.set_mesh(mesh):
        state = jax.jit(opt.init)(params)
        beside = NamedSharding(mesh, P(None, *spec))
        assert state.momenta["w"].sharding.is_equivalent_to(beside, 4)
        update = jax.jit(opt.update).lower(grads, state, params).compile()
        updates, _ = update(grads, state, params)
    assert sum(sent(update.as_text())) <= 8 * 10
    assert_close(updates, alone)


@pytest.mark.parametrize("name", [*OPTIMIZERS, "orthogonal"])
def test_layers_promote_no_ranks(name):
    made = OPTIMIZERS | {"orthogonal": lambda: _loud(learned_opt.orthogonal_mlp((4,)))}
    optimizer, theta = made[name]()
    params = jax.eval_shape(lambda: tree(0))
    with jax.numpy_rank_promotion("raise"):
        opt = optimizer.optimizer(theta, stacked=LAYERS)
        updates, _ = jax.eval_shape(opt.update, params, jax.eval_shape(opt.init, params), params)
    assert updates == params
