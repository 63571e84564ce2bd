"""What outer-training uses: averages stay packed from step to step,
all small leaves in one vector.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from learned_opt.base import Theta
from learned_opt.per_parameter.group import GroupState
from learned_opt.per_parameter.group_update import tangent_once, update_group
from learned_opt.per_parameter.layouts.rules import RuleOfEach, one_rule, update_rules
from learned_opt.per_parameter.layouts.states import AdafactorMLPState, MLPState, Settings
from learned_opt.ranges import bounded_gradient
from learned_opt.trees.averages import Decays, accumulate
from learned_opt.trees.factors import (
    Factors,
    accumulate_factors,
    as_matrices,
    from_matrices,
    matrix_shape,
    parts_of,
)
from learned_opt.trees.mirrored import averages_of, trained, with_leaves
from learned_opt.trees.packing import (
    Group,
    computing_dtype,
    group_leaves,
    pack,
    place,
    split_packed,
    unpack,
)
from learned_opt.trees.state_check import REMEDY, check_type

_FLAT = (2,), (1,)
"""Axes of `[batch, rows, columns]` along which factors have one element."""


def packed(
    name: str, settings: Settings, theta: Theta, *, rules: RuleOfEach = one_rule
) -> optax.GradientTransformationExtraArgs:
    """The transformation of an optimizer; arguments as in `mirrored`."""
    num = settings.kept._replace(**{k: len(v) for k, v in settings.kept._asdict().items()})

    def init(params: Any) -> Any:
        leaves = jax.tree.leaves(params)
        names = jax.tree.leaves(rules(params))
        groups, count = group_leaves(leaves, rules=names), jnp.zeros((), jnp.int32)
        averages = (
            tuple(jnp.zeros((number, g.size), g.dtype) for g in groups) for number in num[:2]
        )
        if not num.factored:
            return MLPState(count, *averages)
        factors = (
            tuple(_zero_factors(num.factored, jnp.shape(leaves[i]), g.dtype) for i in g.leaves)
            for g in groups
        )
        return AdafactorMLPState(count, *averages, tuple(factors))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        del extra
        which = trained(name, updates, params)
        gradients, leaves = (_seen(each, num.factored) for each in which[:2])
        out: list[Array] = list(leaves)
        groups = group_leaves(leaves, rules=averages_of(which, rules(params)))
        _check_state(name, state, groups, num)
        new: tuple[list[Any], ...] = tuple([] for _ in state[1:])
        of_groups = update_rules(settings, theta, state.count, groups)
        for group, *averages in zip(groups, *state[1:], strict=True):
            dtype = computing_dtype(group, theta)
            g = bounded_gradient(pack(gradients, group, dtype))
            if len(group.sizes) > 1 and not num.factored:
                g = tangent_once(g)
            of_group, kept = _one_step_on(settings, group, g, leaves, averages)
            rule = of_groups[dtype, group.rule]
            place(out, unpack(update_group(rule, of_group, group.sizes).reshape(-1), group, leaves))
            for list_of_kind, of_kind in zip(new, kept, strict=True):
                list_of_kind.append(jax.tree.map(lambda x, d=group.dtype: x.astype(d), of_kind))
        if num.factored:
            rows = zip(out, which.params, strict=True)
            out = [from_matrices(x, jnp.shape(leaf)) for x, leaf in rows]
        count = optax.safe_increment(state.count)
        return with_leaves(which, out), type(state)(count, *map(tuple, new))

    return optax.GradientTransformationExtraArgs(init, update)


def _check_state(name: str, state: Any, groups: Sequence[Group], num: Decays) -> None:
    """Raises `ValueError` for a state of another type, or of parameters of other sizes; it knows no
    more of them.
    """
    check_type(name, state, AdafactorMLPState if num.factored else MLPState)
    for what, number in (("momenta", num.momenta), ("second_moments", num.second_moments)):
        wanted = [(number, group.size) for group in groups]
        found = [jnp.shape(average) for average in getattr(state, what)]
        if found != wanted:
            raise ValueError(
                f"{name}: the state's {what} are of shapes {found}, needed are {wanted}; {REMEDY}"
            )


def _seen(leaves: list[Array], factored: int) -> list[Array]:
    """Leaves as the rule sees them: as matrices where there are factors."""
    return [as_matrices(jnp.asarray(x)) for x in leaves] if factored else leaves


def _zero_factors(num: int, shape: tuple[int, ...], dtype: Any) -> Factors:
    batch, rows, columns = matrix_shape(shape)
    return Factors(jnp.zeros((num, batch, rows), dtype), jnp.zeros((num, batch, columns), dtype))


def _one_step_on(
    settings: Settings, group: Group, g: Array, leaves: Sequence[Array], averages: Sequence[Any]
) -> tuple[GroupState, list[Any]]:
    """What the update of a group reads, and its averages, one step on."""
    momenta, seconds = accumulate(settings.kept, g, *averages[:2])
    shapes = [jnp.shape(leaves[i]) for i in group.leaves]
    state = GroupState(g, pack(leaves, group, g.dtype), momenta, seconds)
    kept: list[Any] = [momenta, seconds]
    if settings.kept.factored:
        natural = [
            accumulate_factors(
                Factors(f.rows[..., None], f.columns[:, :, None]), x, settings.kept.factored, _FLAT
            )
            for f, x in zip(averages[2], split_packed(g, group, shapes), strict=True)
        ]
        state = state._replace(factors=tuple(parts_of(f, _FLAT) for f in natural))
        kept.append(tuple(Factors(f.rows[..., 0], f.columns[:, :, 0]) for f in natural))
    if len(shapes) == 1:
        shape = shapes[0] or (1,)
        state = state._replace(
            **{
                field: x.reshape(*x.shape[:-1], *shape)
                for field, x in zip(GroupState._fields, state.arrays, strict=False)
            }
        )
    return state, kept
