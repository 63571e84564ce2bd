"""The per-parameter MLP on factored second moments (Metz et al. 2022, arXiv 2203.11860; 2020, arXiv 2009.11243).

As `learned_opt.mlp`, with Adafactor's row and column averages of the squared gradient among the inputs:

    step = step_multiplier * d * exp(exp_multiplier * m),    w <- w - step

With `rms_normalized=True` the direction d of each tensor is first divided by its root mean square, so that the length
of a step is `step_multiplier` times what m makes of it, whatever the tensor; a schedule of the learning rate
(`learned_opt.load(..., learning_rate=...)`) then means what it does for Adam.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import DTypeLike

from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.per_parameter import adafactor_features as inputs
from learned_opt.per_parameter.adafactor_features import Decays, Factors
from learned_opt.per_parameter.adafactor_update import Rule, update_group
from learned_opt.per_parameter.blocks import running_averages
from learned_opt.per_parameter.kernel import mlp_rows
from learned_opt.per_parameter.rest import is_moving
from learned_opt.per_parameter.theta import init_theta, layers_at, resolve
from learned_opt.ranges import bounded_gradient
from learned_opt.trees.mirrored import Trained, averages_of, check_averages, trained, with_leaves, zero_averages
from learned_opt.trees.packing import Group, computing_dtype, group_leaves, joined_averages, pack, place, unpack


class AdafactorMLPState(NamedTuple):
    """State of the optimizer.

    Attributes:
      count: int32 scalar, updates made so far.
      momenta: running averages of the gradient: the parameters' tree, leaves `[momentum decays, *shape]`.
      second_moments: of the squared gradient: the parameters' tree, leaves `[second-moment decays, *shape]`.
      factors: of the squared gradient's means over columns and over rows: two trees like the parameters', leaves
        `[factored decays, batch, rows]` and `[factored decays, batch, columns]`.

    In the packed layout of outer-training momenta and second moments are, for each group of leaves, `[decays,
    elements]`, and factors, for each group, those of each of its leaves.
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
    timescales: tuple[float, ...] = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 300_000.0)
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


PRESETS: dict[str, AdafactorMLPSettings] = {
    "metz2022": AdafactorMLPSettings(
        hidden_sizes=(4, 4),
        timescales=(1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 30_000.0, 100_000.0),
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

    An argument that is left out comes from the preset, or without a preset from `AdafactorMLPSettings`.

    Args:
      hidden_sizes: widths of the ReLU layers; one layer is the fastest.
      momentum_decays: in [0, 1), of the running averages of the gradient.
      second_moment_decays: in [0, 1), of the squared gradient, one value a parameter; `()` saves that memory.
      factored_decays: in [0, 1), of the squared gradient's means over rows and over columns.
      timescales: in updates, positive; `()` takes the time inputs away.
      features: names in `learned_opt.per_parameter.adafactor_features.FEATURE_KINDS`, in the order of the first layer's
        rows.
      step_multiplier: of the direction.
      exp_multiplier: of the magnitude, inside the exponential.
      output_init_scale: of the last layer's fresh weights.
      rms_normalized: divide the direction by its root mean square over the tensor.
      preset: `"metz2022"`, the paper: 39 inputs, two hidden layers of 4, 190 weights (its seven decays, which the paper
        learns too, are held); None, 11 inputs without a scale of their own, which one hidden layer takes in one loop.

    Returns:
      The optimizer; its theta is `{"layer_i": {"weights": [inputs, outputs], "bias": [outputs]}}`.

    Raises:
      ValueError: for an argument out of its range or an unknown preset or feature.
    """
    settings = resolve(
        AdafactorMLPSettings(),
        PRESETS,
        preset,
        hidden_sizes=hidden_sizes,
        momentum_decays=momentum_decays,
        second_moment_decays=second_moment_decays,
        factored_decays=factored_decays,
        timescales=timescales,
        features=features,
        step_multiplier=step_multiplier,
        exp_multiplier=exp_multiplier,
        output_init_scale=output_init_scale,
        rms_normalized=rms_normalized,
    )
    inputs.check_features(settings.features, settings.decays)
    num_features = len(inputs.normalized_rows(settings.features, settings.decays))
    return LearnedOptimizer(
        init=lambda key: init_theta(settings, num_features, key),
        optimizer=lambda theta: _transformation(settings, theta),
        packed=lambda theta: _packed(settings, theta),
    )


def _transformation(settings: AdafactorMLPSettings, theta: Theta) -> optax.GradientTransformationExtraArgs:
    """What users get: averages mirror the parameters."""
    counts = Decays(*map(len, settings.decays))

    def init(params: Any) -> AdafactorMLPState:
        full = (zero_averages(params, number) for number in (counts.momenta, counts.second_moments))
        factors = (zero_averages(params, counts.factored, shape_of) for shape_of in _FACTOR_SHAPES)
        return AdafactorMLPState(jnp.zeros((), jnp.int32), *full, Factors(*factors))

    def update(updates: Any, state: AdafactorMLPState, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        del extra  # Optax passes every extra argument to every transformation.
        which = trained("adafactor_mlp", updates, params)
        _check_state(state, updates, counts)
        step, averages = _update_mirrored(settings, theta, state, which)
        trees = (state.momenta, state.second_moments, *state.factors)
        momenta, seconds, *factors = (with_leaves(which, *each) for each in zip(averages, trees, strict=True))
        new_state = AdafactorMLPState(optax.safe_increment(state.count), momenta, seconds, Factors(*factors))
        return with_leaves(which, step), new_state

    return optax.GradientTransformationExtraArgs(init, update)


_FACTOR_SHAPES = (
    lambda leaf: inputs.matrix_shape(jnp.shape(leaf))[:2],
    lambda leaf: inputs.matrix_shape(jnp.shape(leaf))[::2],
)
"""Of a leaf's row and column averages."""


def _check_state(state: AdafactorMLPState, updates: Any, counts: Decays) -> None:
    """Raises `ValueError` for a state of another tree."""
    check_averages("adafactor_mlp", "momenta", state.momenta, updates, counts.momenta)
    check_averages("adafactor_mlp", "second_moments", state.second_moments, updates, counts.second_moments)
    for name, tree, shape_of in zip(Factors._fields, state.factors, _FACTOR_SHAPES, strict=True):
        wanted = jax.tree.map(lambda g, shape_of=shape_of: jax.ShapeDtypeStruct(shape_of(g), jnp.float32), updates)
        check_averages("adafactor_mlp", f"factors.{name}", tree, wanted, counts.factored)


def _update_mirrored(
    settings: AdafactorMLPSettings, theta: Theta, state: AdafactorMLPState, which: Trained
) -> tuple[list[Array], list[list[Array]]]:
    """The updates of the trained leaves, and their momenta, second moments, row and column averages one step on."""
    momenta, seconds = (averages_of(which, tree) for tree in state[1:3])
    factors = [Factors(*each) for each in zip(*(averages_of(which, tree) for tree in state.factors), strict=True)]
    matrices = [inputs.as_matrices(jnp.asarray(x)) for x in which.params]
    out, gradients = list(matrices), {}
    for group in group_leaves(matrices):
        rule = _rule(settings, theta, state.count, group)
        for i in group.leaves:
            g = bounded_gradient(jnp.asarray(which.gradients[i], rule.dtype))
            momenta[i], seconds[i] = _accumulate(settings.decays, g, momenta[i], seconds[i])
            gradients[i] = inputs.as_matrices(g)
            factors[i] = inputs.accumulate(factors[i], gradients[i], settings.decays.factored)
        full = ([jax.vmap(inputs.as_matrices)(leaves[i]) for i in group.leaves] for leaves in (momenta, seconds))
        packed = (*map(joined_averages, full), tuple(factors[i] for i in group.leaves))
        place(out, unpack(update_group(rule, group, gradients, matrices, packed), group, matrices))
        for leaves in (momenta, seconds, factors):
            place(leaves, {i: _cast(leaves[i], group.dtype) for i in group.leaves})
    step = [inputs.from_matrices(x, jnp.shape(leaf)) for x, leaf in zip(out, which.params, strict=True)]
    return step, [momenta, seconds, [each.rows for each in factors], [each.columns for each in factors]]


def _accumulate(decays: Decays, g: Array, momenta: Array, seconds: Array) -> tuple[Array, Array]:
    """The averages `[decays, *shape]`, one step on with `g` `[*shape]`, in its type."""
    return running_averages(momenta, g, decays.momenta), running_averages(seconds, g * g, decays.second_moments)


def _cast(tree: Any, dtype: DTypeLike) -> Any:
    return jax.tree.map(lambda x: x.astype(dtype), tree)


def _packed(settings: AdafactorMLPSettings, theta: Theta) -> optax.GradientTransformationExtraArgs:
    """What outer-training uses: averages stay packed from step to step."""

    def init(params: Any) -> AdafactorMLPState:
        shapes = [inputs.matrix_shape(jnp.shape(leaf)) for leaf in jax.tree.leaves(params)]
        groups = group_leaves(jax.tree.leaves(params))
        momenta, second_moments, factored = (len(decays) for decays in settings.decays)
        return AdafactorMLPState(
            count=jnp.zeros((), jnp.int32),
            momenta=tuple(jnp.zeros((momenta, g.size), g.dtype) for g in groups),
            second_moments=tuple(jnp.zeros((second_moments, g.size), g.dtype) for g in groups),
            factors=tuple(tuple(_zero_factors(factored, shapes[i], g.dtype) for i in g.leaves) for g in groups),
        )

    def update(updates: Any, state: AdafactorMLPState, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        del extra
        which = trained("adafactor_mlp", updates, params)
        gradients, matrices = ([inputs.as_matrices(jnp.asarray(x)) for x in each] for each in which[:2])
        out, averages = list(matrices), []
        for group, *old in zip(group_leaves(matrices), *state[1:], strict=True):
            rule = _rule(settings, theta, state.count, group)
            bounded = {i: bounded_gradient(gradients[i].astype(rule.dtype)) for i in group.leaves}
            full = _accumulate(settings.decays, pack(bounded, group, rule.dtype), *old[:2])
            each = zip(old[2], bounded.values(), strict=True)
            of_group = tuple(inputs.accumulate(factors, g, settings.decays.factored) for factors, g in each)
            place(out, unpack(update_group(rule, group, bounded, matrices, (*full, of_group)), group, matrices))
            averages.append(_cast((*full, of_group), group.dtype))
        step = [inputs.from_matrices(x, jnp.shape(leaf)) for x, leaf in zip(out, which.params, strict=True)]
        columns = zip(*averages, strict=True) if averages else ((), (), ())
        return with_leaves(which, step), AdafactorMLPState(optax.safe_increment(state.count), *map(tuple, columns))

    return optax.GradientTransformationExtraArgs(init, update)


def _zero_factors(num_decays: int, shape: tuple[int, int, int], dtype: DTypeLike) -> Factors:
    batch, rows, columns = shape
    return Factors(jnp.zeros((num_decays, batch, rows), dtype), jnp.zeros((num_decays, batch, columns), dtype))


def _rule(settings: AdafactorMLPSettings, theta: Theta, count: Array, group: Group) -> Rule:
    """The update of this step, as functions of any number of parameters side by side."""
    dtype = computing_dtype(group, theta)
    corrections = inputs.debias_factors(settings.decays, (count + 1).astype(dtype))
    is_normalized = inputs.normalized_rows(settings.features, settings.decays)
    weights, biases = layers_at(settings, len(is_normalized), theta, count, dtype)
    decays = settings.decays

    def is_moving_row(a: inputs.Averages) -> Array:
        # The factored averages see a whole row or column; they remember a parameter that has no memory of its own.
        own = (a.second_moments, decays.second_moments) if decays.second_moments else (a.factored, decays.factored)
        return is_moving(a.gradient, a.momenta, own[0], decays.momenta, own[1])

    return Rule(
        decays=decays,
        rows=lambda averages: inputs.feature_rows(settings.features, averages, corrections),
        is_moving=is_moving_row,
        is_normalized=is_normalized,
        outputs=lambda rows: mlp_rows(weights, biases, rows),
        step=lambda d, m: -settings.step_multiplier * d * jnp.exp(settings.exp_multiplier * m),
        rms_normalized=settings.rms_normalized,
        dtype=dtype,
    )
