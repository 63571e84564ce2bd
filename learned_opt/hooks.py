"""Learning rate and weight decay around a learned optimizer, which has neither of its own."""

import math
from collections.abc import Callable
from typing import Any

import jax
import optax


def with_hooks(
    optimizer: optax.GradientTransformationExtraArgs,
    learning_rate: optax.ScalarOrSchedule | None = None,
    weight_decay: float = 0.0,
    mask: Any | Callable[[optax.Params], Any] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """`w <- w + learning_rate(t) * (update - weight_decay * w)`, as in AdamW (arXiv 1711.05101).

    Args:
      optimizer: its updates are to be added to the parameters.
      learning_rate: factor of the learned step, or an Optax schedule of it; 1 or None leaves the step as it was
        learned. A scalar may be traced, so `optax.inject_hyperparams` works.
      weight_decay: share of a parameter taken away a step, before the factor.
      mask: tree of bools shaped as the parameters (or a prefix of it), or a function that gives one: what decays.

    Returns:
      The optimizer itself if there is nothing to add, so that its state stays what it was.

    Raises:
      ValueError: for a rate or decay that is negative or not finite.
    """
    for name, value in (("learning_rate", learning_rate), ("weight_decay", weight_decay)):
        if isinstance(value, int | float) and not 0 <= value < math.inf:
            raise ValueError(f"{name} must be at least 0 and finite, got {value}")
    parts = [optimizer]
    if isinstance(weight_decay, jax.Array) or weight_decay:
        parts.append(optax.add_decayed_weights(-weight_decay, mask))
    if callable(learning_rate):
        parts.append(optax.scale_by_schedule(learning_rate))
    elif learning_rate is not None:
        parts.append(optax.scale(learning_rate))
    return optimizer if len(parts) == 1 else optax.with_extra_args_support(optax.chain(*parts))
