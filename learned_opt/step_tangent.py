"""The derivative of one optimizer step with respect to its learning rate, carried forward.

A step `(w, s) -> (w', s') = Phi(w, s, rate)` has Jacobians A (of weights and optimizer state) and B (of the rate). One
jvp gives `A Z + B` (MARTHE, eq. 3 and 9) for any Optax rule, with no row of A or B written by hand.

Tangents are float32 (float64 beside float64 leaves) and are cast to the leaf's own dtype only where the jvp needs it:
the weights' tangent accumulates outside it, because a bfloat16 accumulator stops moving once an increment falls below
its last bit. Leaves of the optimizer state that are no floats (counts, keys) carry no tangent: `None`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

Params = Any
InnerFactory = Callable[[Any], optax.GradientTransformation]


class Tangent(NamedTuple):
    """d(weights, optimizer state) / d(learning rate).

    Attributes:
      params: shaped as the weights.
      inner_state: shaped as the inner optimizer's state, `None` at leaves that are no floats.
    """

    params: Params
    inner_state: Any


def tangent_dtype(*leaves: Any) -> Any:
    """`float64` if one of the leaves is, else `float32`."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(jnp.float32, *(x for x in leaves if is_float(x)))


def is_float(leaf: Any) -> bool:
    """Whether a leaf carries a tangent."""
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def zero_tangent(tree: Any) -> Any:
    """Zeros in the tangent's dtype, `None` for leaves that are no floats."""
    return jax.tree.map(lambda x: jnp.zeros(jnp.shape(x), tangent_dtype(x)) if is_float(x) else None, tree)


def inner_product(tangent: Params, grad: Params) -> Array:
    """`tangent . grad`, summed in the tangent's dtype."""
    dtype = tangent_dtype(*jax.tree.leaves(tangent))
    products = jax.tree.map(lambda z, g: jnp.sum(z.astype(dtype) * g.astype(dtype)), tangent, grad)
    return jax.tree.reduce(jnp.add, products, jnp.zeros((), dtype))


def scale_tangent(tangent: Any, factor: Array, keep: Array) -> Any:
    """`factor * tangent`, or zeros where `keep` is false, whatever the tangent holds (0 * inf would be nan)."""
    return jax.tree.map(lambda z: jnp.where(keep, factor.astype(z.dtype) * z, jnp.zeros_like(z)), tangent)


class StepResult(NamedTuple):
    """One step of the inner optimizer and its derivatives.

    Attributes:
      updates: what the inner optimizer adds to the weights, in the gradients' dtypes.
      inner_state: its new state.
      tangent: `A Z + B`.
      partial: the weights' part of B, the derivative of this step alone; `()` if not asked for.
    """

    updates: Params
    inner_state: Any
    tangent: Tangent
    partial: Any


def differentiate_step(
    inner: InnerFactory,
    learning_rate: Array,
    grads: Params,
    inner_state: Any,
    params: Params,
    tangent: Tangent | None,
    value_fn: Callable[[Params], Array],
    with_partial: bool,
    extra_args: dict[str, Any],
) -> StepResult:
    """Takes the inner optimizer's step and pushes a tangent through it.

    Args:
      inner: `learning_rate -> optax transformation`.
      learning_rate: scalar.
      grads: gradient of `value_fn` at `params`.
      inner_state: state of the inner optimizer.
      params: weights.
      tangent: Z, already discounted by mu; `None` for Z = 0, which needs no derivative of the gradient.
      value_fn: `params -> scalar`, whose Hessian is in A.
      with_partial: whether to give B alone too (one more pass over the optimizer's step, none over `value_fn`).
      extra_args: further keyword arguments of the inner optimizer's update.

    Returns:
      See `StepResult`.
    """
    floats, treedef, rebuild = _split_floats(inner_state)

    def step(rate, grads, floats, params):
        with jax.numpy_dtype_promotion("standard"):
            transformation = optax.with_extra_args_support(inner(rate))
            updates, state = transformation.update(grads, rebuild(floats), params, **extra_args)
        state = jax.tree.map(_cast_like, state, inner_state)
        return (jax.tree.map(_cast_like, updates, grads), _split_floats(state)[0]), state

    one = jnp.ones_like(learning_rate)
    (updates, _), partial_dot, new_state = jax.jvp(
        lambda rate: step(rate, grads, floats, params), (learning_rate,), (one,), has_aux=True
    )
    partial = _widen(_finite_where_inputs_are(partial_dot, ())[0])
    if tangent is None:
        return StepResult(updates, new_state, Tangent(partial, ()), ())
    updates_dot, floats_dot = _push(step, one, (learning_rate, grads, floats, params), tangent, value_fn)
    new_tangent = Tangent(
        params=jax.tree.map(lambda z, u: z + u.astype(z.dtype), tangent.params, updates_dot),
        inner_state=_place_floats(treedef, inner_state, floats_dot),
    )
    return StepResult(updates, new_state, new_tangent, partial if with_partial else ())


def _push(step, one, primals, tangent, value_fn):
    """The jvp of the whole step: through the gradient first, then through the optimizer's rule."""
    _, grads, floats, params = primals
    params_dot = jax.tree.map(_cast_like, tangent.params, params)
    _, grads_dot = jax.jvp(jax.grad(value_fn), (params,), (params_dot,))
    grads_dot = jax.tree.map(_cast_like, grads_dot, grads)
    floats_dot = [_cast_like(z, x) for z, x in zip(jax.tree.leaves(tangent.inner_state), floats, strict=True)]
    incoming = (one, grads_dot, floats_dot, params_dot)
    _, outgoing, _ = jax.jvp(step, primals, incoming, has_aux=True)
    return _finite_where_inputs_are(outgoing, incoming)


def _finite_where_inputs_are(outgoing, incoming):
    """Zeros the tangents that a singularity of the rule made, such as sqrt'(0) * 0 where a gradient is always zero.

    With finite tangents going in, only a singularity gives others. Where they went in non-finite, nothing is hidden.
    """
    inputs_finite = jnp.all(jnp.array([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(incoming)], bool))
    return jax.tree.map(lambda x: jnp.where(inputs_finite & ~jnp.isfinite(x), jnp.zeros_like(x), x), outgoing)


def _split_floats(state):
    """The float leaves of a state, its structure, and the function that puts float leaves back."""
    leaves, treedef = jax.tree.flatten(state)
    floats = [x for x in leaves if is_float(x)]

    def rebuild(new_floats):
        remaining = iter(new_floats)
        return jax.tree.unflatten(treedef, [next(remaining) if is_float(x) else x for x in leaves])

    return floats, treedef, rebuild


def _place_floats(treedef, state, floats):
    """Wide tangents at a state's float leaves, `None` elsewhere."""
    remaining = iter(_widen(floats))
    return jax.tree.unflatten(treedef, [next(remaining) if is_float(x) else None for x in jax.tree.leaves(state)])


def _cast_like(x, like):
    return jnp.asarray(x, jnp.result_type(like)) if is_float(like) else x


def _widen(tree):
    return jax.tree.map(lambda x: x.astype(tangent_dtype(x)), tree)
