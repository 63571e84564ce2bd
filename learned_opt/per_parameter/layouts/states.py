"""States of the per-parameter MLPs."""

from typing import Any, NamedTuple

from jax import Array

Settings = Any
"""Of the optimizer: `MLPSettings` or `AdafactorMLPSettings`."""


class MLPState(NamedTuple):
    """State of `mlp`.

    Attributes:
      count: int32 scalar, updates made so far.
      momenta: running averages of the gradient: the parameters' tree, leaves
        `[momentum decays, *shape]`.
      second_moments: of the squared gradient: the parameters' tree, leaves
        `[second-moment decays, *shape]`.

    In the packed layout of outer-training the averages are, for each group of leaves,
    `[decays, elements]`.
    """

    count: Array
    momenta: Any
    second_moments: Any


class AdafactorMLPState(NamedTuple):
    """State of `adafactor_mlp`: that of `mlp`, and factors.

    Attributes:
      count: as in `MLPState`.
      momenta: as there.
      second_moments: as there.
      factors: `learned_opt.trees.factors.Factors` of the squared gradient: two trees like the
        parameters', leaves `[factored decays, *shape]` with one element along the axis that was
        averaged over.

    In the packed layout factors are, for each group, those of each of its leaves as matrices:
    `[factored decays, batch, rows]` and `[factored decays, batch, columns]`.
    """

    count: Array
    momenta: Any
    second_moments: Any
    factors: Any
