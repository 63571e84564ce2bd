"""What one run of outer-training is: frozen dataclasses, shown field by field by `learned-opt train CONFIG --help`.

Config files import everything from here. What comes in several kinds, chosen on the command line, is in
`configs/base/problems.py` (families, optimizers) and `configs/base/estimators.py` (estimators, truncations). None of
these imports JAX, so that the help and bad input are answered at once. `learned_opt_lab/runs/build.py` turns a
`TrainConfig` into tasks, optimizer, estimator and outer step; `learned_opt_lab/runs/config_json.py` writes and reads
`config.json`.
"""

import dataclasses
from dataclasses import field
from typing import Literal

from tyro.conf import Fixed

from configs.base.estimators import (
    Constant,
    Estimator,
    EvolutionStrategies,
    ForwardMode,
    FullES,
    Linear,
    LogUniform,
    Merged,
    NoiseReuseES,
    PersistentES,
    Reparameterization,
    TruncatedBackprop,
    Truncation,
)
from configs.base.problems import (
    ClassSubset,
    CustomFamily,
    Family,
    Mlp,
    NamedOptimizer,
    Optimizer,
    RandomQuadratic,
    StartAsAdam,
)

__all__ = [
    "ClassSubset",
    "Constant",
    "CustomFamily",
    "Estimator",
    "EvolutionStrategies",
    "Family",
    "ForwardMode",
    "FullES",
    "HeldOut",
    "InnerProblem",
    "Linear",
    "LogUniform",
    "Merged",
    "Mlp",
    "NamedOptimizer",
    "NoiseReuseES",
    "Optimizer",
    "OuterOptimizer",
    "PersistentES",
    "RandomQuadratic",
    "Reparameterization",
    "StartAsAdam",
    "TrainConfig",
    "TruncatedBackprop",
    "Truncation",
]


@dataclasses.dataclass(frozen=True)
class InnerProblem:
    """What is unrolled: the inner training run and the loss that judges it."""

    num_steps: int = 1000
    """Length of an episode in inner steps; then the particle draws a new task."""
    objective: Literal["valid", "train"] = "valid"
    """The outer loss of a step: on a fresh batch of `outer_valid`, or on a fresh one of `train`."""
    reduction: Literal["mean", "mean_log", "final", "log_final", "log_mean"] = "mean"
    """The outer loss of an episode: mean over its steps, mean of their logarithms (of log_offset + loss), the last step
    alone, or the logarithm of one of the two; only full-es takes log_mean."""
    log_offset: float = 0.1
    """Added to a step's loss before mean_log takes its logarithm: losses well below it no longer count."""
    loss_clip: float = 10.0
    """Larger step losses, and nan, count as this."""
    num_loss_batches: int = 1
    """Batches the outer loss of a step is averaged over."""


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
