"""The per-parameter MLP on factored second moments
(Metz et al. 2022, arXiv 2203.11860; 2020, arXiv 2009.11243).

As `learned_opt.mlp`, with Adafactor's row and column averages of the squared gradient among the
inputs:

    step = step_multiplier * d * exp(exp_multiplier * m),    w <- w - step

With `rms_normalized=True` the direction d of each tensor is first divided by its root mean square,
so that the length of a step is `step_multiplier` times what m makes of it, whatever the tensor; a
schedule of the learning rate (`learned_opt.load(..., learning_rate=...)`) then means what it does
for Adam.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import DTypeLike

from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.per_parameter.averages import Decays, accumulate
from learned_opt.per_parameter.blocks import GroupState, update_group
from learned_opt.per_parameter.factors import (
    Factors,
    accumulate_factors,
    as_matrices,
    from_matrices,
    matrix_shape,
    zero_factors,
)
from learned_opt.per_parameter.features import FEATURE_KINDS, LOG_RMS, check_features, num_rows
from learned_opt.per_parameter.rule import update_rule
from learned_opt.per_parameter.theta import init_theta, settings_over_preset
from learned_opt.ranges import bounded_gradient
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

FEATURES = tuple(name for name, kind in FEATURE_KINDS.items() if kind.over_tensor is not LOG_RMS)
"""Inputs that `adafactor_mlp` can give."""


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


class AdafactorMLPSettings(NamedTuple):
    """Resolved arguments of `adafactor_mlp`."""

    hidden_sizes: tuple[int, ...] = (32,)
    momentum_decays: tuple[float, ...] = (0.9, 0.99, 0.999)
    second_moment_decays: tuple[float, ...] = (0.999,)
    factored_decays: tuple[float, ...] = (0.9, 0.99, 0.999)
    timescales: tuple[float, ...] = (
        3.0,
        10.0,
        30.0,
        100.0,
        300.0,
        1000.0,
        3000.0,
        10_000.0,
        300_000.0,
    )
    features: tuple[str, ...] = (
        "parameter",
        "adam_gradient",
        "adam_momentum",
        "adafactor_gradient",
        "adafactor_momentum",
    )
    step_multiplier: float = 1e-3
    exp_multiplier: float = 1e-3
    output_init_scale: float = 0.1
    rms_normalized: bool = False

    @property
    def decays(self) -> Decays:
        """Of all running averages."""
        return Decays(self.momentum_decays, self.second_moment_decays, self.factored_decays)

    @property
    def num_features(self) -> int:
        """Number of the inputs before the times."""
        return num_rows(self.features, self.decays)


PRESETS: dict[str, AdafactorMLPSettings] = {
    "metz2022": AdafactorMLPSettings(
        hidden_sizes=(4, 4),
        timescales=(
            1.0,
            3.0,
            10.0,
            30.0,
            100.0,
            300.0,
            1000.0,
            3000.0,
            10_000.0,
            30_000.0,
            100_000.0,
        ),
        features=(
            "gradient",
            "parameter",
            "momentum",
            "second_moment",
            "momentum_over_rms",
            "inverse_rms",
            "factored_gradient",
            "row_moment",
            "column_moment",
            "inverse_row_rms",
            "inverse_column_rms",
            "factored_momentum",
        ),
    )
}


def adafactor_mlp(
    hidden_sizes: Sequence[int] | None = None,
    momentum_decays: Sequence[float] | None = None,
    second_moment_decays: Sequence[float] | None = None,
    factored_decays: Sequence[float] | None = None,
    timescales: Sequence[float] | None = None,
    *,
    features: Sequence[str] | None = None,
    step_multiplier: float | None = None,
    exp_multiplier: float | None = None,
    output_init_scale: float | None = None,
    rms_normalized: bool | None = None,
    preset: str | None = None,
) -> LearnedOptimizer:
    """The per-parameter MLP on factored second moments.

    An argument that is left out comes from the preset, or without a preset from
    `AdafactorMLPSettings`.

    Args:
      hidden_sizes: widths of the ReLU layers; one layer is the fastest.
      momentum_decays: in [0, 1), of the running averages of the gradient.
      second_moment_decays: in [0, 1), of the squared gradient, one value a parameter; `()` saves
        that memory.
      factored_decays: in [0, 1), of the squared gradient's means over rows and over columns.
      timescales: in updates, positive; `()` takes the time inputs away.
      features: names in `learned_opt.per_parameter.features.FEATURE_KINDS`, but `log_*`; in the
        order of the first layer's rows.
      step_multiplier: of the direction.
      exp_multiplier: of the magnitude, inside the exponential.
      output_init_scale: of the last layer's fresh weights.
      rms_normalized: divide the direction by its root mean square over the tensor.
      preset: `"metz2022"`, the paper: 39 inputs, two hidden layers of 4, 190 weights (its seven
        decays, which the paper learns too, are held); None, 11 inputs without a scale of their own,
        which one hidden layer takes in one loop.

    Returns:
      The optimizer; its theta is `{"layer_i": {"weights": [inputs, outputs], "bias": [outputs]}}`.

    Raises:
      ValueError: for an argument out of its range or an unknown preset or feature.
    """
    settings = settings_over_preset(AdafactorMLPSettings(), PRESETS, locals())  # all arguments
    check_features(settings.features, FEATURES, settings.decays)
    return LearnedOptimizer(
        init=lambda key: init_theta(settings, settings.num_features, key),
        optimizer=lambda theta: _transformation(settings, theta),
        packed=lambda theta: _packed(settings, theta),
    )


def _transformation(
    settings: AdafactorMLPSettings, theta: Theta
) -> optax.GradientTransformationExtraArgs:
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
    settings: AdafactorMLPSettings, theta: Theta, state: AdafactorMLPState, which: Trained
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


def _packed(settings: AdafactorMLPSettings, theta: Theta) -> optax.GradientTransformationExtraArgs:
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
        for group, momenta, seconds, factors in zip(
            group_leaves(matrices), *state[1:], strict=True
        ):
            dtype = computing_dtype(group, theta)
            bounded = {i: bounded_gradient(gradients[i].astype(dtype)) for i in group.leaves}
            g, each = pack(bounded, group, dtype), zip(factors, bounded.values(), strict=True)
            of_group = GroupState(
                g,
                pack(matrices, group, dtype),
                *accumulate(decays, g, momenta, seconds),
                factors=tuple(
                    accumulate_factors(of_leaf, g, decays.factored) for of_leaf, g in each
                ),
            )
            place(
                out, unpack(_step(settings, theta, state.count, group, of_group), group, matrices)
            )
            for kept, averages in zip(new, of_group[2:], strict=True):
                kept.append(_cast(averages, group.dtype))
        step = [
            from_matrices(x, jnp.shape(leaf)) for x, leaf in zip(out, which.params, strict=True)
        ]
        return with_leaves(which, step), AdafactorMLPState(
            optax.safe_increment(state.count), *map(tuple, new)
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _step(
    settings: AdafactorMLPSettings, theta: Theta, count: Array, group: Group, state: GroupState
) -> Array:
    """The update `[n]` of one group."""
    rule = update_rule(
        settings, theta, count, state.gradient.dtype, rms_normalized=settings.rms_normalized
    )
    return update_group(rule, state, group.sizes)
