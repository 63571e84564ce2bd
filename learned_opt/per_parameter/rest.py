"""When a parameter rests: no gradient, no step.

A per-parameter MLP gives a step for inputs of zero too: its biases, a weight decay it has learned,
what it makes of the time. A parameter that the loss does not depend on (a frozen backbone, an
embedding row that no batch names, a pruned weight) would drift by it. So a parameter moves only
while its gradient lives,

    g^2 + m^2 > (2^-20 h)^2

with m the average of the gradient that forgets fastest, and h what the longest memory says of the
gradient's size: the root of the slowest second moment, or the slowest average. All of it is in the
gradient's own unit. A gradient that has been zero since `init` gives 0 > 0. One that becomes zero
for good brings its parameter to rest within `steps_to_rest` updates; so does one that falls to a
millionth of what it was, as all do after a single one of 1e20.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

from learned_opt.ranges import LARGEST_GRADIENT
from learned_opt.trees.averages import Averages, Decays

REST = 2.0**-20
"""Share of its remembered size below which a gradient counts as none:
eight times the rounding of a float32."""
FORGETS = 0.99
"""Largest decay of an average that may speak for the gradient of the last few steps;
without one this step's does."""


def fastest(momentum_decays: Sequence[float]) -> int | None:
    """Which average speaks for the last few steps' gradient, if one does."""
    decay, index = min(((decay, i) for i, decay in enumerate(momentum_decays)), default=(1.0, None))
    return index if decay <= FORGETS else None


def slowest(decays: Sequence[float]) -> int | None:
    """Which average remembers longest."""
    return max(((decay, i) for i, decay in enumerate(decays)), default=(0.0, None))[1]


def is_moving(averages: Averages, decays: Decays) -> Array:
    """Which parameters move, `[n]` booleans; the others rest.

    Args:
      averages: of `n` parameters. Where no second moments of theirs are kept, the factored ones
        remember for them.
      decays: of these averages.
    """
    square = averages.gradient * averages.gradient
    recent, memory = fastest(decays.momenta), slowest(decays.momenta)
    if recent is not None:
        square = square + averages.momenta[recent] * averages.momenta[recent]
    if averages.second_moments:
        remembered = averages.second_moments[slowest(decays.second_moments)]
    elif averages.factored.estimates:
        remembered = averages.factored.estimates[slowest(decays.factored)]
    elif memory is not None and memory != recent:
        remembered = averages.momenta[memory] * averages.momenta[memory]
    else:
        remembered = jnp.zeros_like(square)
    # Not "above": what is not a number moves, so that it is seen.
    return jnp.logical_not(square <= REST**2 * remembered)


def steps_to_rest(momentum_decays: Sequence[float], second_moment_decays: Sequence[float]) -> int:
    """Updates with a gradient of zero after which a parameter rests,
    whatever its gradients were before.

    27 with momentum decays from 0.5 and a second moment of 0.999; 0 without an average that forgets
    within some hundred steps. An average is at most 2^6 times the root of a second moment at the
    time the gradient stops (one that has just begun). An average of signed gradients may be
    anything there, 0 too: without second moments the recent average has to vanish, 125 steps with a
    decay of 0.5. That many are for float32; float64 goes on to smaller numbers.
    """
    recent = fastest(momentum_decays)
    if recent is None:
        return 0
    decay = momentum_decays[recent]
    # Halvings from the largest gradient to one whose square is 0.
    until_zero = 75 + math.log2(LARGEST_GRADIENT)
    if not decay:
        return 1
    halvings = until_zero / -math.log2(decay)
    memory = max(second_moment_decays, default=0.0) ** 0.5
    if memory > decay:
        halvings = min(halvings, (-math.log2(REST) + 6.0) / math.log2(memory / decay))
    return math.ceil(halvings)
