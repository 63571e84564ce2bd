"""Many tensors of one shape share a program: the updates are those that each has alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_opt
from learned_opt.per_parameter import group
from learned_opt.per_parameter.layouts import repeated
from learned_opt.trees import packing, sample
from tests.support.learned_opt.thetas import LOG_FEATURES, loud_theta

OPTIMIZERS = {
    "shipped": lambda: learned_opt.load_theta("general"),
    "mlp": lambda: _loud(learned_opt.mlp((4,))),
    "metz2019": lambda: _loud(learned_opt.mlp((4,), preset="metz2019")),
    "two layers": lambda: _loud(learned_opt.mlp((4, 4), features=LOG_FEATURES)),
}


WALKED = {
    "mlp": learned_opt.mlp,
    "metz2019": lambda: learned_opt.mlp(preset="metz2019"),
    "adafactor": learned_opt.adafactor_mlp,
    "normalized": lambda: learned_opt.adafactor_mlp(rms_normalized=True),
    "orthogonal": learned_opt.orthogonal_mlp,
}


def _loud(optimizer):
    return optimizer, loud_theta(optimizer)


def layers(seed, num, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    return {
        str(i): {"w": jnp.asarray(10.0**-i * rng.normal(size=(24, 40)), dtype)} for i in range(num)
    } | {"bias": jnp.asarray(rng.normal(size=5), dtype)}


def two_updates(opt, num, dtype=jnp.float32):
    params = layers(0, num, dtype)
    update = jax.jit(lambda *args: opt.update(*args))
    state = opt.init(params)
    for seed in (1, 2):
        updates, state = update(layers(seed, num, dtype), state, params)
    return updates, state


@pytest.mark.parametrize("cached", [10_000, 1], ids=["whole", "in blocks"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_many_tensors_of_a_shape_equal_each_alone(name, cached, monkeypatch):
    shared, alone = both_ways(name, cached, monkeypatch)
    jax.tree.map(assert_close, shared, alone)


@pytest.mark.parametrize("cached", [10_000, 1], ids=["whole", "in blocks"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_in_float64_they_equal_to_its_rounding(name, cached, monkeypatch):
    """Where rounding cannot hide a difference."""
    with jax.enable_x64(True):
        shared, alone = both_ways(name, cached, monkeypatch, jnp.float64)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), shared, alone)


@pytest.mark.parametrize("num", [3, 37], ids=["blocks", "repeated"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", WALKED)
def test_large_tensors_where_jax_counts_in_64_bits(name, dtype, num):
    with jax.enable_x64(True):
        optimizer = WALKED[name]()
        opt = optimizer.optimizer(optimizer.init(jax.random.key(0)))
        params = {str(i): jax.ShapeDtypeStruct((300, 500), dtype) for i in range(num)}
        state = jax.eval_shape(opt.init, params)
        updates, new_state = jax.eval_shape(opt.update, params, state, params)
        assert (updates, new_state) == (params, state)


def both_ways(name, cached, monkeypatch, dtype=jnp.float32):
    optimizer, theta = OPTIMIZERS[name]()
    theta = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), theta)
    opt, num = optimizer.optimizer(theta), 5
    monkeypatch.setattr(packing, "MAX_PACKED_LEAF", 10)
    for module in (group, sample):
        monkeypatch.setattr(module, "SAMPLE", 400)
    monkeypatch.setattr(repeated, "REPEATED", num + 1)
    alone = two_updates(opt, num, dtype)
    monkeypatch.setattr(repeated, "REPEATED", num)
    monkeypatch.setattr(repeated, "OWN_PROGRAMS", 0)
    monkeypatch.setattr(repeated, "CACHED", cached)
    monkeypatch.setattr(repeated, "BLOCK", 700)
    return two_updates(opt, num, dtype), alone


def assert_close(actual, expected):
    """Sums in another order: an element near zero is as exact as the largest of its tensor."""
    largest = np.max(np.abs(expected), initial=0)
    np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=max(1e-7, 5e-6 * largest))


def test_the_largest_shapes_have_their_own_programs_while_there_are_any_left():
    small, medium, large = repeated.CACHED, 2 * repeated.CACHED, 3 * repeated.CACHED
    few, own = repeated.REPEATED - 1, repeated.OWN_PROGRAMS
    assert repeated.shapes_that_share([(small, few), (large, few)]) == [False, False]
    assert repeated.shapes_that_share([(small, 9), (medium, 12), (large, 12)]) == [
        True,
        False,
        False,
    ]
    assert repeated.shapes_that_share([(medium, 12), (large, own)]) == [True, False]
    assert repeated.shapes_that_share([(large, 12)], is_spread=True) == [True]
    # A shape of more tensors than there are programs leaves them to the next.
    assert repeated.shapes_that_share([(medium, own), (large, own + 1)]) == [False, True]


@pytest.mark.parametrize("name", ["shipped", "mlp"])
def test_programs_grow_with_shapes_and_not_with_tensors(name, monkeypatch):
    optimizer, theta = OPTIMIZERS[name]()
    opt = optimizer.optimizer(theta)
    monkeypatch.setattr(packing, "MAX_PACKED_LEAF", 10)

    def num_lines(num):
        params = layers(0, num)
        traced = jax.jit(lambda *args: opt.update(*args)).trace(params, opt.init(params), params)
        return len(traced.lower().as_text().splitlines())

    # A tensor more is its averages, a copy of its state, and its part of the updates.
    assert (num_lines(40) - num_lines(20)) / 20 < 30
    assert num_lines(20) > 400
