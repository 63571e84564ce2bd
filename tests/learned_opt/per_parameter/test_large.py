"""Large tensors: in blocks as in one piece, on one device and as on several; mean squares of a
sample.
"""

import math
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import learned_opt
from learned_opt.per_parameter import group, group_update, large
from learned_opt.per_parameter._adafactor_mlp import adafactor_mlp
from learned_opt.trees import sample, spread
from tests.support.learned_opt.thetas import LOG_FEATURES, loud_theta

TWO_LAYERS = {"hidden_sizes": (4, 4), "features": LOG_FEATURES}
SHAPES = [(1003,), (37, 11), (2, 2, 13, 11), (40, 24), (3, 64, 8)]


def set_block(monkeypatch, size):
    for module in (group_update, large):
        monkeypatch.setattr(module, "BLOCK", size)
    monkeypatch.setattr(large, "SPREAD_BLOCK", size)


@pytest.fixture(params=[1, 8], ids=["one device", "several"])
def devices(request, monkeypatch):
    monkeypatch.setattr(spread, "num_devices", lambda: request.param)


def in_one_piece_and_in_blocks(optimizer, shape, monkeypatch, size):
    rng = np.random.default_rng(1)
    w, g = (jnp.asarray(rng.normal(size=shape), jnp.float32) for _ in range(2))
    opt, found, loops = optimizer.optimizer(loud_theta(optimizer)), [], []
    state = opt.init(w)
    for block in (10_000, size):
        set_block(monkeypatch, block)
        # A function of its own: JAX would take the trace that it has of `opt.update`.
        traced = jax.jit(lambda *args: opt.update(*args)).trace(g, state, w)
        found.append(traced.lower().compile()(g, state, w))
        loops.append(str(traced.jaxpr).count("= scan[") + str(traced.jaxpr).count("= while["))
    return *found, loops[1] > loops[0]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("arguments", [{}, {"preset": "metz2019"}, TWO_LAYERS], ids=str)
def test_blocks_equal_one_piece(arguments, shape, devices, monkeypatch):
    optimizer = learned_opt.mlp(**arguments)
    (whole, state), (blocks, block_state), has_blocks = in_one_piece_and_in_blocks(
        optimizer, shape, monkeypatch, 100
    )
    np.testing.assert_allclose(blocks, whole, rtol=2e-5, atol=1e-7)
    np.testing.assert_array_equal(block_state.momenta, state.momenta)
    # One layer is a single loop, without blocks.
    assert has_blocks == (arguments != {})


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("preset", [None, "metz2022"])
def test_factored_blocks_equal_one_piece(preset, shape, devices, monkeypatch):
    optimizer = adafactor_mlp((4,), preset=preset, rms_normalized=True)
    (whole, state), (blocks, block_state), has_blocks = in_one_piece_and_in_blocks(
        optimizer, shape, monkeypatch, 60
    )
    assert has_blocks
    np.testing.assert_allclose(blocks, whole, rtol=2e-4, atol=1e-6 * float(jnp.abs(whole).max()))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), block_state, state)


@pytest.mark.parametrize("hidden_sizes", [(4,), (4, 4)])
def test_large_tensors_take_their_logarithms_of_a_sample(hidden_sizes, devices, monkeypatch):
    """Also with a power of two columns that differ by orders of magnitude."""
    optimizer = learned_opt.mlp(
        hidden_sizes, features=LOG_FEATURES, timescales=(), exp_multiplier=1.0
    )
    opt = optimizer.optimizer(optimizer.init(jax.random.key(0)))
    columns = 10.0 ** jnp.linspace(-2, 1, 64)
    params = jax.random.normal(jax.random.key(1), (1024, 64)) * columns
    grads = jax.random.normal(jax.random.key(2), (1024, 64)) * columns
    of_sample, _ = jax.jit(opt.update)(grads, opt.init(params), params)
    for module in (group, sample):
        monkeypatch.setattr(module, "SAMPLE", 100_000)
    of_all, _ = jax.jit(lambda *args: opt.update(*args))(grads, opt.init(params), params)
    assert float(jnp.max(jnp.abs(of_sample - of_all))) > 0.0
    assert float(jnp.linalg.norm(of_sample - of_all)) < 0.02 * float(jnp.linalg.norm(of_all))


@pytest.mark.parametrize(
    "shape",
    [
        *((256, 256), (500, 500), (997, 991), (1_000_000,), (50_257, 768), (3, 3, 256, 256)),
        *((2738, 2738), (1088, 1088), (10_922, 4096), (2 * 10_007, 64), (2 * 1_000_003,)),
    ],
)
def test_a_sample_is_large_enough_and_each_device_has_its_part(shape):
    strides = sample.lattice(shape)
    of = jax.ShapeDtypeStruct(shape, "float32")
    x = jax.eval_shape(lambda x: sample.picked(x, strides, is_spread=True), of)
    assert jax.eval_shape(lambda x: sample.picked(x, strides, is_spread=False), of) == x
    assert sample.SAMPLE <= x.size <= 2 * sample.SAMPLE
    for n, left in zip(shape, x.shape, strict=True):
        assert n % 2 or left % np.gcd(n, sample.PARTS) == 0


@pytest.mark.parametrize("num_devices", [2, 8])
def test_a_device_picks_of_its_own_part_of_an_axis_with_few_divisors(num_devices):
    """2 x 37 x 37 rows, or 8 x 17 x 17."""
    shape = (2738, 64) if num_devices == 2 else (2312, 64)
    mesh = jax.make_mesh(
        (num_devices,), ("x",), (AxisType.Auto,), devices=jax.devices()[:num_devices]
    )
    lying = NamedSharding(mesh, PartitionSpec("x"))
    x = jax.device_put(jnp.arange(math.prod(shape), dtype=jnp.float32).reshape(shape), lying)
    strides = sample.lattice(shape)
    assert strides[0] > 1

    def some(x):
        return sample.picked(x, strides, is_spread=True) ** 2

    compiled = jax.jit(some, in_shardings=lying, out_shardings=lying).lower(x).compile()
    assert not re.search("all-gather|collective-permute|all-to-all", compiled.as_text())
    np.testing.assert_array_equal(compiled(x), some(jnp.asarray(np.asarray(x))))


@pytest.mark.parametrize("shape", [(64, 48), (96, 10), (22, 10), (2738, 4), (7, 5), (500,)])
def test_a_sample_is_the_same_elements_however_it_is_picked(shape):
    x = jnp.arange(2 * np.prod(shape)).reshape(2, *shape)
    strides = (4, 2) if len(shape) == 2 else (4,)
    spread_out, at_once = (sample.picked(x, strides, is_spread) for is_spread in (True, False))
    np.testing.assert_array_equal(spread_out, at_once)


@pytest.mark.parametrize("layout", ["optimizer", "packed"])
@pytest.mark.parametrize("name", ["metz2019", "adafactor_mlp"])
def test_blocks_have_a_reverse_mode_under_jit(name, layout):
    """Of a tensor larger than a block; it agrees with forward mode."""
    made = {"metz2019": partial(learned_opt.mlp, preset="metz2019"), "adafactor_mlp": adafactor_mlp}
    optimizer = made[name]((4,))
    theta = loud_theta(optimizer)
    w, g = (jax.random.normal(jax.random.key(i), (200, 200)) for i in range(2))
    assert w.size > large.BLOCK

    def moved(theta):
        opt = getattr(optimizer, layout)(theta)
        return jnp.mean(jnp.square(opt.update(g, opt.init(w), w)[0]))

    direction = jax.tree.map(jnp.ones_like, theta)
    reverse = jax.jit(jax.grad(moved))(theta)
    forward = jax.jit(lambda theta: jax.jvp(moved, (theta,), (direction,))[1])(theta)
    np.testing.assert_allclose(
        sum(float(jnp.sum(x)) for x in jax.tree.leaves(reverse)), forward, rtol=1e-3
    )
    assert forward != 0


@pytest.mark.parametrize("shape", [(65_536, 65_536), (3, 2**30), (2**20, 3, 2**10)])
@pytest.mark.parametrize(
    "make",
    [
        partial(learned_opt.mlp, preset="metz2019"),
        partial(learned_opt.mlp, (4, 4), features=LOG_FEATURES),
        adafactor_mlp,
        partial(adafactor_mlp, rms_normalized=True),
    ],
)
def test_tensors_of_more_elements_than_an_int32_counts(make, shape, devices):
    optimizer = make()
    opt = optimizer.optimizer(optimizer.init(jax.random.key(0)))
    params = {str(i): jax.ShapeDtypeStruct(shape, jnp.float32) for i in range(9)}
    state = jax.eval_shape(opt.init, params)
    assert jax.eval_shape(opt.update, params, state, params) == (params, state)


def test_a_vector_of_so_many_is_refused_by_its_shape():
    optimizer = learned_opt.mlp(preset="metz2019")
    opt = optimizer.optimizer(optimizer.init(jax.random.key(0)))
    params = jax.ShapeDtypeStruct((2**31 + 8,), jnp.float32)
    with pytest.raises(ValueError, match=r"shape \(2147483656,\) has more than 2147483647"):
        jax.eval_shape(opt.update, params, jax.eval_shape(opt.init, params), params)


@pytest.mark.parametrize("shape", SHAPES)
def test_blocks_along_an_axis_equal_those_of_all_elements(shape, monkeypatch):
    """As tensors that keep their axes are gone over."""
    optimizer = learned_opt.mlp((4, 4), preset="metz2019")
    opt = optimizer.optimizer(loud_theta(optimizer))
    w, g = (jax.random.normal(jax.random.key(i), shape) for i in range(2))
    found = []
    set_block(monkeypatch, 100)
    for most in (2**31 - 1, max(shape)):
        monkeypatch.setattr(large, "MAX_INDEX", most)
        found.append(jax.jit(lambda *args: opt.update(*args))(g, opt.init(w), w)[0])
    np.testing.assert_allclose(*found, rtol=2e-5, atol=1e-7)
