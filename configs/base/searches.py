"""The kinds of searches over a few numbers that make a theta;
`learned-opt search CONFIG` runs a config's own.
"""

import dataclasses
from dataclasses import field
from typing import ClassVar

from configs.base.kinds import Kind, register


class Search(Kind):
    """A search that makes a theta, or finds where one had best start.

    `builds` is called with the `TrainConfig` and `trust`, which lets a file that the config names
    run code, and gives `learned_opt_lab.searches.candidates.Candidates`.

    Attributes:
      makes_theta: whether what it finds is the theta that is wanted, not a start for
        outer-training.
    """

    makes_theta: ClassVar[bool] = True


@dataclasses.dataclass(frozen=True)
class CrossEntropy(Search):
    """What searches by the cross-entropy method share.

    The config's families are what they score on, at its seed.
    """

    num_generations: int = 24
    """Times that candidates are drawn around the best of the last ones."""
    population: int = 44
    """Candidates of a generation; the distribution's mean and the start's are among them."""
    elite: float = 0.2
    """Share of a generation that the next one is drawn around."""
    num_steps: int = 1000
    """Inner steps of a candidate's run, a multiple of `num_measurements`."""
    num_measurements: int = 40
    """Points of a run at which its validation loss is measured."""
    num_measured_batches: int = 4
    """Batches that a measurement is the mean over."""
    num_runs: int = 2
    """Tasks of each family in a generation."""
    task_seed: int = 1000
    """Generation g runs on tasks of the key of `task_seed` + g, whatever the config's seed."""
    adam_learning_rates: tuple[float, ...] = (
        1e-4,
        0.00031622776601683794,
        1e-3,
        0.0031622776601683794,
        1e-2,
        0.03162277660168379,
    )
    """A candidate's losses count as shares of the lowest that Adam reaches at one of these."""
    loss_offset: float = 4e-3
    """Added to losses, in nats, before their logarithm: what is below it no longer counts."""
    loss_cap: float = 10.0
    """Larger losses, and nan, count as this."""


@register
@dataclasses.dataclass(frozen=True)
class StartSearch(CrossEntropy):
    """Where outer-training had best start:
    rate, exponents and weight decay of the fresh theta's Adam.
    """

    builds = "learned_opt_lab.searches.start_search:start_search"
    makes_theta = False

    num_generations: int = 6
    """Times that candidates are drawn around the best of the last ones."""
    log_learning_rate_std: float = 0.6
    """Spread of the first generation in the logarithm of the rate."""
    exponent_std: float = 0.25
    """Spread in each exponent."""
    time_exponent_std: float = 0.1
    """Spread in each exponent of time."""
    weight_decay_std: float = 0.02
    """Spread in the weight decay."""


@register
@dataclasses.dataclass(frozen=True)
class StepSearch(CrossEntropy):
    """How the step of `init_theta` depends on tensor and time,
    with a decay of the weights that opens and closes.
    """

    builds = "learned_opt_lab.searches.step_search:step_search"

    added: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Feature, or "times" -> what the search starts from adding to the weights of its inputs;
    zero for all others."""
    added_bias: float = 0.0
    """What it starts from adding to the bias of the rate's logarithm."""
    decay_log_slope: float = -2.3025850929940455
    """Where the logarithm of the decay starts, in units of the fresh theta's direction."""
    gate_bias: float = -9.5
    """Where the decay's gate starts; far below zero it is closed."""
    gate: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Feature, or "times" -> where the gate's weights of its inputs start; zero for all others."""
    parameter_std: float = 0.008
    """First generation's spread in the parameter's weight, in units of the fresh theta's."""
    direction_std: float = 0.03
    """Spread in the direction's other weights.
    Weight decay is some hundredths of it, gradient and momenta are all."""
    rate_std: float = 0.12
    """Spread in the rate's weights of inputs over a tensor."""
    rate_time_std: float = 0.05
    """Spread in the rate's weights of times."""
    rate_bias_std: float = 0.1
    """Spread in the rate's bias."""
    decay_log_slope_std: float = 0.3
    """Spread in the logarithm of the decay."""
    gate_bias_std: float = 0.8
    """Spread in the gate's bias."""
    gate_std: float = 0.5
    """Spread in each of the gate's weights."""
