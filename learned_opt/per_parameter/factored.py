"""How an update of `adafactor_mlp` goes over a tree: averages mirror the parameters, or stay packed
from step to step.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import DTypeLike

from learned_opt.base import Theta
from learned_opt.per_parameter.blocks import GroupState, update_group
from learned_opt.per_parameter.rule import update_rule
from learned_opt.ranges import bounded_gradient
from learned_opt.trees.averages import Decays, accumulate
from learned_opt.trees.factors import (
    Factors,
    accumulate_factors,
    as_matrices,
    from_matrices,
    matrix_shape,
    zero_factors,
)
from learned_opt.trees.mirrored import (
    Trained,
    averages_of,
    check_averages,
    trained,
    with_leaves,
    zero_averages,
)
from learned_opt.trees.packing import (
    Group,
    computing_dtype,
    group_leaves,
    joined_averages,
    pack,
    place,
    unpack,
)

Settings = Any
"""`learned_opt.per_parameter._adafactor_mlp.AdafactorMLPSettings`."""


class AdafactorMLPState(NamedTuple):
    """State of the optimizer.

    Attributes:
      count: int32 scalar, updates made so far.
      momenta: running averages of the gradient: the parameters' tree, leaves
        `[momentum decays, *shape]`.
      second_moments: of the squared gradient: the parameters' tree, leaves
        `[second-moment decays, *shape]`.
      factors: of the squared gradient's means over columns and over rows: two trees like the
        parameters', leaves `[factored decays, batch, rows]` and
        `[factored decays, batch, columns]`.

    In the packed layout of outer-training momenta and second moments are, for each group of leaves,
    `[decays, elements]`, and factors, for each group, those of each of its leaves.
    """

    count: Array
    momenta: Any
    second_moments: Any
    factors: Any


def mirrored(settings: Settings, theta: Theta) -> optax.GradientTransformationExtraArgs:
    """What users get: averages mirror the parameters."""
    momenta, second_moments, factored = map(len, settings.decays)

    def init(params: Any) -> AdafactorMLPState:
        return AdafactorMLPState(
            count=jnp.zeros((), jnp.int32),
            momenta=zero_averages(params, momenta),
            second_moments=zero_averages(params, second_moments),
            factors=Factors(
                *(zero_averages(params, factored, shape_of) for shape_of in _FACTOR_SHAPES)
            ),
        )

    def update(
        updates: Any, state: AdafactorMLPState, params: Any = None, **extra: Any
    ) -> tuple[Any, Any]:
        del extra  # Optax passes every extra argument to every transformation.
        which = trained("adafactor_mlp", updates, params)
        _check_state(state, updates, settings.decays)
        step, new = _update_mirrored(settings, theta, state, which)
        factors = zip(
            Factors(*zip(*new.factors, strict=True)) if new.factors else ((), ()),
            state.factors,
            strict=True,
        )
        new_state = AdafactorMLPState(
            count=optax.safe_increment(state.count),
            momenta=with_leaves(which, new.momenta, state.momenta),
            second_moments=with_leaves(which, new.second_moments, state.second_moments),
            factors=Factors(*(with_leaves(which, *each) for each in factors)),
        )
        return with_leaves(which, step), new_state

    return optax.GradientTransformationExtraArgs(init, update)


_FACTOR_SHAPES = (
    lambda leaf: matrix_shape(jnp.shape(leaf))[:2],
    lambda leaf: matrix_shape(jnp.shape(leaf))[::2],
)
"""Of a leaf's row and column averages."""


def _check_state(state: AdafactorMLPState, updates: Any, decays: Decays) -> None:
    """Raises `ValueError` for a state of another tree."""
    check_averages("adafactor_mlp", "momenta", state.momenta, updates, len(decays.momenta))
    check_averages(
        "adafactor_mlp", "second_moments", state.second_moments, updates, len(decays.second_moments)
    )
    for name, tree, shape_of in zip(Factors._fields, state.factors, _FACTOR_SHAPES, strict=True):
        wanted = jax.tree.map(
            lambda g, shape_of=shape_of: jax.ShapeDtypeStruct(shape_of(g), jnp.float32), updates
        )
        check_averages("adafactor_mlp", f"factors.{name}", tree, wanted, len(decays.factored))


class _Leaves(NamedTuple):
    """Averages of the trained leaves, in their order."""

    momenta: list[Array]
    second_moments: list[Array]
    factors: list[Factors]


def _update_mirrored(
    settings: Settings, theta: Theta, state: AdafactorMLPState, which: Trained
) -> tuple[list[Array], _Leaves]:
    """The updates of the trained leaves, and their averages one step on."""
    momenta, seconds = (averages_of(which, tree) for tree in (state.momenta, state.second_moments))
    factors = [
        Factors(*each)
        for each in zip(*(averages_of(which, tree) for tree in state.factors), strict=True)
    ]
    matrices = [as_matrices(jnp.asarray(x)) for x in which.params]
    out, gradients = list(matrices), {}
    for group in group_leaves(matrices):
        dtype = computing_dtype(group, theta)
        for i in group.leaves:
            g = bounded_gradient(jnp.asarray(which.gradients[i], dtype))
            momenta[i], seconds[i] = accumulate(settings.decays, g, momenta[i], seconds[i])
            gradients[i] = as_matrices(g)
            factors[i] = accumulate_factors(factors[i], gradients[i], settings.decays.factored)
        full = (
            [jax.vmap(as_matrices)(leaves[i]) for i in group.leaves]
            for leaves in (momenta, seconds)
        )
        of_group = GroupState(
            pack(gradients, group, dtype),
            pack(matrices, group, dtype),
            *map(joined_averages, full),
            factors=tuple(factors[i] for i in group.leaves),
        )
        place(out, unpack(_step(settings, theta, state.count, group, of_group), group, matrices))
        for leaves in (momenta, seconds, factors):
            place(leaves, {i: _cast(leaves[i], group.dtype) for i in group.leaves})
    step = [from_matrices(x, jnp.shape(leaf)) for x, leaf in zip(out, which.params, strict=True)]
    return step, _Leaves(momenta, seconds, factors)


def _cast(tree: Any, dtype: DTypeLike) -> Any:
    return jax.tree.map(lambda x: x.astype(dtype), tree)


def packed(settings: Settings, theta: Theta) -> optax.GradientTransformationExtraArgs:
    """What outer-training uses: averages stay packed from step to step."""
    decays = settings.decays

    def init(params: Any) -> AdafactorMLPState:
        leaves = jax.tree.leaves(params)
        groups, num = group_leaves(leaves), Decays(*map(len, decays))
        return AdafactorMLPState(
            count=jnp.zeros((), jnp.int32),
            momenta=tuple(jnp.zeros((num.momenta, g.size), g.dtype) for g in groups),
            second_moments=tuple(jnp.zeros((num.second_moments, g.size), g.dtype) for g in groups),
            factors=tuple(
                tuple(zero_factors(num.factored, jnp.shape(leaves[i]), g.dtype) for i in g.leaves)
                for g in groups
            ),
        )

    def update(
        updates: Any, state: AdafactorMLPState, params: Any = None, **extra: Any
    ) -> tuple[Any, Any]:
        del extra
        which = trained("adafactor_mlp", updates, params)
        gradients, matrices = ([as_matrices(jnp.asarray(x)) for x in each] for each in which[:2])
        out, new = list(matrices), _Leaves([], [], [])
        for group, *averages in zip(group_leaves(matrices), *state[1:], strict=True):
            of_group = _packed_group(decays, theta, group, gradients, matrices, averages)
            step = _step(settings, theta, state.count, group, of_group)
            place(out, unpack(step, group, matrices))
            for kept, of_kind in zip(new, of_group[2:], strict=True):
                kept.append(_cast(of_kind, group.dtype))
        rows = zip(out, which.params, strict=True)
        step = [from_matrices(x, jnp.shape(leaf)) for x, leaf in rows]
        count = optax.safe_increment(state.count)
        return with_leaves(which, step), AdafactorMLPState(count, *map(tuple, new))

    return optax.GradientTransformationExtraArgs(init, update)


def _packed_group(
    decays: Decays,
    theta: Theta,
    group: Group,
    gradients: list[Array],
    matrices: list[Array],
    averages: list[Any],
) -> GroupState:
    """What an update of a group sees: its averages `averages` one step on, in their order."""
    momenta, seconds, factors = averages
    dtype = computing_dtype(group, theta)
    bounded = {i: bounded_gradient(gradients[i].astype(dtype)) for i in group.leaves}
    g, each = pack(bounded, group, dtype), zip(factors, bounded.values(), strict=True)
    return GroupState(
        g,
        pack(matrices, group, dtype),
        *accumulate(decays, g, momenta, seconds),
        factors=tuple(accumulate_factors(of_leaf, g, decays.factored) for of_leaf, g in each),
    )


def _step(settings: Settings, theta: Theta, count: Array, group: Group, state: GroupState) -> Array:
    """The update `[n]` of one group."""
    rule = update_rule(
        settings, theta, count, state.gradient.dtype, rms_normalized=settings.rms_normalized
    )
    return update_group(rule, state, group.sizes)
