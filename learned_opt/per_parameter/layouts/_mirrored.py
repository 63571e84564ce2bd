"""What users get: averages mirror the parameters."""

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import DTypeLike

from learned_opt.base import Theta
from learned_opt.per_parameter.group import GroupState
from learned_opt.per_parameter.group_update import update_group
from learned_opt.per_parameter.large import MAX_INDEX
from learned_opt.per_parameter.layouts.repeated import shapes_that_share, update_repeated
from learned_opt.per_parameter.layouts.rules import RuleOfEach, one_rule, update_rules
from learned_opt.per_parameter.layouts.states import AdafactorMLPState, MLPState, Settings
from learned_opt.per_parameter.rule import UpdateRule
from learned_opt.ranges import bounded_gradient
from learned_opt.trees.averages import Decays, accumulate
from learned_opt.trees.factors import Factors, accumulate_factors, flat_axes, parts_of
from learned_opt.trees.mirrored import (
    Trained,
    averages_of,
    check_averages,
    place_of_each,
    trained,
    with_leaves,
    zero_averages,
)
from learned_opt.trees.packing import (
    as_update,
    computing_dtype,
    group_leaves,
    joined_averages,
    place,
    unpack,
)
from learned_opt.trees.rounding import check_state_dtype, rounded
from learned_opt.trees.spread import flattened, may_be_spread, zero_count
from learned_opt.trees.stacked import Stacked, num_stacked
from learned_opt.trees.state_check import check_type

State = MLPState | AdafactorMLPState


def mirrored(
    name: str,
    settings: Settings,
    theta: Theta,
    *,
    stacked: Stacked | None = None,
    state_dtype: DTypeLike | None = None,
    rules: RuleOfEach = one_rule,
) -> optax.GradientTransformationExtraArgs:
    """The transformation of an optimizer.

    Args:
      name: of the optimizer, for messages.
      settings: of it.
      theta: its weights.
      stacked: which parameters hold layers, as `learned_opt.load` says.
      state_dtype: of the averages, as there.
      rules: which rule each parameter's is; with several, `theta[name]` are the weights of one.

    Raises:
      ValueError: for another type of averages.
    """
    momenta, seconds, factored = map(len, settings.kept)
    kept_in = check_state_dtype(state_dtype)

    def init(params: Any) -> State:
        averages = (zero_averages(params, number, dtype=kept_in) for number in (momenta, seconds))
        count, layers = zero_count(params), num_stacked(stacked, params)
        if not factored:
            return MLPState(count, *averages)
        factors = (
            zero_averages(params, factored, lambda *args, i=i: flat_axes(*args)[i], layers, kept_in)
            for i in (0, 1)
        )
        return AdafactorMLPState(count, *averages, Factors(*factors))

    def update(updates: Any, state: State, params: Any = None, **extra: Any) -> tuple[Any, State]:
        del extra  # Optax passes every extra argument to every transformation.
        check_type(name, state, AdafactorMLPState if factored else MLPState)
        which = trained(name, updates, params)
        layers = averages_of(which, num_stacked(stacked, params))
        _check_state(name, state, which, layers, settings.kept)
        names = averages_of(which, rules(params))
        step, new = _update(settings, theta, state.count, which, layers, _kept(which, state), names)
        averages = (
            with_leaves(which, [kept.momenta for kept in new], state.momenta),
            with_leaves(which, [kept.second_moments for kept in new], state.second_moments),
        )
        count = optax.safe_increment(state.count)
        if not factored:
            return with_leaves(which, step), MLPState(count, *averages)
        factors = Factors(
            *(
                with_leaves(which, [kept.factors[i] for kept in new], tree)
                for i, tree in enumerate(state.factors)
            )
        )
        return with_leaves(which, step), AdafactorMLPState(count, *averages, factors)

    return optax.GradientTransformationExtraArgs(init, update)


def _check_state(
    name: str, state: State, which: Trained, layers: Sequence[int], kept: Decays
) -> None:
    """Raises `ValueError` for a state of another tree."""
    updates = with_leaves(which, which.gradients)
    check_averages(name, "momenta", state.momenta, updates, len(kept.momenta))
    check_averages(name, "second_moments", state.second_moments, updates, len(kept.second_moments))
    for i, kind in enumerate(Factors._fields if kept.factored else ()):

        def factor(g: Any, layers: int = 0, i: int = i) -> jax.ShapeDtypeStruct:
            shape = jnp.shape(g)
            return jax.ShapeDtypeStruct(flattened(shape, flat_axes(shape, layers)[i]), jnp.float32)

        of_trained = [factor(*each) for each in zip(which.gradients, layers, strict=True)]
        wanted = with_leaves(which, of_trained, jax.tree.map(factor, updates))
        check_averages(name, f"factors.{kind}", state.factors[i], wanted, len(kept.factored))


class _Kept(NamedTuple):
    """The averages of one leaf; no factors where none are kept."""

    momenta: Array
    second_moments: Array
    factors: Factors | None = None


def _kept(which: Trained, state: State) -> list[_Kept]:
    trees = [state.momenta, state.second_moments]
    each = zip(*(averages_of(which, tree) for tree in trees), strict=True)
    if isinstance(state, MLPState):
        return [_Kept(*averages) for averages in each]
    factors = zip(*(averages_of(which, tree) for tree in state.factors), strict=True)
    return [_Kept(*averages, Factors(*f)) for averages, f in zip(each, factors, strict=True)]


def _update(
    settings: Settings,
    theta: Theta,
    count: Array,
    which: Trained,
    layers: Sequence[int],
    kept: list[_Kept],
    names: Sequence[str],
) -> tuple[list[Array], list[_Kept]]:
    """The updates of the trained leaves, and their averages one step on."""
    is_spread = may_be_spread([*which.gradients, *which.params, *jax.tree.leaves(kept)])
    of_layers = {i for i, number in enumerate(layers) if number}
    groups = group_leaves(which.params, alone=is_spread, by_size=True, each=of_layers, rules=names)
    rules = update_rules(settings, theta, count, groups)
    steps: list[Array] = list(which.params)
    new, alone = list(kept), {}
    for group in groups:
        dtype = computing_dtype(group, theta)
        rule = rules[dtype, group.rule]
        one_step, first = partial(_one, settings.kept, dtype, count), group.leaves[0]
        leaf = lambda i: (which.gradients[i], which.params[i], kept[i])
        if first in of_layers:
            of_layer = partial(_layer, one_step, rule, is_spread)
            steps[first], new[first] = _over_layers(of_layer, layers[first])(*leaf(first))
            continue
        states = []
        for i in group.leaves:
            state, new[i] = one_step(*leaf(i))
            states.append(state)
        if len(states) == 1:
            alone[first] = states[0], rule
        else:
            update = update_group(rule, _joined(states).bounded(), group.sizes)
            place(steps, unpack(update, group, which.params, count))
    places = place_of_each(which) if is_spread else [None] * len(steps)
    for i, update in _updates_alone(alone, count, is_spread, places).items():
        leaf = which.params[i]
        steps[i] = as_update(update.reshape(jnp.shape(leaf)), jnp.result_type(leaf))
    return steps, new


def _over_layers(step: Callable[..., tuple], number: int) -> Callable[..., tuple]:
    """`step` of a leaf with so many leading axes of layers, each layer on its own."""
    for _ in range(number):
        # The decays stand in front of the layers.
        step = jax.vmap(step, in_axes=(0, 0, 1), out_axes=(0, 1))
    return step


def _layer(
    one_step: Callable[..., tuple], rule: UpdateRule, is_spread: bool, *leaf: Any
) -> tuple[Array, _Kept]:
    """The update of one layer of a leaf, and its averages one step on."""
    state, new = one_step(*leaf)
    update = update_group(rule, state.bounded(), (state.gradient.size,), is_spread)
    parameter = leaf[1]
    return as_update(update.reshape(jnp.shape(parameter)), jnp.result_type(parameter)), new


@partial(jax.jit, static_argnums=(0, 1))  # traced once for a shape, not once for a layer
def _one(
    decays: Decays, dtype: DTypeLike, count: Array, gradient: Array, parameter: Array, kept: _Kept
) -> tuple[GroupState, _Kept]:
    """What the update of a leaf alone reads, its gradient still unbounded, and its averages one
    step on.
    """
    raw = jnp.asarray(gradient, dtype)
    g = bounded_gradient(raw)
    momenta, seconds = accumulate(decays, g, kept.momenta, kept.second_moments)
    factors, parts = None, ()
    if kept.factors is not None:
        flat = flat_axes(g.shape)
        factors = accumulate_factors(kept.factors, g, decays.factored, flat)
        parts = (parts_of(factors, flat),)
    state = GroupState(raw, jnp.asarray(parameter, dtype), momenta, seconds, parts)
    if not g.ndim:  # A row without axes would stand for many equal ones.
        state = state.map(lambda x: x[..., None])
    new = _Kept(momenta, seconds, factors)
    return state, jax.tree.map(lambda x, y: rounded(x, y.dtype, count), new, kept)


def _joined(states: Sequence[GroupState]) -> GroupState:
    """Of small leaves that are updated together.

    Their averages went on one by one: tensors of a shape then share a program, which parts of a
    packed array, each at another place, do not.
    """
    gradients, params, momenta, seconds = zip(*(state.arrays for state in states), strict=True)
    vectors = (jnp.concatenate([x.reshape(-1) for x in kind]) for kind in (gradients, params))
    factors = tuple(parts for state in states for parts in state.factors)
    return GroupState(*vectors, *map(joined_averages, (momenta, seconds)), factors)


def _updates_alone(
    alone: dict[int, tuple[GroupState, UpdateRule]],
    count: Array,
    is_spread: bool,
    places: Sequence[Hashable],
) -> dict[int, Array]:
    """The updates of leaves alone; many of a shape and place in one program."""
    same: dict[Any, list[int]] = {}
    for i, (state, rule) in alone.items():
        g = state.gradient
        is_apart = state.factors or rule.rms_normalized or g.size > MAX_INDEX
        key = i if is_apart else (g.shape, g.dtype.name, id(rule), places[i])
        same.setdefault(key, []).append(i)
    shapes = [(alone[i[0]][0].gradient.size, len(i)) for i in same.values()]
    updates = {}
    for indices, share in zip(same.values(), shapes_that_share(shapes, is_spread), strict=True):
        states, rule = [alone[i][0] for i in indices], alone[indices[0]][1]
        if share:
            updates |= zip(indices, update_repeated(rule, states, count, is_spread), strict=True)
        else:
            for i, state in zip(indices, states, strict=True):
                updates[i] = update_group(rule, state.bounded(), (state.gradient.size,), is_spread)
    return updates
