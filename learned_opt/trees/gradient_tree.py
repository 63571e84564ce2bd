"""Trees of parameters, by the tree of their gradients:
a leaf without a gradient is not trained, whatever it is.

A whole model may stand for its parameters, with functions, keys and None among its leaves, as in
Equinox.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from learned_opt.trees.packing import at_least_float32
from learned_opt.trees.spread import zeros_beside


def is_float(leaf: Any) -> bool:
    """Whether a leaf is a number or an array of a real floating type."""
    is_array = hasattr(leaf, "dtype") or isinstance(leaf, float)
    return is_array and jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def is_trained(gradient: Any) -> bool:
    """False for None and for what `jax.grad(allow_int=True)` gives for integers."""
    return gradient is not None and getattr(gradient, "dtype", None) != jax.dtypes.float0


def zeros_for(params: Any) -> Any:
    """Zeros of at least float32 at every floating leaf, None at others.

    One buffer each, so that it can be donated; they lie on the devices as the leaf does.

    Raises:
      ValueError: for complex parameters.
    """
    return jax.tree.map(
        lambda x: zeros_beside(x, _wide_dtype(x)) if is_float(x) or _is_complex(x) else None,
        params,
    )


def map_trained(function: Callable[..., Any], grads: Any, *rest: Any) -> Any:
    """`function` at every gradient and what stands there in the other trees;
    None where the gradient is None.
    """
    at_leaf = lambda g, *others: function(g, *others) if is_trained(g) else g
    return jax.tree.map(at_leaf, grads, *rest, is_leaf=lambda x: x is None)


def none_if_untrained(grads: Any) -> Any:
    """None in place of what `jax.grad(allow_int=True)` gives for integers."""
    return jax.tree.map(lambda g: g if is_trained(g) else None, grads)


def kept_where_untrained(grads: Any, new: Any, old: Any) -> Any:
    """`new`, and `old` where the gradient is None: a state keeps its tree."""
    return jax.tree.map(
        lambda g, n, o: n if is_trained(g) else o, grads, new, old, is_leaf=lambda x: x is None
    )


def widened(x: Any) -> Array:
    """At least float32.

    Raises:
      ValueError: for a complex gradient or parameter.
    """
    return jnp.asarray(x).astype(_wide_dtype(x))


def update_dtypes(grads: Any, params: Any) -> Any:
    """Where params are given their floating types, else the gradients'."""
    if params is None:
        return map_trained(jnp.result_type, grads)
    return map_trained(
        lambda g, w: np.dtype(jnp.result_type(w if is_float(w) else g)), grads, params
    )


def _wide_dtype(leaf):
    if _is_complex(leaf):
        raise ValueError(
            f"parameters must be real, got a leaf of type {jnp.result_type(leaf).name}; split it "
            "in two"
        )
    return at_least_float32(jnp.result_type(leaf))


def _is_complex(leaf):
    return isinstance(leaf, complex) or (
        hasattr(leaf, "dtype") and jnp.issubdtype(jnp.result_type(leaf), jnp.complexfloating)
    )
