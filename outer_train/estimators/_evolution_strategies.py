"""Evolution strategies with antithetic pairs (Metz et al. 2019, arXiv 1810.10180, section 3)."""

import jax

from outer_train.estimators.base import GradientEstimator
from outer_train.particles._antithetic import PairMap, PairSettings, antithetic
from outer_train.particles.pairs import Outcome
from outer_train.problem import UnrolledSystem
from outer_train.trees import Tree


def finite_difference(outcome: Outcome, noise: Tree) -> Tree:
    """`(L+ - L-) / (2 std^2) * noise` for each pair."""
    # No square of std, and no difference of losses before they are halved:
    # either may be out of float32's range.
    slope = (outcome.loss[:, 0] / 2 - outcome.loss[:, 1] / 2) / outcome.std
    along = lambda n: slope.astype(n.dtype).reshape((-1,) + (1,) * (n.ndim - 1)) * (n / outcome.std)
    return jax.tree.map(along, noise)


PAIR_MAP = PairMap(lambda outcome: finite_difference(outcome, outcome.noise))


def evolution_strategies(
    problem: UnrolledSystem,
    num_pairs: int,
    std: float = 0.01,
    axis_name: str | None = None,
    *,
    max_num_steps: int | None = None,
    stagger: bool = False,
) -> GradientEstimator:
    """Truncated evolution strategies: `g = mean over pairs of (L+ - L-) / (2 std^2) * eps`.

    Unbiased for the gradient of the smoothed loss of one truncation; the influence of theta on
    later truncations through the carried state is left out (short-horizon bias). Its variance does
    not depend on how rough the loss is.

    Args:
      problem: the unrolled system.
      num_pairs: antithetic pairs over all devices.
      std: standard deviation of the smoothing.
      axis_name: mesh axis the pairs are spread over, inside `jax.shard_map`.
      max_num_steps: longest truncation; the episode by default.
      stagger: spread the pairs' step counters over the episode at the start.

    Raises:
      ValueError: for values out of range, or an outer loss that is no sum of step losses.
    """
    settings = PairSettings(num_pairs, std, axis_name, max_num_steps, stagger)
    return antithetic("evolution_strategies", problem, settings, {"evolution_strategies": PAIR_MAP})
