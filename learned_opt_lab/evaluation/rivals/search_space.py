"""Search spaces whose draws are prefixes of each other, and whose first draw is the default."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from learned_opt import ranges


class LogUniform(NamedTuple):
    """Numbers from `low` to `high`, each factor as likely."""

    low: float
    high: float

    def at(self, quantile: NDArray) -> NDArray:
        """Values at quantiles in [0, 1)."""
        return np.exp(math.log(self.low) + quantile * (math.log(self.high) - math.log(self.low)))


class Uniform(NamedTuple):
    """Numbers from `low` to `high`."""

    low: float
    high: float

    def at(self, quantile: NDArray) -> NDArray:
        """Values at quantiles in [0, 1)."""
        return self.low + quantile * (self.high - self.low)


class Choice(NamedTuple):
    """One of some numbers or of some words; of words a draw holds the index."""

    values: tuple[float, ...] | tuple[str, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """The words; none where the values are numbers."""
        return tuple(value for value in self.values if isinstance(value, str))

    def at(self, quantile: NDArray) -> NDArray:
        """Values, or indices of words, at quantiles in [0, 1)."""
        index = np.minimum((quantile * len(self.values)).astype(int), len(self.values) - 1)
        return index.astype(float) if self.words else np.asarray(self.values, float)[index]


Axis = LogUniform | Uniform | Choice


class SearchSpace(NamedTuple):
    """What is searched of an optimizer, and where the search starts.

    Attributes:
      default: hyperparameter -> its value without tuning, of every axis.
      axes: hyperparameter -> where its draws are from. A default may lie outside: no decay is no
        point of a logarithmic range.
    """

    default: Mapping[str, float | str]
    axes: Mapping[str, Axis]

    @property
    def words(self) -> dict[str, tuple[str, ...]]:
        """Of the hyperparameters that are words: what their indices stand for.

        A default that is none of the axis's words is behind them.
        """
        found = {
            name: axis.words
            for name, axis in self.axes.items()
            if isinstance(axis, Choice) and axis.words
        }
        return {
            name: words if self.default[name] in words else (*words, str(self.default[name]))
            for name, words in found.items()
        }

    def draw(self, budget: int, seed: int) -> dict[str, NDArray]:
        """The default, then `budget - 1` random draws: hyperparameter -> `[budget]`, float32.

        A larger budget with the same seed keeps the draws of a smaller one, in their order.

        Raises:
          ValueError: for a budget below 1.

        Example:
          >>> space = SearchSpace({"learning_rate": 1e-3}, {"learning_rate": LogUniform(1e-5, 1.0)})
          >>> [round(float(rate), 5) for rate in space.draw(2, seed=0)["learning_rate"]]
          [0.001, 0.01531]
        """
        budget = ranges.require_count("the budget", budget, 1, 2**31 - 1, "be at least 1")
        quantiles = np.random.default_rng(seed).random((budget - 1, len(self.axes)))
        columns = {
            name: np.append(self._number(name), axis.at(quantiles[:, i]))
            for i, (name, axis) in enumerate(self.axes.items())
        }
        return {name: column.astype(np.float32) for name, column in columns.items()}

    def _number(self, name: str) -> float:
        value = self.default[name]
        return float(self.words[name].index(value)) if isinstance(value, str) else float(value)
