"""The kinds of gradient estimators of a run."""

import dataclasses
from typing import ClassVar, Literal

from configs.base.kinds import Kind, register


class Estimator(Kind):
    """An estimator of the outer gradient.

    `builds` is called with the inner problem, `axis_name`, the kind's fields and, where it
    truncates, `max_num_steps`; it gives an `outer_train.estimators.GradientEstimator`. One of the
    fields is `num_pairs` or `num_particles`.

    Attributes:
      bias: in a few words, as tables show it.
      variance: likewise.
      label: a short name for figures; the word if not given.
      truncates: whether an estimate is of a truncation; otherwise it is of whole episodes.
      is_costly: `learned-opt variance` leaves it out unless it is named.
    """

    bias: ClassVar[str] = ""
    variance: ClassVar[str] = ""
    label: ClassVar[str] = ""
    truncates: ClassVar[bool] = True
    is_costly: ClassVar[bool] = False


@dataclasses.dataclass(frozen=True)
class PairEstimator(Estimator):
    """What estimators over antithetic pairs of perturbations share."""

    num_pairs: int = 32
    """Antithetic pairs of particles, over all devices."""
    std: float = 0.01
    """Standard deviation of the perturbations of theta."""
    stagger: bool = True
    """Start the particles at different steps, so that a batch sees all stages of training."""


@register
@dataclasses.dataclass(frozen=True)
class EvolutionStrategies(PairEstimator):
    """Antithetic evolution strategies, noise drawn anew for each truncation;
    biased by short truncations.
    """

    builds = "outer_train.estimators:evolution_strategies"
    bias = "short-horizon"
    variance = "level"
    label = "ES"


@register
@dataclasses.dataclass(frozen=True)
class Reparameterization(PairEstimator):
    """Backpropagation through the unroll at perturbed thetas;
    variance explodes with roughness, wrong on cliffs.
    """

    builds = "outer_train.estimators:reparameterization"
    bias = "short-horizon; wrong, with a small variance, on cliffs"
    variance = "explodes with the loss's roughness"
    label = "RP"

    chunk_size: int = 50
    """Inner steps between two states kept by the backward pass;
    memory grows with truncation length / chunk size."""


@register
@dataclasses.dataclass(frozen=True)
class Merged(PairEstimator):
    """Inverse-variance average of estimators that share one unroll (arXiv 1810.10180, eq. 1)."""

    builds = "outer_train.estimators:merged"
    bias = "that of its parts"
    variance = "at most 1.46 times the smallest of its parts'"

    chunk_size: int = 50
    """Inner steps between two states kept by the backward pass;
    memory grows with truncation length / chunk size."""
    parts: tuple[str, ...] = ("reparameterization", "evolution_strategies")
    """The estimators that are merged."""
    weighting: Literal["elementwise", "global"] = "elementwise"
    """One weight for each outer parameter, as in the paper's code, or one for all."""
    cross_fit: bool = False
    """Take the weights from the other half of the pairs, which makes the merge unbiased."""


@register
@dataclasses.dataclass(frozen=True)
class PersistentES(PairEstimator):
    """Persistent evolution strategies (arXiv 2112.13835):
    unbiased over truncations, gradients never needed.
    """

    builds = "outer_train.estimators:persistent_es"
    bias = "none"
    variance = "grows with the truncations of an episode"
    label = "PES"

    noise_reuse: int = 1
    """Inner steps that one draw of noise serves; 1 draws at every truncation."""


@register
@dataclasses.dataclass(frozen=True)
class NoiseReuseES(PairEstimator):
    """Noise-reuse evolution strategies (arXiv 2304.12180):
    one draw of noise for a whole episode.
    """

    builds = "outer_train.estimators:noise_reuse_es"
    bias = "none"
    variance = "level"
    label = "NRES"


@register
@dataclasses.dataclass(frozen=True)
class TruncatedBackprop(Estimator):
    """Backpropagation through each truncation at theta itself; biased by short truncations."""

    builds = "outer_train.estimators:truncated_backprop"
    bias = "short-horizon"
    variance = "lowest where the loss is smooth"

    num_particles: int = 32
    """Inner problems unrolled at once, over all devices."""
    chunk_size: int = 50
    """Inner steps between two states kept by the backward pass;
    memory grows with truncation length / chunk size."""
    stagger: bool = True
    """Start the particles at different steps of their episodes."""
    clip_norm: float | None = None
    """Longest gradient of one particle: keeps those that explode from drowning the others."""


@register
@dataclasses.dataclass(frozen=True)
class ForwardMode(Estimator):
    """Tangents carried with the state: memory does not grow with the truncation;
    suits few outer parameters.
    """

    builds = "outer_train.estimators:forward_mode"
    bias = "none while persistent"
    variance = "lowest where the loss is smooth"
    is_costly = True

    num_particles: int = 32
    """Inner problems unrolled at once, over all devices."""
    persistent: bool = True
    """Keep the tangents over truncations, which removes the bias of short ones."""
    num_directions: int | None = None
    """Random directions of theta that tangents are carried for;
    all outer parameters if not given."""
    stagger: bool = True
    """Start the particles at different steps of their episodes."""


@register
@dataclasses.dataclass(frozen=True)
class FullES(Estimator):
    """Evolution strategies on whole episodes: unbiased, and one episode an estimate.

    The truncation is ignored.
    """

    builds = "outer_train.estimators:full_es"
    bias = "none"
    variance = "level; every estimate costs whole episodes"
    truncates = False
    is_costly = True

    num_pairs: int = 32
    """Antithetic pairs of particles, over all devices."""
    std: float = 0.01
    """Standard deviation of the perturbations of theta."""
