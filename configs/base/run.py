"""One run of outer-training: its inner problem, outer optimizer,
counts and seed, and the kinds it is made of.
"""

import dataclasses
from dataclasses import field
from typing import Literal

from configs.base.estimators import Estimator, PersistentES
from configs.base.optimizers import Mlp, Optimizer
from configs.base.searches import Search
from configs.base.tasks import ClassSubset, Family
from configs.base.truncations import Constant, Truncation


@dataclasses.dataclass(frozen=True)
class InnerProblem:
    """What is unrolled: the inner training run and the loss that judges it."""

    num_steps: int = 1000
    """Length of an episode in inner steps; then the particle draws a new task."""
    objective: Literal["valid", "train"] = "valid"
    """The outer loss of a step: on a fresh batch of `outer_valid`, or on a fresh one of `train`."""
    reduction: Literal["mean", "late_mean", "mean_log", "final", "log_final", "log_mean"] = "mean"
    """What an episode's step losses become: their mean, the last, or a log of either.
    late_mean weighs them by the square of the share of the episode that is done,
    mean_log is the mean of log(log_offset + loss); only full-es takes log_mean."""
    log_offset: float = 0.1
    """Added to a step's loss before mean_log takes its logarithm. Losses well below it no longer
    count; a small one pays for being sure of most batches and wrong about a few."""
    loss_clip: float = 10.0
    """Larger step losses, and nan, count as this."""
    num_loss_batches: int = 1
    """Batches the outer loss of a step is averaged over."""
    share_told: float = 1.0
    """Share of the episodes that tell their length to an optimizer that can take it."""


@dataclasses.dataclass(frozen=True)
class OuterOptimizer:
    """The Optax chain that trains theta: clip, then Adam or AdamW under a schedule."""

    name: Literal["adam", "adamw"] = "adam"
    """Adam, or AdamW with `weight_decay`."""
    learning_rate: float = 3e-3
    """The outer learning rate, before its decay."""
    decay: Literal["none", "cosine"] = "cosine"
    """Keep the rate, or let it fall on half a cosine over all outer steps.
    Late in training the estimate's noise wants a smaller rate."""
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


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One run of outer-training."""

    family: Family = field(default_factory=ClassSubset)
    """The distribution over tasks."""
    extra_families: tuple[Family, ...] = ()
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
    memory_limit_gb: float | None = None
    """Gigabytes that an outer step may take, of each accelerator, or of the machine where it runs
    on CPUs. An estimator's `chunk_size` is changed where that makes it fit.
    If not given, all there is, and nothing is changed."""
    init_theta: str | None = None
    """Go on from this theta file or pretrained name instead of fresh outer parameters."""
    search: Search | None = None
    """What `learned-opt search` runs, and `learned-opt train` does not.
    Set in a config file only."""
