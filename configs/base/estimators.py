"""Kinds of gradient estimators and truncation schedules of a run; `configs.base` says what they are part of."""

import dataclasses
from typing import Annotated, Literal

from tyro.conf import subcommand


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
    clip_norm: float | None = None
    """Longest gradient of one particle: keeps those that explode from drowning the others."""


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
