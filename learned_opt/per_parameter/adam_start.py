"""Fresh outer parameters of the MLP optimizer that make Adam's steps, at a rate of tensor and time.

    step = -rate * (adam's direction + decay * w / rms(w))
    rate = learning_rate * prod_j rms(x_j)^exponent_j * prod_s exp(time_exponent_s * tanh(t / s - 1))

with x_j the rows behind the `log_*` inputs. Adam works on every task once its rate fits; outer-training that starts
from there learns when to depart from it.
"""

import math
from typing import Any

import numpy as np

from learned_opt.base import Theta
from learned_opt.per_parameter.features import LOG_RMS, count_features, rows_over_tensor
from learned_opt.per_parameter.theta import with_linear_outputs

Settings = Any
"""`learned_opt.per_parameter._mlp.MLPSettings`."""


def check(settings: Settings) -> None:
    """Raises `ValueError` for arguments that no fresh theta can follow."""
    asked = {"adam_exponents": len(log_rows(settings)), "adam_time_exponents": len(settings.timescales)}
    given = {name: getattr(settings, name) for name in asked if getattr(settings, name)}
    for name, values in given.items():
        if len(values) != asked[name] or not all(map(math.isfinite, values)):
            raise ValueError(f"{name}: got {values}, allowed are {asked[name]} finite numbers with these inputs")
    if settings.adam_learning_rate is None:
        if given or settings.adam_weight_decay:
            raise ValueError(f"{next(iter(given), 'adam_weight_decay')}: needs adam_learning_rate, got None")
        return
    if not math.isfinite(settings.adam_weight_decay) or (
        settings.adam_weight_decay and "parameter" not in settings.features
    ):
        allowed = "allowed are finite numbers with the feature 'parameter'"
        raise ValueError(f"adam_weight_decay: got {settings.adam_weight_decay}, {allowed}")
    if not 0.0 < settings.adam_learning_rate < math.inf:
        raise ValueError(f"adam_learning_rate: got {settings.adam_learning_rate}, allowed are positive numbers")
    if "adam_momentum" not in settings.features or not settings.momentum_decays or settings.step_multiplier == 0:
        raise ValueError("adam_learning_rate: needs the feature 'adam_momentum', a momentum decay, a step_multiplier")
    if given and settings.exp_multiplier == 0:
        raise ValueError(f"{next(iter(given))}: needs an exp_multiplier other than 0")
    needed = 4 if given else 2
    if not settings.hidden_sizes or min(settings.hidden_sizes) < needed:
        raise ValueError(f"adam_learning_rate: needs hidden_sizes of at least {needed}, got {settings.hidden_sizes}")


def started(settings: Settings, theta: Theta) -> Theta:
    """Fresh theta with two or four units of each hidden layer given to the above; as it is without a learning rate."""
    if settings.adam_learning_rate is None:
        return theta
    num_features = count_rows(settings)
    direction, magnitude = np.zeros((2, num_features + len(settings.timescales)), np.float32)
    direction[first_row(settings, "adam_momentum") + _nearest_momentum(settings)] = 1.0
    if settings.adam_weight_decay:
        direction[first_row(settings, "parameter")] = settings.adam_weight_decay
    direction *= settings.adam_learning_rate / settings.step_multiplier
    if settings.adam_exponents:
        magnitude[log_rows(settings)] = math.log(10.0) * np.asarray(settings.adam_exponents)  # of decimal logarithms
    if settings.adam_time_exponents:
        magnitude[num_features:] = settings.adam_time_exponents
    return with_linear_outputs(theta, direction, magnitude / (settings.exp_multiplier or 1.0))


def _counts(settings: Settings) -> tuple[int, int]:
    return len(settings.momentum_decays), len(settings.second_moment_decays)


def first_row(settings: Settings, feature: str) -> int:
    """The first input of a feature, which must be among the settings'."""
    return count_features(settings.features[: settings.features.index(feature)], *_counts(settings))


def _nearest_momentum(settings: Settings) -> int:
    """The momentum whose decay is nearest Adam's b1, 0.9."""
    return min(range(len(settings.momentum_decays)), key=lambda i: abs(settings.momentum_decays[i] - 0.9))


def count_rows(settings: Settings) -> int:
    """Number of the inputs before the times."""
    return count_features(settings.features, *_counts(settings))


def log_rows(settings: Settings) -> list[int]:
    """The inputs of the features that are logarithms."""
    rows = rows_over_tensor(settings.features, *_counts(settings))
    return [i for i, over in enumerate(rows) if over is LOG_RMS]
