"""The kinds of learned optimizers of a run."""

import dataclasses
from dataclasses import field
from typing import Literal

from configs.base.kinds import Kind, register

Scalar = int | float | bool | str


class Optimizer(Kind):
    """The optimizer that is learned.

    `builds` is called with the kind's fields that are not None, and gives a
    `learned_opt.LearnedOptimizer`. Its theta is saved with them under the kind's name, which
    `learned_opt.catalog.OPTIMIZERS` must hold to load it again.
    """


@dataclasses.dataclass(frozen=True)
class StartAsAdam:
    """Adam at a rate of tensor and time, `learned_opt.AdamStart`."""

    learning_rate: float | None = None
    """Fresh weights start as Adam at this rate; as nothing much if not given."""
    exponents: tuple[float, ...] = ()
    """Powers of the root mean squares behind the `log_*` features that multiply that rate."""
    time_exponents: tuple[float, ...] = ()
    """Fresh weights multiply it by exp(e tanh(t / s - 1)), one e for each timescale s."""
    weight_decay: float = 0.0
    """Fresh weights add this times w / rms(w) to Adam's direction."""


@register
@dataclasses.dataclass(frozen=True)
class Mlp(Optimizer):
    """The per-parameter MLP optimizer, `learned_opt.mlp`."""

    builds = "learned_opt:mlp"

    preset: Literal["metz2019", "metz2019_released"] | None = None
    """The paper's optimizer or its released code's;
    the project's own, cheaper default if not given."""
    hidden_sizes: tuple[int, ...] | None = None
    """Widths of the hidden layers; like all fields below, the preset's own if not given."""
    momentum_decays: tuple[float, ...] | None = None
    """Decays of the running averages of the gradient."""
    second_moment_decays: tuple[float, ...] | None = None
    """Decays of the running averages of the squared gradient."""
    timescales: tuple[float, ...] | None = None
    """Timescales of the time inputs, in inner steps."""
    features: tuple[str, ...] | None = None
    """Inputs, by their names in `learned_opt.per_parameter.features.FEATURE_KINDS`."""
    step_multiplier: float | None = None
    """Factor of the step's direction."""
    exp_multiplier: float | None = None
    """Factor of the step's magnitude, inside the exponential."""
    output_init_scale: float | None = None
    """Scale of the last layer's fresh weights."""
    start: StartAsAdam = StartAsAdam()
    """What fresh weights make of their inputs."""
    input_bound: float | None = None
    """The MLP sees inputs within plus and minus this.
    Without it a gradient out of the blue makes an enormous step."""


@register
@dataclasses.dataclass(frozen=True)
class OrthogonalMlp(Optimizer):
    """The per-parameter MLP with orthogonal steps of matrices, `learned_opt.orthogonal_mlp`."""

    builds = "learned_opt:orthogonal_mlp"

    hidden_sizes: tuple[int, ...] | None = None
    """Widths of the hidden layers; like all fields below, the optimizer's own if not given."""
    momentum_decays: tuple[float, ...] | None = None
    """Decays of the running averages of the gradient."""
    second_moment_decays: tuple[float, ...] | None = None
    """Decays of the running averages of the squared gradient."""
    features: tuple[str, ...] | None = None
    """Inputs, by their names in `learned_opt.orthogonal.FEATURES`."""
    exp_multiplier: float | None = None
    """Factor of the direction's magnitude, inside the exponential."""
    rates: tuple[float, ...] | None = None
    """Fresh rates of matrices, embeddings, heads and vectors."""
    direction: Literal["learned", "adam", "momentum"] | None = None
    """A learned direction; or Adam's, or momentum of unit length, with which only rates are
    learned."""
    orthogonal: bool | None = None
    """Whether steps of matrices are made orthogonal."""


@register
@dataclasses.dataclass(frozen=True)
class NamedOptimizer(Optimizer):
    """Another learned optimizer: one that `learned-opt list` shows, or your own by name."""

    builds = "learned_opt.catalog:make_optimizer"
    word = "named"
    code_fields = ("name",)

    name: str = ""
    """A name from `learned-opt list`; or "module:function", which returns a `LearnedOptimizer`."""
    kwargs: dict[str, Scalar] = field(default_factory=dict)
    """Its arguments."""
