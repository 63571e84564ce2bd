"""Parameters of several kinds in several layouts over eight devices, and what lies where."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

SHAPES = {
    "kernel": (256, 160),
    "experts": (4, 16, 32),
    "conv": (3, 3, 8, 16),
    "bias": (160,),
    "scale": (6,),
    "temperature": (),
}
ALL = ("x", "y")
SPECS = {
    "rows": {"kernel": P("x"), "experts": P(None, "y"), "conv": P(None, None, "x"), "bias": P("x")},
    "columns": {
        "kernel": P(None, ALL),
        "experts": P("y", None, "x"),
        "conv": P(None, None, None, ALL),
        "bias": P(ALL),
        "scale": P("x"),
    },
    "both": {
        "kernel": P("x", "y"),
        "experts": P("x", None, "y"),
        "conv": P(None, None, "x", "y"),
        "bias": P("y"),
    },
    "fsdp": {
        "kernel": P("x"),
        "experts": P(None, None, "x"),
        "conv": P(None, None, None, "x"),
        "bias": P("x"),
    },
}
"""By layout; what is not named is whole on every device, as what eight does not divide."""


def make_mesh(layout, kind):
    shape = {"x": 8} if layout == "fsdp" else {"x": 2, "y": 4}
    return jax.make_mesh(tuple(shape.values()), tuple(shape), axis_types=(kind,) * len(shape))


def specs_of(layout):
    return {name: SPECS[layout].get(name, P()) for name in SHAPES}


def drawn(shapes, seed):
    rng = np.random.default_rng(seed)
    return {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}


def spread(tree, layout, mesh):
    specs = specs_of(layout)
    return {k: jax.device_put(x, NamedSharding(mesh, specs[k])) for k, x in tree.items()}


def beside(layout, mesh: Mesh, state):
    """How each leaf of a state is to lie: as the parameter that its path names, whole along axes
    in front and those of one element.
    """

    def sharding(path, x):
        name = next((k.key for k in path[::-1] if getattr(k, "key", None) in SHAPES), None)
        if name is None or x.ndim < len(SHAPES[name]):
            return NamedSharding(mesh, P())
        front, shape = x.ndim - len(SHAPES[name]), SHAPES[name]
        spec = (*specs_of(layout)[name], *(None,) * len(shape))[: len(shape)]
        parts = [part if x.shape[front + i] == shape[i] else None for i, part in enumerate(spec)]
        return NamedSharding(mesh, P(*(None,) * front, *parts))

    return jax.tree.map_with_path(sharding, state)


def parts(sharding):
    """Into how many a spec cuts an array."""
    axes = jax.tree.leaves(tuple(sharding.spec))
    return math.prod(sharding.mesh.shape[axis] for axis in axes)


def bytes_a_device(tree):
    """On the device that has most."""
    held = {}
    for leaf in jax.tree.leaves(tree):
        for shard in leaf.addressable_shards:
            held[shard.device] = held.get(shard.device, 0) + shard.data.nbytes
    return max(held.values())


def sent(text):
    """Numbers in each all-reduce of a compiled program.

    Raises:
      AssertionError: for a program that moves parts of arrays.
    """
    for word in ("all-gather", "collective-permute", "all-to-all", "reduce-scatter"):
        assert word not in text
    results = re.findall(r"= (\S+|\([^)]*\)) all-reduce(?:-start)?\(", text)
    dims = [re.findall(r"\w+\[([\d,]*)\]", result) for result in results]
    return [sum(math.prod(map(int, filter(None, d.split(",")))) for d in each) for each in dims]
