"""Persistent evolution strategies and noise reuse,
as one estimator with the noise-reuse period as a knob.

Vicol et al. 2021 (arXiv 2112.13835); Li et al. 2023, GPES (arXiv 2304.12180).
"""

from outer_train.checks import check_count
from outer_train.estimators._evolution_strategies import finite_difference
from outer_train.estimators.base import GradientEstimator
from outer_train.particles._antithetic import PairMap, PairSettings, antithetic
from outer_train.problem import UnrolledSystem


def pair_map(noise_reuse: int) -> PairMap:
    """`(L+ - L-) / (2 std^2) * (sum of the episode's distinct eps)` for each pair."""
    return PairMap(
        lambda outcome: finite_difference(outcome, outcome.accumulated), noise_reuse=noise_reuse
    )


def persistent_es(
    problem: UnrolledSystem,
    num_pairs: int,
    std: float = 0.01,
    axis_name: str | None = None,
    *,
    max_num_steps: int | None = None,
    stagger: bool = False,
    noise_reuse: int = 1,
) -> GradientEstimator:
    """Generalized persistent ES: both sides of a pair live on across truncations,
    and so does their noise.

    Unbiased for the gradient of the smoothed loss of whole episodes, whatever the truncation
    length. A step's loss belongs to the noise in use at that step: at an episode's end the last
    losses are counted before the noise and its sum are dropped. The variance grows with the number
    of draws an episode sees.

    Args:
      problem: the unrolled system.
      num_pairs: antithetic pairs over all devices.
      std: standard deviation of the smoothing.
      axis_name: mesh axis the pairs are spread over, inside `jax.shard_map`.
      max_num_steps: longest truncation; the episode by default.
      stagger: spread the pairs' step counters over the episode at the start.
      noise_reuse: inner steps K that one draw serves, rounded up to whole truncations. 1 draws at
        every truncation (PES); the episode's length, or more, draws once an episode (NRES).

    Raises:
      ValueError: for values out of range, or an outer loss that is no sum of step losses.
    """
    check_count(noise_reuse=noise_reuse)
    settings = PairSettings(num_pairs, std, axis_name, max_num_steps, stagger)
    return antithetic("persistent_es", problem, settings, {"persistent_es": pair_map(noise_reuse)})


def noise_reuse_es(
    problem: UnrolledSystem,
    num_pairs: int,
    std: float = 0.01,
    axis_name: str | None = None,
    *,
    max_num_steps: int | None = None,
    stagger: bool = False,
) -> GradientEstimator:
    """NRES: `persistent_es` with one draw of noise an episode;
    meant for particles that are staggered.

    Unbiased as PES is, with a variance that does not grow with the number of truncations. Arguments
    and errors as for `persistent_es`.
    """
    settings = PairSettings(num_pairs, std, axis_name, max_num_steps, stagger)
    return antithetic(
        "noise_reuse_es", problem, settings, {"noise_reuse_es": pair_map(problem.num_steps)}
    )
