"""What the table's factories make of Optax's parts, step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

from learned_opt_lab.evaluation.rivals import factories

RATE, SHARE = 0.02, 0.015
SHAPES = {
    "embed": {"embedding": (7, 4)},
    "conv": {"kernel": (3, 3, 2, 5), "bias": (5,)},
    "attention": {"query": {"kernel": (4, 2, 3), "bias": (2, 3)}, "out": {"kernel": (2, 3, 4)}},
    "dense": {"kernel": (4, 6)},
    "head": {"kernel": (6, 3)},
}
AS_MATRIX = {
    "conv/kernel": (18, 5),
    "attention/query/kernel": (4, 6),
    "attention/out/kernel": (6, 4),
    "dense/kernel": (4, 6),
}


def draws(shapes, seed):
    leaves, structure = jax.tree.flatten(shapes, is_leaf=lambda x: isinstance(x, tuple))
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return structure.unflatten(map(jax.random.normal, keys, leaves))


def updates(optimizer, params, num_steps=2):
    state = optimizer.init(params)
    for step in range(num_steps):
        grads = jax.tree.map(lambda x, s=step: jnp.sin(x + s), params)
        found, state = optimizer.update(grads, state, params)
    return found


def of_muon(weight_decay):
    return factories.muon(lambda count: RATE, SHARE, 0.95, weight_decay)


def test_muon_divides_tensors_by_kind_and_makes_matrices_of_kernels():
    params, weight_decay = draws(SHAPES, 0), 0.1
    with jax.numpy_dtype_promotion("standard"):
        found = updates(of_muon(weight_decay), params)
        muon = contrib.muon(RATE, weight_decay=weight_decay)
        adam = optax.adamw(RATE * SHARE, b2=0.95, eps=1e-10, weight_decay=weight_decay)
        for path, ours in jax.tree_util.tree_leaves_with_path(found):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            param = params
            for key in path:
                param = param[key.key]
            matrix = param.reshape(AS_MATRIX.get(name, param.shape))
            theirs = updates(muon if name in AS_MATRIX else adam, matrix)
            np.testing.assert_allclose(
                ours, theirs.reshape(ours.shape), rtol=2e-4, atol=1e-7, err_msg=name
            )


@pytest.mark.parametrize("shapes", [{"b": (3,)}, (3,), (3, 2), {"only": {"kernel": (2, 2, 1, 3)}}])
def test_muon_takes_trees_with_one_kind_of_tensor(shapes):
    with jax.numpy_dtype_promotion("standard"):
        found = updates(of_muon(0.0), draws(shapes, 1))
    assert all(jnp.abs(x).max() > 0 for x in jax.tree.leaves(found))


def test_schedule_free_has_its_eps_beside_the_root():
    """Where gradients are small it makes a large difference."""
    grads = params = {"w": 1e-6 * jnp.arange(1.0, 4.0)}
    found = []
    with jax.numpy_dtype_promotion("standard"):
        for optimizer in (
            factories.schedule_free(lambda count: 0.01, 0.9, 0.999, 0.0),
            contrib.schedule_free_adamw(0.01),
        ):
            found.append(optimizer.update(grads, optimizer.init(params), params)[0]["w"])
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_ademamix_begins_as_adam_and_ends_at_its_numbers():
    params = {"w": jnp.array([1.0, -2.0])}
    rate = lambda count: 0.01
    with jax.numpy_dtype_promotion("standard"):
        ours = factories.ademamix(rate, 5.0, 0.99, 0.0, num_steps=4)
        first = updates(ours, params, 1)
        np.testing.assert_allclose(first["w"], updates(optax.adam(0.01), params, 1)["w"], rtol=1e-6)
        late = ours.init(params)
        late = (late[0]._replace(count_m2=jnp.int32(9)), *late[1:])
        found, _ = ours.update(params, late, params)
        theirs = contrib.ademamix(rate, b3=0.99, alpha=5.0)
        expected, _ = theirs.update(params, theirs.init(params), params)
    np.testing.assert_allclose(found["w"], expected["w"], rtol=1e-5)
