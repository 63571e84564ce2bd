"""Many layers on eight devices: tensors that lie alike share a program, and nothing is moved."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import learned_opt
from learned_opt.trees import spread
from tests.support.learned_opt.meshes import sent
from tests.support.learned_opt.thetas import loud_theta

NUM_LAYERS = 10
SHAPES = {"q": (32, 64), "o": (64, 32), "out": (32, 64), "scale": (64,)}
ROWS, COLUMNS = P("x", None), P(None, "x")
LAYOUTS = {
    "fsdp": {"q": ROWS, "o": ROWS, "out": ROWS, "scale": P("x")},
    # Of two that have one shape each is cut along another axis.
    "heads": {"q": COLUMNS, "o": ROWS, "out": ROWS, "scale": P()},
    "copies": dict.fromkeys(SHAPES, P()),
}
KINDS = (AxisType.Auto, AxisType.Explicit)


def optimizers():
    mlp = learned_opt.mlp((4,))
    return {"load": learned_opt.load(), "mlp": mlp.optimizer(loud_theta(mlp))}


def layers(seed, specs, mesh, num=NUM_LAYERS):
    """A block's tensors by name, in a list of blocks."""
    rng = np.random.default_rng(seed)

    def place(i, name):
        spec = specs[name] if isinstance(specs, dict) else specs(i)
        x = jnp.asarray(10.0 ** -(i % 4) * rng.normal(size=SHAPES[name]), jnp.float32)
        return jax.device_put(x, NamedSharding(mesh, spec))

    return {"blocks": [{name: place(i, name) for name in SHAPES} for i in range(num)]}


def two_updates(opt, specs, mesh, num=NUM_LAYERS):
    """The second one, and the program."""
    params = layers(0, specs, mesh, num)
    with jax.set_mesh(mesh):
        state = opt.init(params)
        update = jax.jit(lambda *args: opt.update(*args))
        text = update.lower(params, state, params).compile().as_text()
        for seed in (1, 2):
            found, state = update(layers(seed, specs, mesh, num), state, params)
    return found, text


def close_to_one_device_s(found, opt, monkeypatch, num=NUM_LAYERS):
    monkeypatch.setattr(spread, "num_devices", lambda: 1)
    mesh = jax.make_mesh((1,), ("x",), devices=jax.devices()[:1])
    expected, _ = two_updates(opt, LAYOUTS["copies"], mesh, num)
    jax.tree.map(close, found, expected)


def close(found, expected):
    largest = np.max(np.abs(expected))
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=5e-6 * largest)


QUICK = {("load", "fsdp", AxisType.Auto), ("load", "heads", AxisType.Explicit)}


@pytest.mark.parametrize(
    ("name", "layout", "kind"),
    [
        pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow)
        for case in itertools.product(("load", "mlp"), LAYOUTS, KINDS)
    ],
)
def test_they_share_programs_and_nothing_is_moved(name, layout, kind, monkeypatch):
    mesh, opt = jax.make_mesh((8,), ("x",), axis_types=(kind,)), optimizers()[name]
    found, text = two_updates(opt, LAYOUTS[layout], mesh)
    likes = jax.tree.leaves(layers(0, LAYOUTS[layout], mesh))
    for leaf, like in zip(jax.tree.leaves(found), likes, strict=True):
        assert leaf.sharding.is_equivalent_to(like.sharding, leaf.ndim)
    sums = sent(text)
    assert len(sums) <= len(SHAPES) * NUM_LAYERS
    assert sum(sums) <= 10 * len(SHAPES) * NUM_LAYERS
    close_to_one_device_s(found, opt, monkeypatch)


@pytest.mark.parametrize("kind", [pytest.param(AxisType.Auto, marks=pytest.mark.slow), KINDS[1]])
def test_layers_that_lie_in_turn_have_the_same_updates(kind, monkeypatch):
    """Explicit axes say how each lies, and nothing is moved."""
    mesh, opt = jax.make_mesh((8,), ("x",), axis_types=(kind,)), optimizers()["load"]
    found, text = two_updates(opt, lambda i: P("x") if i % 2 else P(), mesh, 2 * NUM_LAYERS)
    if kind == AxisType.Explicit:
        sent(text)
    close_to_one_device_s(found, opt, monkeypatch, 2 * NUM_LAYERS)


def test_programs_grow_with_the_kinds_of_tensors_and_not_with_layers():
    mesh, opt = jax.make_mesh((8,), ("x",)), optimizers()["load"]

    def num_lines(num):
        with jax.set_mesh(mesh):
            params = layers(0, LAYOUTS["fsdp"], mesh, num)
            lowered = jax.jit(lambda *args: opt.update(*args)).lower(
                params, opt.init(params), params
            )
        return len(lowered.as_text().splitlines())

    # A tensor more is its averages, a copy of its state, and its part of the updates.
    assert (num_lines(40) - num_lines(20)) / (20 * len(SHAPES)) < 40
