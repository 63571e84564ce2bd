"""What the per-parameter MLP optimizers have in common:
arguments over presets, their ranges, theta and its layers.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike
from numpy.typing import NDArray

from learned_opt import ranges
from learned_opt.base import Theta
from learned_opt.per_parameter.features import time_features

Settings = TypeVar("Settings", bound=NamedTuple)
MAX_WIDTH = 2**31 - 1
"""Of a hidden layer: more than fits anywhere."""


def settings_over_preset(
    defaults: Settings, presets: Mapping[str, Settings], given: Mapping[str, Any]
) -> Settings:
    """The settings of the preset, or the defaults,
    with those arguments that are not None in their place.

    Args:
      defaults: of the optimizer.
      presets: name -> settings.
      given: arguments by name; `preset` is the preset's.

    Raises:
      ValueError: for an unknown preset, a decay outside [0, 1), a width below 1, a timescale that
        is not positive, or a multiplier that is not finite; in float32 too.
    """
    if (preset := given.get("preset")) is not None and preset not in presets:
        raise ValueError(
            f"preset: got {preset!r}, allowed are None, {', '.join(map(repr, presets))}"
        )
    own = {name: value for name, value in given.items() if name != "preset" and value is not None}
    hashable = {name: as_setting(value) for name, value in own.items()}
    settings = presets.get(preset, defaults)._replace(**hashable)
    _check_ranges(settings)
    return settings


def _check_ranges(settings: Settings) -> None:
    decays = [field for field in settings._fields if field.endswith("_decays")]
    for name in ("features", "hidden_sizes", "timescales", *decays):
        check_sequence(name, getattr(settings, name))
    for name in decays:
        for decay in getattr(settings, name):
            ranges.require_decay(name, decay)
    for size in settings.hidden_sizes:
        ranges.require_count("hidden_sizes", size, 1, MAX_WIDTH)
    for scale in settings.timescales:
        ranges.require_positive("timescales", scale)
    for name in ("step_multiplier", "exp_multiplier", "output_init_scale"):
        ranges.require_finite(name, getattr(settings, name))


def as_setting(value: Any) -> Any:
    """A sequence of numbers or names as a tuple; anything else as it is."""
    is_sequence = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    is_vector = isinstance(value, np.ndarray | Array) and value.ndim
    return tuple(value) if is_sequence or is_vector else value


def check_sequence(name: str, values: Any) -> None:
    """Raises `ValueError` for what `as_setting` makes no tuple of."""
    if not isinstance(values, tuple):
        raise ValueError(f"{name} must be a sequence, got {values!r:.80}")


def init_theta(settings: Settings, num_features: int, key: Array) -> Theta:
    """He-normal weights, zero biases, the last layer scaled down.

    The inputs are the features, then the times.
    """
    sizes = (num_features + len(settings.timescales), *settings.hidden_sizes, 2)
    keys = jax.random.split(key, len(sizes) - 1)
    theta = {}
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        scale = settings.output_init_scale if layer == len(sizes) - 2 else 1.0
        weights = jax.random.normal(keys[layer], (fan_in, fan_out), jnp.float32) * (
            scale * math.sqrt(2.0 / fan_in)
        )
        theta[f"layer_{layer}"] = {"weights": weights, "bias": jnp.zeros(fan_out, weights.dtype)}
    return theta


def with_linear_outputs(theta: Theta, direction: NDArray, magnitude: NDArray) -> Theta:
    """Theta whose outputs are linear in the inputs, beside what its other units do.

    A ReLU passes a number through as max(x, 0) - max(-x, 0): two units of every hidden layer for
    each output that is wanted do that. One of all zeros takes no units. The coefficients are the
    first layer's weights: what outer-training adds there to the weights of inputs that are the same
    for all parameters would else soon outweigh the gradient, and drive every parameter the same
    way.

    Args:
      theta: of `init_theta`, with hidden layers of at least two units, or four for both outputs.
      direction: `[inputs]`, its coefficients.
      magnitude: `[inputs]`.
    """
    unit = 0
    for output, coefficients in enumerate((direction, magnitude)):
        if np.any(coefficients):
            theta = _through(theta, output, slice(unit, unit + 2), coefficients)
            unit += 2
    return theta


def _through(theta: Theta, output: int, units: slice, coefficients: NDArray) -> Theta:
    last = len(theta) - 1
    pair = np.asarray([1.0, -1.0], np.float32)
    through = {}
    for i in range(last + 1):
        layer = theta[f"layer_{i}"]
        weights = layer["weights"]
        if i == 0:
            weights = weights.at[:, units].set(coefficients[:, None] * pair)
        elif i < last:
            weights = (
                weights.at[:, units].set(0.0).at[units, units].set(jnp.eye(2, dtype=weights.dtype))
            )
        else:
            weights = weights.at[units].set(0.0).at[units, output].set(pair)
        through[f"layer_{i}"] = {**layer, "weights": weights}
    return through


def with_hidden_units_of(theta: Theta, wider: Theta) -> Theta:
    """Theta with the further hidden units of `wider` beside its own,
    which give nothing to its units and outputs.

    Args:
      theta: of `init_theta`.
      wider: of as many layers, inputs and outputs, with hidden layers at least as wide.

    Raises:
      ValueError: for one that is not.
    """
    sizes, wanted = ([layer["weights"].shape for layer in each.values()] for each in (theta, wider))
    same_ends = (sizes[0][0], sizes[-1][1], theta.keys()) == (
        wanted[0][0],
        wanted[-1][1],
        wider.keys(),
    )
    if not same_ends or np.any(np.asarray(sizes) > np.asarray(wanted)):
        raise ValueError(f"theta: got weights of shapes {sizes}, allowed are those within {wanted}")
    out = {}
    for name, layer in theta.items():
        fan_in, fan_out = layer["weights"].shape
        weights, bias = (np.array(wider[name][part]) for part in ("weights", "bias"))
        weights[fan_in:, :fan_out] = 0.0
        weights[:fan_in, :fan_out], bias[:fan_out] = layer["weights"], layer["bias"]
        out[name] = {"weights": weights, "bias": bias}
    return out


def layers_at(
    settings: Settings, num_features: int, theta: Theta, count: Array, dtype: DTypeLike
) -> tuple[list[Array], list[Array]]:
    """Weights and biases of this update, with the time's share of the first layer in its bias."""
    layers = [theta[f"layer_{i}"] for i in range(len(settings.hidden_sizes) + 1)]
    weights = [layer["weights"].astype(dtype) for layer in layers]
    biases = [layer["bias"].astype(dtype) for layer in layers]
    if settings.timescales:
        # The time is the same for every parameter.
        biases[0] = (
            biases[0] + time_features(count, settings.timescales, dtype) @ weights[0][num_features:]
        )
    weights[0] = weights[0][:num_features]
    return weights, biases
