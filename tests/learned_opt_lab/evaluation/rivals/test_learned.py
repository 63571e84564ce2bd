"""A learned optimizer with what is put around it equals `learned_opt.load` with the same."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

import learned_opt
from learned_opt_lab.evaluation.evaluation_parameters import evaluation_params
from learned_opt_lab.evaluation.rivals.rival import learned_rival
from learned_opt_lab.evaluation.rivals.schedules import SCHEDULES, scheduled

PARAMS = {"w": jnp.array([[1.0, -2.0, 0.5], [0.3, 0.2, -0.1]]), "b": jnp.array([0.1, 0.2, 0.0])}


def trained(optimizer, num_steps=4):
    params, state = PARAMS, optimizer.init(PARAMS)
    loss = lambda p: jnp.sum((p["w"] - 1.0) ** 2) + jnp.sum(jnp.sin(p["b"]))
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(num_steps):
            updates, state = optimizer.update(jax.grad(loss)(params), state, params)
            params = optax.apply_updates(params, updates)
    return params, state


def test_a_learned_rival_equals_load():
    optimizer, theta = learned_opt.load_theta("mlp")
    rival = learned_rival(optimizer, theta, "")
    untuned = {name: jnp.float32(v[0]) for name, v in rival.space.draw(1, 0).items()}
    jax.tree.map(
        np.testing.assert_array_equal,
        trained(rival.optimizer(untuned, 4))[0],
        trained(learned_opt.load("mlp"))[0],
    )
    chosen = {"learning_rate": 1.7, "weight_decay": 0.01, "schedule": 2.0, "warmup": 0.25}
    ours = trained(rival.optimizer({k: jnp.float32(v) for k, v in chosen.items()}, 4))[0]
    rate = scheduled(1.7, SCHEDULES.index("cosine"), 0.25, 4)
    theirs = trained(learned_opt.load("mlp", learning_rate=rate, weight_decay=0.01))[0]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), ours, theirs)


def test_only_those_that_take_the_number_of_steps_know_the_horizon():
    for made, knows in ((learned_opt.mlp(), False), (learned_opt.orthogonal_mlp(), True)):
        theta = made.init(jax.random.key(0))
        rival = learned_rival(made, theta, "")
        assert rival.takes_num_steps is knows
        untuned = {name: jnp.float32(v[0]) for name, v in rival.space.draw(1, 0).items()}
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
            trained(rival.optimizer(untuned, 4))[0],
            trained(made.within(4)(theta))[0],
        )


FREE = contrib.schedule_free(optax.sgd(0.1), 0.1, b1=0.9)


def averaged(params, z):
    return (np.asarray(params) - 0.1 * np.asarray(z)) / 0.9


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: inner,
        lambda inner: optax.chain(optax.clip(1.0), inner),
        lambda inner: optax.MultiSteps(inner, 2).gradient_transformation(),
        lambda inner: optax.apply_if_finite(inner, 3),
    ],
    ids=["alone", "chain", "multi_steps", "apply_if_finite"],
)
def test_schedule_free_is_measured_at_its_averages_wherever_it_is(wrap):
    params, state = trained(wrap(FREE))
    is_free = lambda node: isinstance(node, contrib.ScheduleFreeState)
    (free,) = filter(is_free, jax.tree.leaves(state, is_leaf=is_free))
    found = evaluation_params(params, state)
    for name in PARAMS:
        np.testing.assert_allclose(found[name], averaged(params[name], free.z[name]), rtol=1e-6)
    assert not np.allclose(found["w"], params["w"])


def test_in_a_partition_only_its_own_parameters_are_averages():
    rules = {"free": FREE, "adam": optax.adam(0.1)}
    params, state = trained(optax.partition(rules, {"w": "free", "b": "adam"}))
    found = evaluation_params(params, state)
    np.testing.assert_array_equal(found["b"], params["b"])
    alone = trained(FREE)[0]
    np.testing.assert_allclose(params["w"], alone["w"], rtol=1e-6)
    np.testing.assert_allclose(found["w"], evaluation_params(*trained(FREE))["w"], rtol=1e-6)


def test_others_are_measured_where_they_are():
    params, state = trained(optax.adamw(0.1))
    assert evaluation_params(params, state) is params


def test_types_stay():
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)
    found = evaluation_params(half, FREE.init(half))
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(jnp.bfloat16)}
