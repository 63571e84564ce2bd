"""The last touch to an outer-trained theta: a search over how its step depends on tensor and time.

Starts from the config's `init_theta`, outer-trained from Adam
(`learned_opt.per_parameter.adam_start`), whose first four hidden units still carry most of the
step: two its direction, two the logarithm of its rate. The cross-entropy method
(`learned_opt_lab/searches/cross_entropy.py`) moves the first layer's weights of these: in the
direction those of the inputs that differ between parameters, in the logarithm those of the tensor's
and time's inputs and the bias.

Two hidden units are added, a decay of the weights that opens and closes:

    direction += max(0, c (w / rms(w) + gate)) - max(0, c (gate - w / rms(w)))
    gate = g + sum_j k_j x_j

with x the inputs of tensor and time. Far below zero the gate lets no weight pass, from -1 upwards
the large ones, and well above 1 it takes 2 c w / rms(w) off every weight. How much decay a network
gains from differs by more than ten between those that have fitted all their images and those that
never will; the vanishing gradient tells them apart, though not in the first steps, when the
gradients of an attention's keys and queries vanish too.

Some thirty numbers, on which all that theta has learned in hundreds of others rests; an estimator
of theta's gradient spreads its samples over all.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from numpy.typing import NDArray

from configs import base
from learned_opt import Theta
from learned_opt.per_parameter import MLPSettings, adam_start, mlp_settings
from learned_opt.per_parameter import theta as theta_lib
from learned_opt_lab.runs.optimizer import build_optimizer, initial_theta
from learned_opt_lab.searches.candidates import Candidates, Distribution

DIRECTION, MAGNITUDE, DECAY = slice(0, 2), slice(2, 4), slice(-2, None)
"""The hidden units that a fresh theta which starts as Adam gives to each output,
and those added."""
PAIR = np.asarray([1.0, -1.0], np.float32)


def step_search(config: base.TrainConfig, *, trust: bool = False) -> Candidates:
    """The numbers of `init_theta` that `config.search`, a `StepSearch`, moves.

    Args:
      config: its optimizer is that of `init_theta`.
      trust: run the code that the file `init_theta` names.

    Raises:
      ValueError: as `searched_settings`, or for an `init_theta` of another optimizer.
    """
    settings = searched_settings(config.optimizer)
    own, key = build_optimizer(config.optimizer)[0], jax.random.key(config.seed)
    theta = initial_theta(config.init_theta, own, own.init(key), trust=trust)
    optimizer, name, kwargs = build_optimizer(with_units(config.optimizer))
    theta = theta_lib.with_hidden_units_of(theta, optimizer.init(key))
    return Candidates(
        numbers_at_start(settings, config.search),
        lambda numbers: moved(settings, theta, numbers),
        optimizer,
        lambda numbers: (name, kwargs),
        lambda numbers: {},
    )


def searched_settings(optimizer: base.Optimizer) -> MLPSettings:
    """The optimizer's arguments with its defaults.

    Raises:
      ValueError: for an optimizer that does not start as Adam at a rate of the tensor, or has
        another number of hidden layers than one, or no weights or gradient's logarithm among its
        inputs.
    """
    settings = (
        mlp_settings(**build_optimizer(optimizer)[2])
        if isinstance(optimizer, base.Mlp)
        else MLPSettings()
    )
    starts_as_adam = settings.start is not None and settings.start.exponents
    has_inputs = {"parameter", "log_adam_gradient"} <= set(settings.features)
    if not (starts_as_adam and has_inputs and len(settings.hidden_sizes) == 1):
        raise ValueError(
            "StepSearch needs a start with exponents, one hidden layer, and the features "
            "'parameter' and 'log_adam_gradient'"
        )
    return settings


def with_units(optimizer: base.Mlp) -> base.Mlp:
    """The optimizer with the decay's units."""
    return dataclasses.replace(
        optimizer, hidden_sizes=(searched_settings(optimizer).hidden_sizes[0] + 2,)
    )


def numbers_at_start(settings: MLPSettings, search: base.StepSearch) -> Distribution:
    """What the first generation is drawn from, in the order of `moved`."""
    of_each, of_tensor = rows(settings)
    unit, decay = (
        settings.start.learning_rate / settings.step_multiplier,
        adam_start.first_row(settings, "parameter"),
    )
    num_logs, num_times = len(settings.start.exponents), len(settings.timescales)
    added, gate = (numbers_of_inputs(settings, table) for table in (search.added, search.gate))
    std = [(search.parameter_std if i == decay else search.direction_std) * unit for i in of_each]
    std += (
        [search.rate_std] * num_logs + [search.rate_time_std] * num_times + [search.rate_bias_std]
    )
    std += [search.decay_log_slope_std, search.gate_bias_std] + [search.gate_std] * len(of_tensor)
    scalars = [[search.added_bias], [search.decay_log_slope], [search.gate_bias]]
    return Distribution(
        np.concatenate([added[of_each], added[of_tensor], *scalars, gate[of_tensor]]),
        np.asarray(std),
    )


def numbers_of_inputs(settings: MLPSettings, table: Mapping[str, Sequence[float]]) -> NDArray:
    """`[inputs]`, a table's numbers at the inputs of the features it names, and of the times;
    zero elsewhere.
    """
    num_features = settings.num_features
    numbers = np.zeros(num_features + len(settings.timescales))
    firsts = {name: adam_start.first_row(settings, name) for name in settings.features} | {
        "times": num_features
    }
    for (name, first), end in zip(
        firsts.items(), [*list(firsts.values())[1:], len(numbers)], strict=True
    ):
        values = table.get(name, ())[: end - first]
        numbers[first : first + len(values)] = values
    return numbers


def rows(settings: MLPSettings) -> tuple[list[int], list[int]]:
    """The inputs that differ between a tensor's parameters, and the others, times last."""
    logs, num_features = adam_start.log_rows(settings), settings.num_features
    times = list(range(num_features, num_features + len(settings.timescales)))
    return [i for i in range(num_features) if i not in logs], logs + times


def moved(settings: MLPSettings, theta: Theta, numbers: NDArray) -> Theta:
    """Theta with a candidate's numbers.

    Args:
      settings: of theta's optimizer.
      theta: with one hidden layer, the units for the decay among it.
      numbers: what is added to the direction's weights, to those of the log rate and to its bias;
        then, of the decay, log c, in units of the fresh theta's direction, g and the k of each
        input of the tensor and time.
    """
    of_each, of_tensor = rows(settings)
    numbers = np.asarray(numbers, np.float32)
    direction, rate, gate = np.split(numbers, np.cumsum([len(of_each), len(of_tensor) + 1]))
    weights, bias = (np.array(theta["layer_0"][name]) for name in ("weights", "bias"))
    outputs = np.array(theta["layer_1"]["weights"])
    weights[of_each, DIRECTION] += direction[:, None] * PAIR
    rate = rate / settings.exp_multiplier
    weights[of_tensor, MAGNITUDE] += rate[:-1, None] * PAIR
    bias[MAGNITUDE] += rate[-1] * PAIR
    slope = np.exp(gate[0]) * settings.start.learning_rate / settings.step_multiplier
    weights[:, DECAY] = 0.0
    weights[adam_start.first_row(settings, "parameter"), DECAY] = slope * PAIR
    weights[of_tensor, DECAY] = slope * gate[2:, None]
    bias[DECAY] = slope * gate[1]
    outputs[DECAY] = np.stack([PAIR, np.zeros(2, np.float32)], axis=1)
    return {
        "layer_0": {"weights": weights, "bias": bias},
        "layer_1": {**theta["layer_1"], "weights": outputs},
    }
