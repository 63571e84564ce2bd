"""Learning rate and weight decay around a learned optimizer, which has neither of its own."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from learned_opt import ranges
from learned_opt.trees.gradient_tree import map_trained, widened
from learned_opt.trees.packing import as_update
from learned_opt.trees.spread import zero_count
from learned_opt.trees.state_check import REMEDY


def with_hooks(
    optimizer: optax.GradientTransformationExtraArgs,
    learning_rate: optax.ScalarOrSchedule | None = None,
    weight_decay: float = 0.0,
    mask: Any | Callable[[optax.Params], Any] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """`w <- w + learning_rate(t) * (update - weight_decay * w)`, as in AdamW (arXiv 1711.05101).

    Args:
      optimizer: its updates are to be added to the parameters.
      learning_rate: factor of the learned step, or an Optax schedule of it; 1 or None leaves the
        learned step alone. A scalar may be traced, so `optax.inject_hyperparams` works. A step
        whose rate turns out infinite or nan is not made.
      weight_decay: share of a parameter taken away a step, before the factor.
      mask: tree of bools shaped as the parameters (or a prefix of it), or a function that gives
        one: what decays.

    Returns:
      The optimizer itself if there is nothing to add, so that its state stays what it was.

    Raises:
      ValueError: for a rate or decay that is negative or not finite.
    """
    for name, value in (("learning_rate", learning_rate), ("weight_decay", weight_decay)):
        is_schedule = name == "learning_rate" and (value is None or callable(value))
        if not is_schedule and not isinstance(value, jax.core.Tracer):
            ranges.require_non_negative(name, value, "be at least 0 and finite")
    parts = [optimizer]
    if isinstance(weight_decay, jax.Array) or weight_decay:
        decay = _subtract_decay(weight_decay)
        parts.append(decay if mask is None else optax.masked(decay, mask))
    if learning_rate is not None:
        parts.append(_scale(learning_rate))
    return optimizer if len(parts) == 1 else _chained(parts)


def _chained(parts: list[Any]) -> optax.GradientTransformationExtraArgs:
    """`optax.chain`, which tells a state that is no chain's by its length alone."""
    chain = optax.with_extra_args_support(optax.chain(*parts))

    def update(updates, state, params=None, **extra_args):
        is_chain = isinstance(state, tuple | list) and not hasattr(state, "_fields")
        if not is_chain or len(state) != len(parts):
            got = f"{len(state)} parts" if is_chain else f"a {type(state).__name__}"
            raise ValueError(
                "load: with a learning_rate or weight_decay the state is a tuple of "
                f"{len(parts)} parts, got {got}; {REMEDY}"
            )
        return chain.update(updates, state, params, **extra_args)

    return optax.GradientTransformationExtraArgs(chain.init, update)


def _subtract_decay(weight_decay: Any) -> optax.GradientTransformation:
    """`optax.add_decayed_weights(-weight_decay)` that is computed
    in float32 and keeps the updates' types.
    """

    def update(updates, state, params=None):
        if params is None:
            raise ValueError(
                "weight_decay is of the parameters: got None, call update(grads, state, params)"
            )
        share = _scalar("weight_decay", weight_decay)

        def decayed(u, w):
            step = widened(u)
            return as_update(
                step - share.astype(step.dtype) * widened(w).astype(step.dtype), u.dtype
            )

        return map_trained(decayed, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _scale(learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    """`optax.scale` or `optax.scale_by_schedule`.

    A rate of 0 is no step, whatever the step would have been.
    """

    def init(params):
        return (
            optax.ScaleByScheduleState(zero_count(params))
            if callable(learning_rate)
            else optax.EmptyState()
        )

    def update(updates, state, params=None):
        del params
        rate = _scalar(
            "learning_rate",
            learning_rate(state.count) if callable(learning_rate) else learning_rate,
        )

        def scaled(u):
            step = widened(u)
            step = jnp.where(rate == 0, jnp.zeros_like(step), rate.astype(step.dtype) * step)
            return as_update(step, u.dtype)

        if callable(learning_rate):
            state = optax.ScaleByScheduleState(optax.safe_increment(state.count))
        return map_trained(scaled, updates), state

    return optax.GradientTransformation(init, update)


def _scalar(name: str, value: Any) -> Array:
    """0 if it is not finite: times a step of zero it would be nan."""
    value = jnp.asarray(value, None if hasattr(value, "dtype") else jnp.result_type(float))
    if value.ndim:
        raise ValueError(f"{name} must be a scalar at every step, got shape {value.shape}")
    return ranges.finite_or_zero(value)
