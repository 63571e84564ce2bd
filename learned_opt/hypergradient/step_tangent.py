"""The derivative of one optimizer step with respect to its learning rate, carried forward.

A step `(w, s) -> (w', s') = Phi(w, s, rate)` has Jacobians A (of weights and optimizer state) and B
(of the rate). One jvp gives `A Z + B` (MARTHE, eq. 3 and 9) for any Optax rule, with no row of A or
B written by hand.

Tangents are float32 (float64 beside float64 leaves) and are cast to the leaf's own dtype only where
the jvp needs it: the weights' tangent accumulates outside it, because a bfloat16 accumulator stops
moving once an increment falls below its last bit. Leaves that are no floats (counts, keys, a
model's functions) carry no tangent: `None`. A weight whose gradient is None keeps the tangent it
has, which is zero.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from learned_opt.trees.gradient_tree import is_float, is_trained, kept_where_untrained, map_trained
from learned_opt.trees.spread import zeros_beside

InnerFactory = Callable[[Any], optax.GradientTransformation]


class Tangent(NamedTuple):
    """d(weights, optimizer state) / d(learning rate).

    Attributes:
      params: shaped as the weights.
      inner_state: shaped as the inner optimizer's state, `None` at leaves that are no floats.
    """

    params: optax.Params
    inner_state: Any


def tangent_dtype(*leaves: Any) -> Any:
    """`float64` if one of the leaves is, else `float32`."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(jnp.float32, *(x for x in leaves if is_float(x)))


def zero_tangent(tree: Any) -> Any:
    """Zeros in the tangent's dtype, `None` for leaves that are no floats.

    They lie on the devices as the leaf does.
    """
    return jax.tree.map(lambda x: zeros_beside(x, tangent_dtype(x)) if is_float(x) else None, tree)


def inner_product(tangent: optax.Params, grad: optax.Params) -> Array:
    """`tangent . grad`, summed in the tangent's dtype over the leaves that have a gradient."""
    dtype = tangent_dtype(*jax.tree.leaves(tangent))
    products = map_trained(lambda g, z: jnp.sum(z.astype(dtype) * g.astype(dtype)), grad, tangent)
    return jax.tree.reduce(jnp.add, products, jnp.zeros((), dtype))


def floats_of(params: optax.Params, tracked: Any) -> optax.Params:
    """What the inner optimizer sees of a model: the leaves that `tracked`, a tree of tangents, has;
    None elsewhere.
    """
    return jax.tree.map(lambda z, p: None if z is None else p, tracked, params, is_leaf=_is_none)


def scale_tangent(tangent: Any, factor: Array, keep: Array) -> Any:
    """`factor * tangent`, or zeros where `keep` is false,
    whatever the tangent holds (0 * inf would be nan).
    """
    return jax.tree.map(
        lambda z: jnp.where(keep, factor.astype(z.dtype) * z, jnp.zeros_like(z)), tangent
    )


class StepResult(NamedTuple):
    """One step of the inner optimizer and its derivatives.

    Attributes:
      updates: what the inner optimizer adds to the weights, in the gradients' dtypes.
      inner_state: its new state.
      tangent: `A Z + B`.
      partial: the weights' part of B, the derivative of this step alone; `()` if not asked for.
    """

    updates: optax.Params
    inner_state: Any
    tangent: Tangent
    partial: Any


class StepInput(NamedTuple):
    """Where a step of the inner optimizer is taken.

    Attributes:
      learning_rate: scalar.
      grads: gradient of the loss at `params`.
      inner_state: state of the inner optimizer.
      params: weights.
      tracked: a tree with None where the inner optimizer's state has no leaf of the weights, see
        `floats_of`.
    """

    learning_rate: Array
    grads: optax.Params
    inner_state: Any
    params: optax.Params
    tracked: Any


def differentiate_step(
    inner: InnerFactory,
    at: StepInput,
    tangent: Tangent | None,
    value_fn: Callable[[optax.Params], Array],
    with_partial: bool,
    extra_args: dict[str, Any],
) -> StepResult:
    """Takes the inner optimizer's step and pushes a tangent through it.

    Args:
      inner: `learning_rate -> optax transformation`.
      at: where the step is taken.
      tangent: Z, already discounted by mu; `None` for Z = 0, which needs no derivative of the
        gradient.
      value_fn: `params -> scalar`, or a pair of it and anything else; its gradient is `at.grads`,
        and its Hessian is in A.
      with_partial: whether to give B alone too (one more pass over the optimizer's step, none over
        `value_fn`).
      extra_args: further keyword arguments of the inner optimizer's update.

    Returns:
      See `StepResult`.
    """
    floats, treedef, rebuild = _split_floats(at.inner_state)
    weights, _, rebuild_params = _split_floats(at.params)

    def step(rate, grads, floats, weights):
        with jax.numpy_dtype_promotion("standard"):
            transformation = optax.with_extra_args_support(inner(rate))
            known = floats_of(rebuild_params(weights), at.tracked)
            updates, state = transformation.update(
                _filled(grads, known), rebuild(floats), known, **extra_args
            )
        state = jax.tree.map(_cast_like, state, at.inner_state)
        return (
            map_trained(lambda g, u: _cast_like(u, g), grads, updates),
            _split_floats(state)[0],
        ), state

    one = jnp.ones_like(at.learning_rate)
    # A singular rule makes nan tangents, which are then zeroed: no error under `jax_debug_nans`.
    with jax.debug_nans(False):
        (updates, _), partial_dot, new_state = jax.jvp(
            lambda rate: step(rate, at.grads, floats, weights),
            (at.learning_rate,),
            (one,),
            has_aux=True,
        )
        partial = _zero_where_untrained(at, _widen(_finite_where_inputs_are(partial_dot, ())[0]))
        if tangent is None:
            return StepResult(updates, new_state, Tangent(partial, ()), ())
        primals = (at.learning_rate, at.grads, floats, weights)
        updates_dot, floats_dot = _push(step, one, primals, tangent, at.params, value_fn)
    moved = map_trained(
        lambda g, z, u: z + u.astype(z.dtype), at.grads, tangent.params, updates_dot
    )
    new_tangent = Tangent(
        params=kept_where_untrained(at.grads, moved, tangent.params),
        inner_state=_place_floats(treedef, at.inner_state, floats_dot),
    )
    return StepResult(updates, new_state, new_tangent, partial if with_partial else ())


def _zero_where_untrained(at, tangent):
    """A weights' tangent, with zeros where there is no gradient."""
    fill = lambda g, z, x: z if is_trained(g) else zero_tangent(x)
    return jax.tree.map(fill, at.grads, tangent, at.params, is_leaf=_is_none)


def _push(step, one, primals, tangent, params, value_fn):
    """The jvp of the whole step: through the gradient first, then through the optimizer's rule."""
    _, grads, floats, weights = primals
    _, treedef, rebuild = _split_floats(params)
    weights_dot = [
        _cast_like(z, x) for z, x in zip(jax.tree.leaves(tangent.params), weights, strict=True)
    ]
    _, slopes = jax.jvp(
        jax.grad(lambda weights: _value(value_fn(rebuild(weights)))), (weights,), (weights_dot,)
    )
    grads_dot = map_trained(lambda g, d: _cast_like(d, g), grads, _place(treedef, params, slopes))
    floats_dot = [
        _cast_like(z, x) for z, x in zip(jax.tree.leaves(tangent.inner_state), floats, strict=True)
    ]
    incoming = (one, grads_dot, floats_dot, weights_dot)
    _, outgoing, _ = jax.jvp(step, primals, incoming, has_aux=True)
    return _finite_where_inputs_are(outgoing, incoming)


def _value(result):
    """The loss of a function that may give more beside it, such as a model's new state."""
    return result[0] if isinstance(result, tuple) else result


def _finite_where_inputs_are(outgoing, incoming):
    """Zeros the tangents that a singularity of the rule made,
    such as sqrt'(0) * 0 where a gradient is always zero.

    With finite tangents going in, only a singularity gives others. Where they went in non-finite,
    nothing is hidden.
    """
    inputs_finite = jnp.all(
        jnp.array([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(incoming)], bool)
    )
    return jax.tree.map(
        lambda x: jnp.where(inputs_finite & ~jnp.isfinite(x), jnp.zeros_like(x), x), outgoing
    )


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
    return _place(treedef, state, _widen(floats))


def _place(treedef, tree, floats):
    """Values for a tree's float leaves at their places, `None` elsewhere."""
    remaining = iter(floats)
    return jax.tree.unflatten(
        treedef, [next(remaining) if is_float(x) else None for x in jax.tree.leaves(tree)]
    )


def _filled(grads, known):
    """Zeros where a known weight has no gradient:
    Optax's Adam takes None there only if its state has None too.
    """
    fill = lambda g, p: g if is_trained(g) else jax.tree.map(jnp.zeros_like, p)
    return jax.tree.map(fill, grads, known, is_leaf=_is_none)


def _is_none(leaf):
    return leaf is None


def _cast_like(x, like):
    return jnp.asarray(x, jnp.result_type(like)) if is_float(like) else x


def _widen(tree):
    return jax.tree.map(lambda x: x.astype(tangent_dtype(x)), tree)
