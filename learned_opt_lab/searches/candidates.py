"""What a search moves: a few numbers, what they are drawn from first,
and the theta that they make.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from numpy.typing import NDArray

from learned_opt import LearnedOptimizer, Theta


class Distribution(NamedTuple):
    """What candidates are drawn from: independent normals, `[numbers]` each."""

    mean: NDArray
    std: NDArray


class Candidates(NamedTuple):
    """The numbers of a search, and what is made of them.

    Attributes:
      start: what the first generation is drawn from.
      to_theta: a candidate's numbers to its theta.
      optimizer: that all thetas are of.
      saved_as: numbers to the name and the arguments of the optimizer with which `learned_opt.save`
        writes their theta.
      describe: numbers to what is written about them, by names.
    """

    start: Distribution
    to_theta: Callable[[NDArray], Theta]
    optimizer: LearnedOptimizer
    saved_as: Callable[[NDArray], tuple[str, dict[str, Any]]]
    describe: Callable[[NDArray], dict[str, Any]]
