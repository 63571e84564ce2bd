"""Optax's wrappers around every optimizer that ships:
each does what its definition says, written out here from the optimizer's own steps.
"""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt.rate_and_decay import with_hooks
from tests.support.learned_opt.every import ADAM, AROUND, EVERY, HAND_DESIGNED
from tests.support.quick import by_name

PARAMS = {
    "a": np.linspace(-1.0, 2.0, 6, dtype=np.float32).reshape(2, 3),
    "b": np.float32([0.3, -0.7, 1.1]),
}
GRADS = [jax.tree.map(lambda w, i=i: np.cos(w + i), PARAMS) for i in range(3)]
SMALL = np.float32(1e-6)


def loss(params):
    """Of any tree, so that what a wrapper leaves of the parameters has one too."""
    return sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(params)) / 2


@pytest.fixture(autouse=True)
def promotion():
    """As users have it: wrappers multiply by booleans."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@functools.cache
def compiled(name):
    """An optimizer of which a wrapper around it compiles little anew."""
    tx = EVERY[name]()

    @functools.partial(jax.jit, static_argnames="value_fn")
    def update(grads, state, params, *, value_fn, **extra):
        return tx.update(grads, state, params, value_fn=value_fn, **extra)

    return optax.GradientTransformationExtraArgs(tx.init, update)


def bound(name):
    """Knows its loss, for a wrapper that hands on no extra arguments."""
    tx = compiled(name)
    return optax.GradientTransformation(
        tx.init, lambda grads, state, params: tx.update(grads, state, params, value_fn=loss)
    )


def step(tx, state, params, grads, **extra):
    """Updates, state and parameters, one step on."""
    updates, state = tx.update(grads, state, params, value_fn=loss, **extra)
    return updates, state, optax.apply_updates(params, updates)


def steps(tx, params, grads):
    """Updates and parameters of some steps."""
    state, done = tx.init(params), []
    for g in grads:
        updates, state, params = step(tx, state, params, g)
        done.append((updates, params))
    return done


def plain_steps(tx, params, grads):
    """The same by a transformation that takes no extra arguments."""
    return steps(optax.with_extra_args_support(tx), params, grads)


def same(found, expected, rtol=2e-5):
    close = functools.partial(np.testing.assert_allclose, rtol=rtol, atol=SMALL)
    jax.tree.map(close, found, expected)


every_optimizer = by_name(EVERY, quick=("load_general", "adam8", "marthe_adam"))


@every_optimizer
def test_multi_steps(name):
    """Two batches are one step on their mean."""
    apart = jax.tree.map(np.sin, PARAMS)
    half = [[jax.tree.map(lambda g, d, s=s: g + s * d, g, apart) for s in (-1, 1)] for g in GRADS]
    wrapped = optax.MultiSteps(compiled(name), 2).gradient_transformation()
    found = steps(wrapped, PARAMS, half[0] + half[1])
    for i in (0, 2):
        assert not any(np.any(u) for u in jax.tree.leaves(found[i][0]))
    same([found[1], found[3]], steps(compiled(name), PARAMS, GRADS[:2]), rtol=1e-3)


@every_optimizer
def test_masked_and_partition(name):
    """What is masked is as if it were not there."""
    only = lambda tree: {"a": tree["a"]}
    expected = steps(compiled(name), only(PARAMS), map(only, GRADS))
    masked = optax.masked(compiled(name), {"a": True, "b": False})
    divided = optax.partition(
        {"ours": compiled(name), "frozen": optax.set_to_zero()}, {"a": "ours", "b": "frozen"}
    )
    for wrapped, left in ((masked, GRADS[0]["b"]), (divided, 0 * PARAMS["b"])):
        found = steps(wrapped, PARAMS, GRADS)
        np.testing.assert_array_equal(found[0][0]["b"], left)
        same([(only(u), only(w)) for u, w in found], expected)


@every_optimizer
def test_apply_if_finite(name):
    """A gradient that is not finite is as if it had not been."""
    tx = optax.apply_if_finite(compiled(name), max_consecutive_errors=3)
    _, state, params = step(tx, tx.init(PARAMS), PARAMS, GRADS[0])
    bad = GRADS[1] | {"b": np.float32([1.0, np.nan, np.inf])}
    updates, skipped, params = step(tx, state, params, bad)
    assert not any(np.any(u) for u in jax.tree.leaves(updates))
    jax.tree.map(np.testing.assert_array_equal, skipped.inner_state, state.inner_state)
    found, _, params = step(tx, skipped, params, GRADS[1])
    same((found, params), steps(compiled(name), PARAMS, GRADS[:2])[1])


@every_optimizer
def test_schedule_free(name):
    """z goes on by the steps taken at y, and x is the mean of all z."""
    b1, tx = 0.9, compiled(name)
    found = steps(optax.contrib.schedule_free(tx, learning_rate=0.5, b1=b1), PARAMS, GRADS)
    state, x, y, z = tx.init(PARAMS), PARAMS, PARAMS, PARAMS
    for i, (g, (_, params)) in enumerate(zip(GRADS, found, strict=True)):
        updates, state, _ = step(tx, state, y, g)
        z = optax.apply_updates(z, updates)
        x = jax.tree.map(lambda x, z, i=i: x + (z - x) / (i + 1), x, z)
        y = jax.tree.map(lambda x, z: b1 * x + (1 - b1) * z, x, z)
        same(params, y)


@every_optimizer
def test_lookahead(name):
    """Every second step goes half the way from where the last two began, here with a fresh state
    then.
    """
    tx = optax.lookahead(bound(name), sync_period=2, slow_step_size=0.5, reset_state=True)
    both = optax.LookaheadParams.init_synced(PARAMS)
    state, found = tx.init(both), []
    for g in GRADS:
        updates, state = tx.update(g, state, both)
        both = optax.apply_updates(both, updates)
        found.append(both.fast)
    (_, one), (_, two) = steps(compiled(name), PARAMS, GRADS[:2])
    middle = jax.tree.map(lambda slow, fast: slow + (fast - slow) / 2, PARAMS, two)
    [(_, three)] = steps(compiled(name), middle, GRADS[2:])
    same(found, [one, middle, three])


@every_optimizer
def test_flatten(name):
    """One vector is one tensor to the optimizer: another update where it looks at tensors."""
    flat = lambda tree: np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])
    found = steps(optax.flatten(compiled(name)), PARAMS, GRADS)
    expected = steps(compiled(name), flat(PARAMS), map(flat, GRADS))
    same([tuple(map(flat, pair)) for pair in found], expected)
    if name in (*HAND_DESIGNED, *AROUND):
        same(found, steps(compiled(name), PARAMS, GRADS))


@every_optimizer
def test_reduce_on_plateau(name):
    """Half the step from the second loss on that is no better."""
    tx = optax.chain(compiled(name), optax.contrib.reduce_on_plateau(factor=0.5, patience=2))
    state, state_alone, params = tx.init(PARAMS), compiled(name).init(PARAMS), PARAMS
    for g, factor in zip(GRADS, (1.0, 1.0, 0.5), strict=True):
        expected, state_alone, _ = step(compiled(name), state_alone, params, g)
        updates, state, params = step(tx, state, params, g, value=jnp.float32(2.0))
        same(updates, jax.tree.map(lambda u, f=factor: f * u, expected))


@every_optimizer
def test_a_rate_is_injected_and_changed(name):
    """Also into the factories of rates of their own."""
    tx, inject = (
        compiled(name),
        optax.inject_hyperparams(lambda learning_rate: with_hooks(compiled(name), learning_rate)),
    )
    wrapped = inject(learning_rate=0.5)
    state, [(expected, _)] = wrapped.init(PARAMS), steps(tx, PARAMS, GRADS[:1])
    updates, state, params = step(wrapped, state, PARAMS, GRADS[0])
    same(updates, jax.tree.map(lambda u: 0.5 * u, expected))
    state.hyperparams["learning_rate"] = jnp.float32(0.0)
    _, state, stays = step(wrapped, state, params, GRADS[1])
    jax.tree.map(np.testing.assert_array_equal, stays, params)


FACTORIES = {
    "load": (learned_opt.load, {"name_or_path": "mlp", "learning_rate": 0.5}),
    "load_decay": (learned_opt.load, {"name_or_path": "mlp", "weight_decay": 0.1}),
    "hd": (learned_opt.hd, {"inner": optax.sgd, "learning_rate": 0.1, "hyper_learning_rate": 1e-2}),
    "marthe": (
        learned_opt.marthe,
        {"inner": ADAM, "learning_rate": 0.1, "hyper_learning_rate": 1e-2, "meta_step": 1e-3},
    ),
}


@pytest.mark.parametrize("name", FACTORIES)
def test_hyperparameters_of_a_factory_are_injected(name):
    factory, arguments = FACTORIES[name]
    static = {"name_or_path", "inner", "trust"} & set(inspect.signature(factory).parameters)
    wrapped = optax.inject_hyperparams(factory, static_args=tuple(static))(**arguments)
    assert set(wrapped.init(PARAMS).hyperparams) >= set(arguments) - static
    same(steps(wrapped, PARAMS, GRADS), steps(factory(**arguments), PARAMS, GRADS))


@every_optimizer
def test_complex_parameters_are_split_in_two(name):
    pair = lambda tree: {"b": tree["b"] + 1j * tree["b"][::-1]}
    found = plain_steps(
        optax.contrib.split_real_and_imaginary(bound(name)), pair(PARAMS), map(pair, GRADS)
    )
    halves = lambda tree: {"i": tree["b"][::-1], "r": tree["b"]}
    expected = steps(compiled(name), halves(PARAMS), map(halves, GRADS))
    same(
        [w["b"] for _, w in found],
        [np.asarray(w["r"]) + 1j * np.asarray(w["i"]) for _, w in expected],
    )
