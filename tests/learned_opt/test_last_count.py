"""At 2^31 - 1 an int32 has its last count, and stays there: steps go on as before."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_opt
from tests.support.learned_opt.every import EVERY, PER_PARAMETER, PRETRAINED, made
from tests.support.quick import by_name

LAST = 2**31 - 1
PRESETS = {
    preset: functools.partial(made, learned_opt.mlp, (4,), preset=preset)
    for preset in ("metz2019", "metz2019_released")
} | {"metz2022": functools.partial(made, learned_opt.adafactor_mlp, preset="metz2022")}
PACKED = {"mlp": learned_opt.mlp, "adafactor_mlp": learned_opt.adafactor_mlp}
PARAMS = {"kernel": np.linspace(-1.0, 2.0, 6, dtype=np.float32).reshape(2, 3), "bias": np.ones(3)}
QUICK = ("load_general", "orthogonal_mlp", "metz2022", "adam8", "marthe_adam")


def loss(params):
    return sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(params)) / 2


def updates_at(tx, counts):
    """Of the same gradients and averages, whatever the count."""
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), PARAMS)
    update = jax.jit(lambda g, s, p: tx.update(g, s, p, value_fn=loss))
    _, state = update(jax.grad(loss)(params), tx.init(params), params)
    found = []
    for count in counts:
        counted = lambda x, count=count: jnp.full_like(x, count) if x.dtype == jnp.int32 else x
        updates, new = update(jax.grad(loss)(params), jax.tree.map(counted, state), params)
        assert all(np.all(x >= 0) for x in jax.tree.leaves(new) if x.dtype == jnp.int32)
        found.append(updates)
    return found


@by_name(EVERY | PRESETS, quick=QUICK)
def test_the_last_count_steps_as_the_one_before_it(name):
    last, before = updates_at((EVERY | PRESETS)[name](), (LAST, LAST - 1))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), last, before)


@by_name(PRETRAINED | PER_PARAMETER | PRESETS, quick=QUICK)
def test_it_steps_as_a_count_at_which_nothing_begins(name):
    """A thousand million updates: no debiasing is left, and every time input has its last value."""
    last, early = updates_at((EVERY | PRESETS)[name](), (LAST, 10**9))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), last, early)
    assert all(np.all(u != 0) for u in jax.tree.leaves(last))


@pytest.mark.parametrize("name", PACKED)
def test_the_packed_layout_too(name):
    optimizer = PACKED[name]((4,))
    packed = optimizer.packed(optimizer.init(jax.random.key(0)))
    last, early = updates_at(packed, (LAST, 10**9))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), last, early)
