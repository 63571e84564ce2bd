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

from learned_opt import adafactor_features as inputs
from learned_opt.adafactor_features import Decays, Factors
from learned_opt.adafactor_update import Rule, update_group
from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.mlp_kernel import mlp_rows
from learned_opt.mlp_theta import init_theta, layers_at, resolve
from learned_opt.packing import at_least_float32, group_leaves, unpack


class AdafactorMLPState(NamedTuple):
    """State of the optimizer.

    Attributes:
      count: int32 scalar, updates made so far.
      momenta: for each group of leaves `[momentum decays, elements]`.
      second_moments: for each group `[second-moment decays, elements]`.
      factors: for each group, for each of its leaves, the factored second moments.
    """

    count: Array
    momenta: tuple[Array, ...]
    second_moments: tuple[Array, ...]
    factors: tuple[tuple[Factors, ...], ...]


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
      features: names in `learned_opt.adafactor_features.FEATURE_KINDS`, in the order of the first layer's rows.
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
    )


def _transformation(settings: AdafactorMLPSettings, theta: Theta) -> optax.GradientTransformationExtraArgs:
    def init(params: Any) -> AdafactorMLPState:
        matrices = [inputs.as_matrices(jnp.asarray(leaf)) for leaf in jax.tree.leaves(params)]
        groups = group_leaves(matrices)
        momenta, second_moments, factored = (len(decays) for decays in settings.decays)
        return AdafactorMLPState(
            count=jnp.zeros((), jnp.int32),
            momenta=tuple(jnp.zeros((momenta, g.size), g.dtype) for g in groups),
            second_moments=tuple(jnp.zeros((second_moments, g.size), g.dtype) for g in groups),
            factors=tuple(tuple(_zero_factors(factored, matrices[i].shape, g.dtype) for i in g.leaves) for g in groups),
        )

    def update(updates: Any, state: AdafactorMLPState, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        del extra  # Optax passes every extra argument to every transformation.
        if params is None:
            raise ValueError("a learned optimizer reads the parameters: got None, call update(grads, state, params)")
        leaves, treedef = jax.tree.flatten(params)
        matrices = [inputs.as_matrices(jnp.asarray(leaf)) for leaf in leaves]
        gradients = [inputs.as_matrices(jnp.asarray(g)) for g in treedef.flatten_up_to(updates)]
        out = {i: jnp.zeros_like(leaf) for i, leaf in enumerate(matrices) if leaf.size == 0}
        averages = []
        for group, *old in zip(group_leaves(matrices), *state[1:], strict=True):
            dtype = at_least_float32(group.dtype, *(jnp.result_type(x) for x in jax.tree.leaves(theta)))
            rule = _rule(settings, theta, state.count, dtype)
            update, new = update_group(rule, group, gradients, matrices, *old)
            out.update(unpack(update, group, matrices))
            averages.append(new)
        out = [inputs.from_matrices(out[i], jnp.shape(leaf)) for i, leaf in enumerate(leaves)]
        columns = zip(*averages, strict=True) if averages else ((), (), ())
        state = AdafactorMLPState(optax.safe_increment(state.count), *map(tuple, columns))
        return jax.tree.unflatten(treedef, out), state

    return optax.GradientTransformationExtraArgs(init, update)


def _zero_factors(num_decays: int, shape: tuple[int, int, int], dtype: DTypeLike) -> Factors:
    batch, rows, columns = shape
    return Factors(jnp.zeros((num_decays, batch, rows), dtype), jnp.zeros((num_decays, batch, columns), dtype))


def _rule(settings: AdafactorMLPSettings, theta: Theta, count: Array, dtype: DTypeLike) -> Rule:
    """The update of this step, as functions of any number of parameters side by side."""
    corrections = inputs.debias_factors(settings.decays, (count + 1).astype(dtype))
    is_normalized = inputs.normalized_rows(settings.features, settings.decays)
    weights, biases = layers_at(settings, len(is_normalized), theta, count, dtype)
    return Rule(
        decays=settings.decays,
        rows=lambda averages: inputs.feature_rows(settings.features, averages, corrections),
        is_normalized=is_normalized,
        outputs=lambda rows: mlp_rows(weights, biases, rows),
        step=lambda d, m: -settings.step_multiplier * d * jnp.exp(settings.exp_multiplier * m),
        rms_normalized=settings.rms_normalized,
        dtype=dtype,
    )
