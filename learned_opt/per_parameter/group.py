"""What the update of one group of tensors reads, and what its rows become over a tensor."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from learned_opt.per_parameter.rule import UpdateRule
from learned_opt.ranges import bounded_gradient
from learned_opt.trees.averages import Averages, FactoredMoments, split_rows
from learned_opt.trees.factors import Parts, expand
from learned_opt.trees.sample import SAMPLE, lattice, picked

MeanSquares = Sequence[Array | None]
"""Of each row of a rule over its tensor; None where it is not known, or nothing asks for it."""


class GroupState(NamedTuple):
    """What the update of one group of tensors reads; averages know this step's gradient.

    A tensor alone has any shape, the same in all of these. Several are flat, one behind the other.

    Attributes:
      gradient: `[*shape]`.
      parameter: `[*shape]`.
      momenta: `[momentum decays, *shape]`.
      second_moments: `[second-moment decays, *shape]`; none where none are kept.
      factors: of each tensor in its own shape; empty where none are kept.
    """

    gradient: Array
    parameter: Array
    momenta: Array
    second_moments: Array
    factors: tuple[Parts, ...] = ()

    @property
    def arrays(self) -> tuple[Array, Array, Array, Array]:
        """All but the factors."""
        return self.gradient, self.parameter, self.momenta, self.second_moments

    def averages(self) -> Averages:
        """Of all elements."""
        if len(self.factors) <= 1:
            return _averages(*self)
        each = [jax.tree.map(jnp.ravel, expand(parts)) for parts in self.factors]
        joined = jax.tree.map(lambda *parts: jnp.concatenate(parts), *each)
        return _averages(*self.arrays)._replace(factored=joined)

    def bounded(self) -> "GroupState":
        """With a gradient in the range that averages know it by."""
        return self._replace(gradient=bounded_gradient(self.gradient))

    def map(self, function: Callable[[Array], Array]) -> "GroupState":
        """Of a tensor alone, with `function` of each array."""
        return jax.tree.map(function, self)

    def flat(self) -> "GroupState":
        """Of a tensor alone without factors, as a vector."""
        size = self.gradient.size
        return self.map(lambda x: x.reshape(*x.shape[: x.ndim - self.gradient.ndim], size))


def _averages(
    gradient: Array,
    parameter: Array,
    momenta: Array,
    second_moments: Array,
    factors: Sequence[Parts] = (),
) -> Averages:
    factored = expand(factors[0]) if factors else FactoredMoments()
    return Averages(gradient, parameter, split_rows(momenta), split_rows(second_moments), factored)


def sampled_rows(rule: UpdateRule, state: GroupState) -> list[bool]:
    """For which rows of a tensor alone a sample will do; for none of a small tensor."""
    is_large = state.gradient.size > SAMPLE
    return [is_large and over is not None and over.is_sampled for over in rule.over_tensor]


def sample_of(state: GroupState, is_spread: bool = False) -> GroupState:
    """A sample of a large tensor's elements; `is_spread` as in `update_group`."""
    strides = lattice(state.gradient.shape)
    return state.map(lambda x: picked(x, strides, is_spread))


def mean_squares_of_sample(
    rule: UpdateRule, is_sampled: Sequence[bool], sample: GroupState
) -> Array:
    """Of those rows of a sample, in one reduction, which is one message where it is spread."""
    chosen = jnp.stack(rule.some_rows(sample.averages(), is_sampled))
    return jnp.mean(chosen * chosen, axis=tuple(range(1, chosen.ndim)))


def sampled_mean_squares(
    rule: UpdateRule, state: GroupState, is_spread: bool = False
) -> list[Array | None]:
    """Of the rows for which a sample will do."""
    is_sampled = sampled_rows(rule, state)
    if not any(is_sampled):
        return [None] * len(is_sampled)
    squares = iter(mean_squares_of_sample(rule, is_sampled, sample_of(state, is_spread)))
    return [next(squares) if sampled else None for sampled in is_sampled]


def mean_squares(rule: UpdateRule, rows: Sequence[Array], known: MeanSquares) -> list[Array | None]:
    """Of all rows of a tensor alone that ask for theirs; `known` are those of a sample."""
    return [
        jnp.mean(row * row) if square is None and over is not None else square
        for row, over, square in zip(rows, rule.over_tensor, known, strict=True)
    ]


def whole(rule: UpdateRule, rows: Sequence[Array], squares: MeanSquares) -> list[Array]:
    """What rows become over their tensor, with its mean squares."""
    each = zip(rows, rule.over_tensor, squares, strict=True)
    return [row if over is None else over.function(row, square) for row, over, square in each]
