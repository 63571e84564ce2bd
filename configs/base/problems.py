"""Kinds of task families and of learned optimizers of a run; `configs/base/__init__.py` says what they are part of."""

import dataclasses
from dataclasses import field
from typing import Annotated, Literal

from tyro.conf import subcommand

Scalar = int | float | bool | str


@dataclasses.dataclass(frozen=True)
class ClassSubset:
    """Image classification; each task draws a few of the training classes, held-out tasks draw from the others."""

    dataset: str = "digits"
    """"digits" (bundled with scikit-learn, 8x8), "mnist1d" (generated; 40 numbers an example) or the name of any
    image-classification set of tensorflow-datasets, such as "fashion_mnist" or "imagenet_resized/32x32"."""
    data_dir: str | None = None
    """Where tensorflow-datasets finds prepared sets; TFDS_DATA_DIR or its own default if not given."""
    image_size: int | None = None
    """Images of a tensorflow-datasets set are resized to this many pixels a side; left as they are if not given."""
    grayscale: bool = False
    """Average the colours of a tensorflow-datasets set to one channel."""
    num_train_classes: int = 7
    """How many of the set's classes outer-training sees; the rest are held out."""
    num_classes: int = 5
    """Classes of one task: at most `num_train_classes`, and for held-out tasks at most the number left."""
    held_out_num_classes: int | None = None
    """Classes of one held-out task; `num_classes` or, if fewer are held out, all of those."""
    split_seed: int = 0
    """Which classes are held out follows from this alone, never from the run's seed."""
    network: Literal["mlp", "cnn"] = "mlp"
    """The inner model: a ReLU network, or the 3-layer convolutional network of arXiv 1810.10180."""
    hidden_sizes: tuple[int, ...] = (32,)
    """Widths of the inner MLP's hidden layers."""
    channels: tuple[int, ...] = (32, 32, 32)
    """Channels of the inner CNN's layers."""
    activation: Literal["relu", "tanh", "gelu", "silu", "elu", "softplus", "sigmoid"] = "relu"
    """Of the inner model's hidden layers."""
    max_weight_scale: float = 1.0
    """Augmentation: every tensor of an outer-training task is held in units drawn between 1 / this and this; held-out
    tasks are left as they are."""
    batch_size: int = 64
    """Examples in one inner batch; no more than the smallest split of a task has."""
    fractions: tuple[float, float, float, float] = (0.6, 0.1, 0.15, 0.15)
    """Shares of the splits train, inner_valid, outer_valid and test; of the first three if the set has its own test."""
    weight: float = 1.0
    """How much the family's outer loss counts beside others; its logged loss is multiplied by it."""


@dataclasses.dataclass(frozen=True)
class RandomQuadratic:
    """Quadratics of random curvature and minimum: seconds instead of minutes, for trying things out."""

    dim: int = 10
    """Inner parameters."""
    min_curvature: float = 0.01
    """Smallest curvature."""
    max_curvature: float = 1.0
    """Largest curvature."""
    noise_std: float = 0.0
    """Standard deviation of the gradient noise; zero for deterministic quadratics."""
    weight: float = 1.0
    """How much the family's outer loss counts beside others; its logged loss is multiplied by it."""


@dataclasses.dataclass(frozen=True)
class CustomFamily:
    """Your own task family, by name."""

    target: str = ""
    """"module:function"; called with `kwargs`, it returns a `tasks.base.TaskFamily`."""
    held_out_target: str = ""
    """"module:function" of the held-out family; if empty, the run is scored on its training family, and says so."""
    kwargs: dict[str, Scalar] = field(default_factory=dict)
    """Arguments of both functions."""
    weight: float = 1.0
    """How much the family's outer loss counts beside others; its logged loss is multiplied by it."""


@dataclasses.dataclass(frozen=True)
class StartAsAdam:
    """Adam at a rate of tensor and time, `learned_opt.AdamStart`."""

    learning_rate: float | None = None
    """Fresh weights start as Adam at this rate; as nothing much if not given."""
    exponents: tuple[float, ...] = ()
    """Fresh weights multiply that rate by powers of the root mean squares behind the `log_*` features."""
    time_exponents: tuple[float, ...] = ()
    """Fresh weights multiply it by exp(e tanh(t / s - 1)), one e for each timescale s."""
    weight_decay: float = 0.0
    """Fresh weights add this times w / rms(w) to Adam's direction."""


@dataclasses.dataclass(frozen=True)
class Mlp:
    """The per-parameter MLP optimizer, `learned_opt.mlp`."""

    preset: Literal["metz2019", "metz2019_released"] | None = None
    """The paper's optimizer or its released code's; the project's own, cheaper default if not given."""
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
    """The MLP sees inputs within plus and minus this, so that no gradient out of the blue makes an enormous step."""


@dataclasses.dataclass(frozen=True)
class NamedOptimizer:
    """Another learned optimizer: one that `learned-opt list` shows, or your own by name."""

    name: str = ""
    """A name from `learned-opt list`, or "module:function" that returns a `learned_opt.base.LearnedOptimizer`."""
    kwargs: dict[str, Scalar] = field(default_factory=dict)
    """Its arguments."""


Family = (
    Annotated[ClassSubset, subcommand(name="class-subset")]
    | Annotated[RandomQuadratic, subcommand(name="quadratic")]
    | Annotated[CustomFamily, subcommand(name="custom")]
)
Optimizer = Annotated[Mlp, subcommand(name="mlp")] | Annotated[NamedOptimizer, subcommand(name="named")]
