"""The kinds of truncation schedules of a run."""

import dataclasses
from typing import ClassVar

from configs.base.kinds import Kind, register


class Truncation(Kind):
    """Inner steps between two outer updates.

    `builds` is called with the kind's fields and gives an
    `outer_train.truncation.TruncationSchedule`.

    Attributes:
      longest: the field that no length exceeds, but for a jitter.
    """

    longest: ClassVar[str]


@register
@dataclasses.dataclass(frozen=True)
class Constant(Truncation):
    """Truncations of one length."""

    builds = "outer_train.truncation:constant"
    longest = "num_steps"

    num_steps: int = 20
    """Inner steps of every truncation."""


@register
@dataclasses.dataclass(frozen=True)
class Linear(Truncation):
    """Truncations that grow linearly over outer-training, as in arXiv 1810.10180."""

    builds = "outer_train.truncation:linear"
    longest = "end"

    start: int = 50
    """Inner steps of the first truncation."""
    end: int = 10_000
    """Inner steps at the schedule's end and after it."""
    num_outer_steps: int = 5_000
    """Outer steps the growth takes."""
    jitter: float = 0.2
    """Each length is multiplied by a uniform draw from [1 - jitter, 1 + jitter]."""


@register
@dataclasses.dataclass(frozen=True)
class LogUniform(Truncation):
    """Truncations whose logarithm is uniform between two lengths."""

    builds = "outer_train.truncation:log_uniform"
    longest = "high"

    low: int = 50
    """Shortest truncation, inner steps."""
    high: int = 1_000
    """Longest truncation, inner steps."""
