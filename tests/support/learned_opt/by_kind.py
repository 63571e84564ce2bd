"""Labels of `tensor_kinds`, and a small tree of every kind for `load(only=, others=)`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import learned_opt
from learned_opt.trees.tensor_names import path_text

PARAMS = {
    "Embed_0": {"embedding": jnp.arange(8.0).reshape(4, 2) / 9},
    "Dense_0": {"kernel": jnp.arange(6.0).reshape(2, 3) / 5, "bias": jnp.ones(3)},
    "head": {"kernel": jnp.arange(12.0).reshape(3, 4) / 7},
}
GRADS = jax.tree.map(jnp.cos, PARAMS)
MASK = {
    "Embed_0": {"embedding": False},
    "Dense_0": {"kernel": True, "bias": False},
    "head": {"kernel": False},
}
SGD = optax.sgd(0.5)


def labels(params, rules=None):
    """path -> kind."""
    found = jax.tree.leaves_with_path(learned_opt.tensor_kinds(params, rules))
    return {path_text(path): kind for path, kind in found}


def shaped(shapes):
    """path -> kind of a dict of shapes, nested by the slashes of its keys."""
    params: dict = {}
    for path, shape in shapes.items():
        *outer, last = path.split("/")
        inner = params
        for key in outer:
            inner = inner.setdefault(key, {})
        inner[last] = jax.ShapeDtypeStruct(shape, jnp.float32)
    return labels(params)


def first_step(optimizer, params=PARAMS, grads=GRADS):
    return optimizer.update(grads, optimizer.init(params), params)[0]


def close(got, want):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), got, want)
