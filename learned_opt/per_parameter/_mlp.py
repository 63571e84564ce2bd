"""The per-parameter MLP optimizer (Metz et al. 2019, arXiv 1810.10180, appendix A).

A small MLP sees, for each parameter, its gradient, running averages of it, and the time, and gives
a direction d and a magnitude m. The same weights serve all parameters:

    step = step_multiplier * d * exp(exp_multiplier * m),    w <- w - step
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from learned_opt.base import LearnedOptimizer
from learned_opt.per_parameter.adam_start import AdamStart, as_adam_start, check_start, started
from learned_opt.per_parameter.features import FEATURE_KINDS, check_features, num_rows
from learned_opt.per_parameter.layouts import mirrored, packed
from learned_opt.per_parameter.theta import init_theta, settings_over_preset
from learned_opt.ranges import SMALLEST, as_number
from learned_opt.trees.averages import Decays

FEATURES = tuple(
    name
    for name, kind in FEATURE_KINDS.items()
    if "factored" not in (kind.row_for_each, kind.pairs_with)
)
"""Inputs that `mlp` can give: all but those of factored moments, which it does not keep."""


class MLPSettings(NamedTuple):
    """Resolved arguments of `mlp`."""

    hidden_sizes: tuple[int, ...] = (32,)
    momentum_decays: tuple[float, ...] = (0.5, 0.9, 0.99, 0.999, 0.9999)
    second_moment_decays: tuple[float, ...] = (0.999,)
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
    features: tuple[str, ...] = ("parameter", "adam_gradient", "adam_momentum")
    step_multiplier: float = 1e-3
    exp_multiplier: float = 1e-3
    output_init_scale: float = 0.1
    start: AdamStart | None = None
    input_bound: float | None = None
    live_second_moments: bool = True

    @property
    def decays(self) -> Decays:
        """Of all running averages that are among the inputs."""
        return Decays(self.momentum_decays, self.second_moment_decays)

    @property
    def kept(self) -> Decays:
        """Of the running averages that the state keeps."""
        return self.decays if self.live_second_moments else self.decays._replace(second_moments=())

    @property
    def rms_normalized(self) -> bool:
        """Steps have the length that the MLP gives them."""
        return False

    @property
    def num_features(self) -> int:
        """Number of the inputs before the times."""
        return num_rows(self.features, self.decays)


_METZ_2019 = MLPSettings(
    second_moment_decays=(0.5, 0.9, 0.99, 0.999, 0.9999),
    features=(
        "gradient",
        "momentum_over_rms",
        "parameter",
        "momentum",
        "second_moment",
        "inverse_rms",
    ),
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
    start: AdamStart | Mapping[str, Any] | None = None,
    input_bound: float | None = None,
    live_second_moments: bool | None = None,
    preset: str | None = None,
) -> LearnedOptimizer:
    """The per-parameter MLP optimizer.

    An argument that is left out comes from the preset, or without a preset from `MLPSettings`.

    Args:
      hidden_sizes: widths of the ReLU layers; `()` is a linear optimizer, one layer is the fastest.
      momentum_decays: in [0, 1), of the running averages of the gradient; `()` takes the momentum
        inputs away.
      second_moment_decays: in [0, 1), of the squared gradient.
      timescales: in updates, positive; `()` takes the time inputs away.
      features: names in `learned_opt.per_parameter.features.FEATURE_KINDS`, but those of factored
        moments; in the order of the first layer's rows.
      step_multiplier: of the direction.
      exp_multiplier: of the magnitude, inside the exponential.
      output_init_scale: of the last layer's fresh weights; small, so that an untrained optimizer
        does little.
      start: fresh theta makes Adam's steps beside the little that the random weights do, so that
        outer-training starts from an optimizer that works on every task; `learned_opt.AdamStart`
        says at which rate. As a dict of its fields, which is what comes back from JSON, it means
        the same. None starts as nothing much.
      input_bound: the MLP sees every input within plus and minus this; a gradient out of the blue
        is 30 in Adam's units, and the step's magnitude is exponential in the inputs. None leaves
        them as they are.
      live_second_moments: False holds the second moments at zero and keeps no state for them.
      preset: `"metz2019"`, the paper: 31 inputs, 1,090 weights; `"metz2019_released"`, the paper's
        public code, whose second moments are zero; None, a cheaper default with Adam-like inputs.

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
    settings = mlp_settings(**locals())  # all arguments
    return LearnedOptimizer(
        init=lambda key: started(settings, init_theta(settings, settings.num_features, key)),
        optimizer=partial(mirrored, "mlp", settings),
        packed=lambda theta: packed("mlp", settings, theta),
    )


def mlp_settings(
    *, start: AdamStart | Mapping[str, Any] | None = None, **given: Any
) -> MLPSettings:
    """Resolved arguments of `mlp`; raises as that does."""
    settings = settings_over_preset(MLPSettings(), PRESETS, given | {"start": as_adam_start(start)})
    check_features(settings.features, FEATURES, settings.decays)
    check_start(settings)
    bound = settings.input_bound
    if bound is not None and not (as_number(bound) or 0.0) >= SMALLEST:
        allowed = f"positive numbers, from {SMALLEST:g}"
        raise ValueError(f"input_bound: got {bound!r:.80}, allowed are {allowed}")
    return settings
