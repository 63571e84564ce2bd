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
from functools import partial
from typing import NamedTuple

from learned_opt.base import LearnedOptimizer
from learned_opt.per_parameter.features import FEATURE_KINDS, LOG_RMS, check_features, num_rows
from learned_opt.per_parameter.layouts import mirrored, packed
from learned_opt.per_parameter.theta import init_theta, settings_over_preset
from learned_opt.trees.averages import Decays

FEATURES = tuple(name for name, kind in FEATURE_KINDS.items() if kind.over_tensor is not LOG_RMS)
"""Inputs that `adafactor_mlp` can give."""


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
    def kept(self) -> Decays:
        """Of the running averages that the state keeps: all."""
        return self.decays

    @property
    def input_bound(self) -> float | None:
        """Inputs are seen as they are."""
        return None

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
        optimizer=partial(mirrored, "adafactor_mlp", settings),
        packed=lambda theta: packed("adafactor_mlp", settings, theta),
    )
