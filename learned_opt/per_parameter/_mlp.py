"""The per-parameter MLP optimizer (Metz et al. 2019, arXiv 1810.10180, appendix A).

A small MLP sees, for each parameter, its gradient, running averages of it, and the time, and gives a direction d and a
magnitude m. The same weights serve all parameters:

    step = step_multiplier * d * exp(exp_multiplier * m),    w <- w - step
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import DTypeLike

from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.per_parameter import adam_start
from learned_opt.per_parameter.blocks import UpdateRule, apply_rule, running_averages, split_rows, tangent_once
from learned_opt.per_parameter.features import Averages, check_features, debias, feature_rows, rows_over_tensor
from learned_opt.per_parameter.kernel import is_summed, matmul_rows, mlp_rows
from learned_opt.per_parameter.rest import is_moving
from learned_opt.per_parameter.theta import init_theta, layers_at, resolve
from learned_opt.ranges import bounded_gradient
from learned_opt.trees.mirrored import Trained, averages_of, check_averages, trained, with_leaves, zero_averages
from learned_opt.trees.packing import Group, computing_dtype, group_leaves, joined_averages, pack, place, unpack


class MLPState(NamedTuple):
    """State of the optimizer.

    Attributes:
      count: int32 scalar, updates made so far.
      momenta: running averages of the gradient: the parameters' tree, leaves `[momentum decays, *shape]`.
      second_moments: of the squared gradient: the parameters' tree, leaves `[second-moment decays, *shape]`.

    In the packed layout of outer-training the averages are, for each group of leaves, `[decays, elements]`.
    """

    count: Array
    momenta: Any
    second_moments: Any


class MLPSettings(NamedTuple):
    """Resolved arguments of `mlp`."""

    hidden_sizes: tuple[int, ...] = (32,)
    momentum_decays: tuple[float, ...] = (0.5, 0.9, 0.99, 0.999, 0.9999)
    second_moment_decays: tuple[float, ...] = (0.999,)
    timescales: tuple[float, ...] = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 300_000.0)
    features: tuple[str, ...] = ("parameter", "adam_gradient", "adam_momentum")
    step_multiplier: float = 1e-3
    exp_multiplier: float = 1e-3
    output_init_scale: float = 0.1
    adam_learning_rate: float | None = None
    adam_exponents: tuple[float, ...] = ()
    adam_time_exponents: tuple[float, ...] = ()
    adam_weight_decay: float = 0.0
    input_bound: float | None = None
    live_second_moments: bool = True


_METZ_2019 = MLPSettings(
    second_moment_decays=(0.5, 0.9, 0.99, 0.999, 0.9999),
    features=("gradient", "momentum_over_rms", "parameter", "momentum", "second_moment", "inverse_rms"),
)
PRESETS: dict[str, MLPSettings] = {
    "metz2019": _METZ_2019,
    "metz2019_released": _METZ_2019._replace(live_second_moments=False),
}


def mlp(
    hidden_sizes: Sequence[int] | None = None,
    momentum_decays: Sequence[float] | None = None,
    second_moment_decays: Sequence[float] | None = None,
    timescales: Sequence[float] | None = None,
    *,
    features: Sequence[str] | None = None,
    step_multiplier: float | None = None,
    exp_multiplier: float | None = None,
    output_init_scale: float | None = None,
    adam_learning_rate: float | None = None,
    adam_exponents: Sequence[float] | None = None,
    adam_time_exponents: Sequence[float] | None = None,
    adam_weight_decay: float | None = None,
    input_bound: float | None = None,
    live_second_moments: bool | None = None,
    preset: str | None = None,
) -> LearnedOptimizer:
    """The per-parameter MLP optimizer.

    An argument that is left out comes from the preset, or without a preset from `MLPSettings`.

    Args:
      hidden_sizes: widths of the ReLU layers; `()` is a linear optimizer, one layer is the fastest.
      momentum_decays: in [0, 1), of the running averages of the gradient; `()` takes the momentum inputs away.
      second_moment_decays: in [0, 1), of the squared gradient.
      timescales: in updates, positive; `()` takes the time inputs away.
      features: names in `learned_opt.per_parameter.features.FEATURE_KINDS`, in the order of the first layer's rows.
      step_multiplier: of the direction.
      exp_multiplier: of the magnitude, inside the exponential.
      output_init_scale: of the last layer's fresh weights; small, so that an untrained optimizer does little.
      adam_learning_rate: fresh theta makes Adam's steps at this rate (its b1 the momentum decay nearest 0.9) beside the
        little that the random weights do, so that outer-training starts from an optimizer that works on every task.
        Needs the feature `adam_momentum` and two units a hidden layer.
      adam_exponents: one for each input of the `log_*` features, in their order: the fresh rate is `adam_learning_rate`
        times the root mean square behind each, to that power. All zero if left out; else four units a hidden layer.
      adam_time_exponents: one for each timescale s: the fresh rate is also multiplied by `exp(e tanh(t / s - 1))`.
      adam_weight_decay: the fresh step has this times the input `parameter`, w / rms(w), added to Adam's direction.
      input_bound: the MLP sees every input within plus and minus this; a gradient out of the blue is 30 in Adam's
        units, and the step's magnitude is exponential in the inputs. None leaves them as they are.
      live_second_moments: False holds the second moments at zero and keeps no state for them.
      preset: `"metz2019"`, the paper: 31 inputs, 1,090 weights; `"metz2019_released"`, the paper's public code, whose
        second moments are zero; None, a cheaper default with Adam-like inputs.

    Returns:
      The optimizer; its theta is `{"layer_i": {"weights": [inputs, outputs], "bias": [outputs]}}`.

    Raises:
      ValueError: for an argument out of its range or an unknown preset or feature.

    Example:
      >>> optimizer = mlp()
      >>> theta = optimizer.init(jax.random.key(0))
      >>> opt = optimizer.optimizer(theta)
      >>> params = {"w": jnp.ones(3)}
      >>> updates, opt_state = opt.update({"w": jnp.ones(3)}, opt.init(params), params)
    """
    settings = resolve(
        MLPSettings(),
        PRESETS,
        preset,
        hidden_sizes=hidden_sizes,
        momentum_decays=momentum_decays,
        second_moment_decays=second_moment_decays,
        timescales=timescales,
        features=features,
        step_multiplier=step_multiplier,
        exp_multiplier=exp_multiplier,
        output_init_scale=output_init_scale,
        adam_learning_rate=adam_learning_rate,
        adam_exponents=adam_exponents,
        adam_time_exponents=adam_time_exponents,
        adam_weight_decay=adam_weight_decay,
        input_bound=input_bound,
        live_second_moments=live_second_moments,
    )
    check_features(settings.features, len(settings.momentum_decays), len(settings.second_moment_decays))
    adam_start.check(settings)
    if settings.input_bound is not None and not settings.input_bound > 0.0:
        raise ValueError(f"input_bound: got {settings.input_bound}, allowed are positive numbers")
    if adam_start.count_rows(settings) == 0:
        raise ValueError(f"features: got {settings.features}, which give no input; at least one is needed")
    return LearnedOptimizer(
        init=lambda key: adam_start.started(settings, init_theta(settings, adam_start.count_rows(settings), key)),
        optimizer=lambda theta: _transformation(settings, theta),
        packed=lambda theta: _packed(settings, theta),
    )


def _transformation(settings: MLPSettings, theta: Theta) -> optax.GradientTransformationExtraArgs:
    """What users get: averages mirror the parameters."""
    num_momenta, num_seconds = _num_averages(settings)

    def init(params: Any) -> MLPState:
        averages = (zero_averages(params, number) for number in (num_momenta, num_seconds))
        return MLPState(jnp.zeros((), jnp.int32), *averages)

    def update(updates: Any, state: MLPState, params: Any = None, **extra: Any) -> tuple[Any, MLPState]:
        del extra  # Optax passes every extra argument to every transformation.
        which = trained("mlp", updates, params)
        check_averages("mlp", "momenta", state.momenta, updates, num_momenta)
        check_averages("mlp", "second_moments", state.second_moments, updates, num_seconds)
        momenta, seconds = (averages_of(which, tree) for tree in (state.momenta, state.second_moments))
        out, gradients = list(which.params), {}
        for group in group_leaves(which.params):
            dtype = computing_dtype(group, theta)
            for i in group.leaves:
                gradients[i] = bounded_gradient(jnp.asarray(which.gradients[i], dtype))
                momenta[i], seconds[i] = _accumulate(settings, gradients[i], momenta[i], seconds[i])
            g = pack(gradients, group, dtype)
            packed = (joined_averages([leaves[i] for i in group.leaves]) for leaves in (momenta, seconds))
            place(out, unpack(_step(settings, theta, state.count, group, which, g, *packed), group, out))
            for leaves in (momenta, seconds):
                place(leaves, {i: leaves[i].astype(group.dtype) for i in group.leaves})
        averages = (with_leaves(which, *each) for each in ((momenta, state.momenta), (seconds, state.second_moments)))
        return with_leaves(which, out), MLPState(optax.safe_increment(state.count), *averages)

    return optax.GradientTransformationExtraArgs(init, update)


def _packed(settings: MLPSettings, theta: Theta) -> optax.GradientTransformationExtraArgs:
    """What outer-training uses: averages stay packed from step to step."""

    def init(params: Any) -> MLPState:
        groups = group_leaves(jax.tree.leaves(params))
        zeros = (tuple(jnp.zeros((number, g.size), g.dtype) for g in groups) for number in _num_averages(settings))
        return MLPState(jnp.zeros((), jnp.int32), *zeros)

    def update(updates: Any, state: MLPState, params: Any = None, **extra: Any) -> tuple[Any, MLPState]:
        del extra
        which = trained("mlp", updates, params)
        out, momenta, seconds = list(which.params), [], []
        for group, *packed in zip(group_leaves(which.params), state.momenta, state.second_moments, strict=True):
            g = bounded_gradient(pack(which.gradients, group, computing_dtype(group, theta)))
            g = tangent_once(g) if len(group.sizes) > 1 else g
            packed = _accumulate(settings, g, *packed)
            place(out, unpack(_step(settings, theta, state.count, group, which, g, *packed), group, out))
            momenta.append(packed[0].astype(group.dtype))
            seconds.append(packed[1].astype(group.dtype))
        return with_leaves(which, out), MLPState(optax.safe_increment(state.count), tuple(momenta), tuple(seconds))

    return optax.GradientTransformationExtraArgs(init, update)


def _num_averages(settings: MLPSettings) -> tuple[int, int]:
    """How many momenta and second moments the state keeps."""
    return len(settings.momentum_decays), len(settings.second_moment_decays) if settings.live_second_moments else 0


def _accumulate(settings: MLPSettings, g: Array, momenta: Array, seconds: Array) -> tuple[Array, Array]:
    """Both kinds of averages `[decays, *shape]`, one step on with `g` `[*shape]`, in its type."""
    momenta = running_averages(momenta, g, settings.momentum_decays)
    if not settings.live_second_moments:
        return momenta, seconds.astype(g.dtype)
    return momenta, running_averages(seconds, g * g, settings.second_moment_decays)


def _step(
    settings: MLPSettings,
    theta: Theta,
    count: Array,
    group: Group,
    which: Trained,
    g: Array,
    momenta: Array,
    seconds: Array,
) -> Array:
    """The update `[n]` of one group, whose averages know the gradient `g` already."""
    w = pack(which.params, group, g.dtype)
    return apply_rule(_update_rule(settings, theta, count, g.dtype), g, w, momenta, seconds, group.sizes)


def _update_rule(settings: MLPSettings, theta: Theta, count: Array, dtype: DTypeLike) -> UpdateRule:
    """The update of this step, as functions of any number of parameters side by side."""
    num_updates = (count + 1).astype(dtype)
    momentum_debias = [debias(decay, num_updates) for decay in settings.momentum_decays]
    second_moment_debias = [debias(decay, num_updates) for decay in settings.second_moment_decays]
    weights, biases = layers_at(settings, adam_start.count_rows(settings), theta, count, dtype)

    def rows(g: Array, w: Array, momentum: Array, second: Array) -> list[Array]:
        held = [jnp.zeros_like(g)] * len(settings.second_moment_decays)
        seconds = split_rows(second) if settings.live_second_moments else held
        averages = Averages(g, w, split_rows(momentum), seconds, momentum_debias, second_moment_debias)
        kept = seconds if settings.live_second_moments else []
        moving = is_moving(g, averages.momenta, kept, settings.momentum_decays, settings.second_moment_decays)
        return [*feature_rows(settings.features, averages), moving]

    def step(layers: tuple[list[Array], list[Array]], rows: list[Array]) -> Array:
        *inputs, moving = rows
        if settings.input_bound is not None:
            inputs = [jnp.clip(row, -settings.input_bound, settings.input_bound) for row in inputs]
        direction, magnitude = (mlp_rows if is_one_loop else matmul_rows)(*layers, inputs)
        update = -settings.step_multiplier * direction * jnp.exp(settings.exp_multiplier * magnitude)
        return jnp.where(moving, update, jnp.zeros_like(update))

    over_tensor = rows_over_tensor(settings.features, len(momentum_debias), len(second_moment_debias))
    is_one_loop = is_summed(len(weights), len(over_tensor))
    weights = weights if is_one_loop else [weight.T for weight in weights]
    return UpdateRule(rows, [*over_tensor, None], step, (weights, biases), is_one_loop)
