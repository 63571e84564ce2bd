"""Fresh outer parameters of the MLP optimizer that make Adam's steps, at a rate of tensor and time.

    step = -rate * (adam's direction + weight_decay * w / rms(w))
    rate = learning_rate * prod_j rms(x_j)^exponent_j
        * prod_s exp(time_exponent_s * tanh(t / s - 1))

with x_j the rows behind the `log_*` inputs. Adam works on every task once its rate fits;
outer-training that starts from there learns when to depart from it.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learned_opt.base import Theta
from learned_opt.per_parameter.features import LOG_RMS, num_rows, rows_over_tensor
from learned_opt.per_parameter.theta import with_linear_outputs
from learned_opt.ranges import LARGEST, SMALLEST, as_number

Settings = Any
"""`learned_opt.per_parameter._mlp.MLPSettings`."""


@dataclasses.dataclass(frozen=True)
class AdamStart:
    """How fresh theta makes Adam's steps; b1 is the momentum decay nearest 0.9.

    Needs the feature `adam_momentum` and two units a hidden layer, four where the rate is not
    constant.

    Attributes:
      learning_rate: of Adam.
      exponents: one for each input of the `log_*` features, in their order: the rate is
        `learning_rate` times the root mean square behind each, to that power. All zero if left out.
      time_exponents: one for each timescale s: the rate is also multiplied by
        `exp(e tanh(t / s - 1))`.
      weight_decay: this times the input `parameter`, w / rms(w), is added to Adam's direction.

    Raises:
      ValueError: for what is no finite number, or a rate that is not positive, in float32 too.
    """

    learning_rate: float
    exponents: tuple[float, ...] = ()
    time_exponents: tuple[float, ...] = ()
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        for name in ("learning_rate", "weight_decay"):
            object.__setattr__(self, name, _finite(name, getattr(self, name)))
        for name in ("exponents", "time_exponents"):
            values = getattr(self, name)
            if not isinstance(values, Sequence) or isinstance(values, str):
                raise ValueError(
                    f"start.{name}: got {values!r:.80}, allowed are sequences of finite numbers"
                )
            object.__setattr__(self, name, tuple(_finite(name, value) for value in values))
        if not SMALLEST <= self.learning_rate <= LARGEST:
            raise ValueError(
                f"start.learning_rate: got {self.learning_rate}, allowed are positive numbers, "
                f"from {SMALLEST:g} to {LARGEST:g}"
            )


def _finite(name: str, value: Any) -> float:
    number = as_number(value)
    if number is None or not abs(number) <= LARGEST:
        raise ValueError(
            f"start.{name}: got {value!r:.80}, allowed are finite numbers, of at most {LARGEST:g}"
        )
    return number


def as_adam_start(start: AdamStart | Mapping[str, Any] | None) -> AdamStart | None:
    """A start as it is, or made of a dict of its fields.

    Raises:
      ValueError: for another type, a field that does not exist, or one out of its range.
    """
    if start is None or isinstance(start, AdamStart):
        return start
    names = [field.name for field in dataclasses.fields(AdamStart)]
    if not isinstance(start, Mapping):
        raise ValueError(
            f"start: got {start!r:.80}, allowed are None, an AdamStart and a dict of its fields"
        )
    if unknown := [name for name in start if name not in names]:
        raise ValueError(f"start: got a field {unknown[0]!r:.80}, allowed are {', '.join(names)}")
    return AdamStart(**{"learning_rate": None} | dict(start))


def check_start(settings: Settings) -> None:
    """Raises `ValueError` for a start that no fresh theta of these settings can follow."""
    if (start := settings.start) is None:
        return
    asked = {"exponents": len(log_rows(settings)), "time_exponents": len(settings.timescales)}
    given = {name: getattr(start, name) for name in asked if getattr(start, name)}
    for name, values in given.items():
        if len(values) != asked[name]:
            raise ValueError(
                f"start.{name}: got {values}, allowed are {asked[name]} finite numbers with these "
                "inputs"
            )
    if start.weight_decay and "parameter" not in settings.features:
        raise ValueError(
            f"start.weight_decay: got {start.weight_decay}, needs the feature 'parameter'"
        )
    if (
        "adam_momentum" not in settings.features
        or not settings.momentum_decays
        or settings.step_multiplier == 0
    ):
        raise ValueError(
            "start: needs the feature 'adam_momentum', a momentum decay, a step_multiplier"
        )
    if given and settings.exp_multiplier == 0:
        raise ValueError(f"start.{next(iter(given))}: needs an exp_multiplier other than 0")
    needed = 4 if given else 2
    if not settings.hidden_sizes or min(settings.hidden_sizes) < needed:
        raise ValueError(
            f"start: needs hidden_sizes of at least {needed}, got {settings.hidden_sizes}"
        )
    direction, magnitude = _coefficients(settings)
    smallest = np.finfo(np.float32).tiny
    if not (np.all(np.isfinite([direction, magnitude])) and np.max(np.abs(direction)) >= smallest):
        raise ValueError(
            "start: learning_rate over step_multiplier and exponents over exp_multiplier are the "
            "weights of a fresh theta, and these are more or less than a float32 holds"
        )


def started(settings: Settings, theta: Theta) -> Theta:
    """Fresh theta with two or four units of each hidden layer given to the start;
    as it is without one.
    """
    if settings.start is None:
        return theta
    return with_linear_outputs(theta, *_coefficients(settings))


@np.errstate(over="ignore", invalid="ignore")
def _coefficients(settings: Settings) -> tuple[NDArray, NDArray]:
    """Of the inputs in direction and magnitude, `[inputs]` each; not finite where float32 ends."""
    start, num_features = settings.start, settings.num_features
    direction, magnitude = np.zeros((2, num_features + len(settings.timescales)), np.float32)
    direction[first_row(settings, "adam_momentum") + _nearest_momentum(settings)] = 1.0
    if start.weight_decay:
        direction[first_row(settings, "parameter")] = start.weight_decay
    direction *= start.learning_rate / settings.step_multiplier
    if start.exponents:
        # Of decimal logarithms.
        magnitude[log_rows(settings)] = math.log(10.0) * np.asarray(start.exponents)
    if start.time_exponents:
        magnitude[num_features:] = start.time_exponents
    return direction, magnitude / (settings.exp_multiplier or 1.0)


def first_row(settings: Settings, feature: str) -> int:
    """The first input of a feature, which must be among the settings'."""
    return num_rows(settings.features[: settings.features.index(feature)], settings.decays)


def _nearest_momentum(settings: Settings) -> int:
    """The momentum whose decay is nearest Adam's b1, 0.9."""
    return min(
        range(len(settings.momentum_decays)), key=lambda i: abs(settings.momentum_decays[i] - 0.9)
    )


def log_rows(settings: Settings) -> list[int]:
    """The inputs of the features that are logarithms."""
    rows = rows_over_tensor(settings.features, settings.decays)
    return [i for i, over in enumerate(rows) if over is LOG_RMS]
