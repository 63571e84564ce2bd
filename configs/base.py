"""What one run of outer-training is: frozen dataclasses, shown field by field by `learned-opt train CONFIG --help`.

Nothing here imports JAX, so that the help and bad input are answered at once. `configs/build.py` turns a `TrainConfig`
into tasks, optimizer, estimator and outer step; `configs/serialize.py` writes and reads `config.json`.
"""

import dataclasses
from dataclasses import field
from typing import Annotated, Literal

from tyro.conf import Fixed, subcommand

Scalar = int | float | bool | str


@dataclasses.dataclass(frozen=True)
class ClassSubset:
    """Image classification; each task draws a few of the training classes, held-out tasks draw from the others."""

    dataset: str = "digits"
    """"digits" (bundled with scikit-learn, 8x8) or the name of any image-classification set of tensorflow-datasets,
    such as "fashion_mnist" or "imagenet_resized/32x32"."""
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
    batch_size: int = 64
    """Examples in one inner batch; no more than the smallest split of a task has."""
    fractions: tuple[float, float, float, float] = (0.6, 0.1, 0.15, 0.15)
    """Shares of the splits train, inner_valid, outer_valid and test; of the first three if the set has its own test."""


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


@dataclasses.dataclass(frozen=True)
class CustomFamily:
    """Your own task family, by name."""

    target: str = ""
    """"module:function"; called with `kwargs`, it returns a `tasks.base.TaskFamily`."""
    held_out_target: str = ""
    """"module:function" of the held-out family; the same family with fresh keys if empty."""
    kwargs: dict[str, Scalar] = field(default_factory=dict)
    """Arguments of both functions."""


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
    """Inputs, by the names of `learned_opt.features.FEATURE_KINDS`."""
    step_multiplier: float | None = None
    """Factor of the step's direction."""
    exp_multiplier: float | None = None
    """Factor of the step's magnitude, inside the exponential."""
    output_init_scale: float | None = None
    """Scale of the last layer's fresh weights."""


@dataclasses.dataclass(frozen=True)
class NamedOptimizer:
    """Another learned optimizer: one that `learned-opt list` shows, or your own by name."""

    name: str = ""
    """A name from `learned-opt list`, or "module:function" that returns a `learned_opt.base.LearnedOptimizer`."""
    kwargs: dict[str, Scalar] = field(default_factory=dict)
    """Its arguments."""


@dataclasses.dataclass(frozen=True)
class InnerProblem:
    """What is unrolled: the inner training run and the loss that judges it."""

    num_steps: int = 1000
    """Length of an episode in inner steps; then the particle draws a new task."""
    objective: Literal["valid", "train"] = "valid"
    """The outer loss of a step: on a fresh batch of `outer_valid`, or on a fresh one of `train`."""
    reduction: Literal["mean", "final", "log_final", "log_mean"] = "mean"
    """The outer loss of an episode: mean over its steps, the last step alone, or the logarithm of one of them; only
    full-es takes log_mean."""
    loss_clip: float = 10.0
    """Larger step losses, and nan, count as this."""
    num_loss_batches: int = 1
    """Batches the outer loss of a step is averaged over."""


@dataclasses.dataclass(frozen=True)
class PairEstimator:
    """What estimators over antithetic pairs of perturbations share."""

    num_pairs: int = 32
    """Antithetic pairs of particles, over all devices."""
    std: float = 0.01
    """Standard deviation of the perturbations of theta."""
    stagger: bool = True
    """Start the particles at different steps of their episodes, so that a batch sees all stages of training."""


@dataclasses.dataclass(frozen=True)
class EvolutionStrategies(PairEstimator):
    """Antithetic evolution strategies, noise drawn anew for each truncation; biased by short truncations."""


@dataclasses.dataclass(frozen=True)
class Reparameterization(PairEstimator):
    """Backpropagation through the unroll at perturbed thetas; variance explodes with roughness, wrong on cliffs."""

    chunk_size: int = 50
    """Inner steps between two states kept by the backward pass; memory grows with truncation length / chunk size."""


@dataclasses.dataclass(frozen=True)
class Merged(PairEstimator):
    """Inverse-variance average of estimators that share one unroll (arXiv 1810.10180, eq. 1)."""

    chunk_size: int = 50
    """Inner steps between two states kept by the backward pass; memory grows with truncation length / chunk size."""
    parts: tuple[str, ...] = ("reparameterization", "evolution_strategies")
    """The estimators that are merged."""
    weighting: Literal["elementwise", "global"] = "elementwise"
    """One weight for each outer parameter, as in the paper's code, or one for all."""
    cross_fit: bool = False
    """Take the weights from the other half of the pairs, which makes the merge unbiased."""


@dataclasses.dataclass(frozen=True)
class PersistentES(PairEstimator):
    """Persistent evolution strategies (arXiv 2112.13835): unbiased over truncations, gradients never needed."""

    noise_reuse: int = 1
    """Inner steps that one draw of noise serves; 1 draws at every truncation."""


@dataclasses.dataclass(frozen=True)
class NoiseReuseES(PairEstimator):
    """Noise-reuse evolution strategies (arXiv 2304.12180): one draw of noise for a whole episode."""


@dataclasses.dataclass(frozen=True)
class TruncatedBackprop:
    """Backpropagation through each truncation at theta itself; biased by short truncations."""

    num_particles: int = 32
    """Inner problems unrolled at once, over all devices."""
    chunk_size: int = 50
    """Inner steps between two states kept by the backward pass; memory grows with truncation length / chunk size."""
    stagger: bool = True
    """Start the particles at different steps of their episodes."""


@dataclasses.dataclass(frozen=True)
class ForwardMode:
    """Tangents carried with the state: memory does not grow with the truncation; suits few outer parameters."""

    num_particles: int = 32
    """Inner problems unrolled at once, over all devices."""
    persistent: bool = True
    """Keep the tangents over truncations, which removes the bias of short ones."""
    num_directions: int | None = None
    """Random directions of theta that tangents are carried for; all outer parameters if not given."""
    stagger: bool = True
    """Start the particles at different steps of their episodes."""


@dataclasses.dataclass(frozen=True)
class FullES:
    """Evolution strategies on whole episodes: unbiased, and one episode an estimate. The truncation is ignored."""

    num_pairs: int = 32
    """Antithetic pairs of particles, over all devices."""
    std: float = 0.01
    """Standard deviation of the perturbations of theta."""


@dataclasses.dataclass(frozen=True)
class Constant:
    """Truncations of one length."""

    num_steps: int = 20
    """Inner steps of every truncation."""


@dataclasses.dataclass(frozen=True)
class Linear:
    """Truncations that grow linearly over outer-training, as in arXiv 1810.10180."""

    start: int = 50
    """Inner steps of the first truncation."""
    end: int = 10_000
    """Inner steps at the schedule's end and after it."""
    num_outer_steps: int = 5_000
    """Outer steps the growth takes."""
    jitter: float = 0.2
    """Each length is multiplied by a uniform draw from [1 - jitter, 1 + jitter]."""


@dataclasses.dataclass(frozen=True)
class LogUniform:
    """Truncations whose logarithm is uniform between two lengths."""

    low: int = 50
    """Shortest truncation, inner steps."""
    high: int = 1_000
    """Longest truncation, inner steps."""


@dataclasses.dataclass(frozen=True)
class OuterOptimizer:
    """The Optax chain that trains theta: clip, then Adam or AdamW under a schedule."""

    name: Literal["adam", "adamw"] = "adam"
    """Adam, or AdamW with `weight_decay`."""
    learning_rate: float = 3e-3
    """The outer learning rate, before its decay."""
    decay: Literal["none", "cosine"] = "cosine"
    """Keep the rate, or let it fall on half a cosine over all outer steps: late in training the estimate's noise wants
    a smaller rate."""
    final_fraction: float = 0.1
    """Where the cosine ends, as a fraction of `learning_rate`."""
    num_warmup_steps: int = 0
    """Outer steps over which the rate rises linearly from zero."""
    b1: float = 0.9
    """Adam's decay of the first moment."""
    b2: float = 0.999
    """Adam's decay of the second moment."""
    eps: float = 1e-8
    """Adam's epsilon."""
    weight_decay: float = 0.0
    """AdamW's decay of theta."""
    clip: Literal["global_norm", "value", "none"] = "global_norm"
    """Clip the gradient's norm, each of its entries, or nothing."""
    clip_at: float = 1.0
    """The largest norm or entry let through."""


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """How the held-out family is scored after training."""

    num_tasks: int = 32
    """Tasks, each with its own seed; 0 leaves the scoring out."""
    num_steps: int = 200
    """Inner steps of each; the score is the mean `test` loss over them."""


Family = (
    Annotated[ClassSubset, subcommand(name="class-subset")]
    | Annotated[RandomQuadratic, subcommand(name="quadratic")]
    | Annotated[CustomFamily, subcommand(name="custom")]
)
Optimizer = Annotated[Mlp, subcommand(name="mlp")] | Annotated[NamedOptimizer, subcommand(name="named")]
Estimator = (
    Annotated[EvolutionStrategies, subcommand(name="evolution-strategies")]
    | Annotated[Reparameterization, subcommand(name="reparameterization")]
    | Annotated[Merged, subcommand(name="merged")]
    | Annotated[PersistentES, subcommand(name="persistent-es")]
    | Annotated[NoiseReuseES, subcommand(name="noise-reuse-es")]
    | Annotated[TruncatedBackprop, subcommand(name="truncated-backprop")]
    | Annotated[ForwardMode, subcommand(name="forward-mode")]
    | Annotated[FullES, subcommand(name="full-es")]
)
Truncation = (
    Annotated[Constant, subcommand(name="constant")]
    | Annotated[Linear, subcommand(name="linear")]
    | Annotated[LogUniform, subcommand(name="log-uniform")]
)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One run of outer-training."""

    family: Family = field(default_factory=ClassSubset)
    """The distribution over tasks."""
    extra_families: Fixed[tuple[ClassSubset | RandomQuadratic | CustomFamily, ...]] = ()
    """Further families; the outer gradient is the mean over all. Set in a config file only."""
    optimizer: Optimizer = field(default_factory=Mlp)
    """The optimizer that is learned."""
    problem: InnerProblem = field(default_factory=InnerProblem)
    """The inner problem."""
    estimator: Estimator = field(default_factory=PersistentES)
    """The estimator of the outer gradient. Choosing a kind starts from that kind's own defaults."""
    truncation: Truncation = field(default_factory=Constant)
    """Inner steps between two outer updates."""
    outer_optimizer: OuterOptimizer = field(default_factory=OuterOptimizer)
    """The optimizer of theta."""
    held_out: HeldOut = field(default_factory=HeldOut)
    """Scoring after training."""
    num_outer_steps: int = 1000
    """Outer updates."""
    checkpoint_every: int = 100
    """Outer steps between two checkpoints."""
    keep_checkpoints: int = 3
    """Newest checkpoints kept, beside the one of the lowest smoothed outer loss."""
    seed: int = 0
    """Everything random follows from it."""
    init_theta: str | None = None
    """Go on from this theta file or pretrained name instead of fresh outer parameters."""
