"""The update of one step, for any number of parameters side by side:

    step = step_multiplier * d * exp(exp_multiplier * m),    w <- w - step

with the direction d and the magnitude m from the MLP, and no step where a parameter rests.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from learned_opt.base import Theta
from learned_opt.per_parameter.features import OverTensor, feature_rows, rows_over_tensor
from learned_opt.per_parameter.kernel import is_summed, matmul_rows, mlp_rows
from learned_opt.per_parameter.rest import is_moving
from learned_opt.per_parameter.theta import Settings, layers_at
from learned_opt.trees.averages import Averages, debias_factors


class Step(NamedTuple):
    """What a rule makes of its rows.

    Attributes:
      update: `[n]`, to be added to the parameters; 0 where a parameter rests.
      direction: `[n]`, the d that the update is linear in, 0 alike; None where nobody asks for it.
    """

    update: Array
    direction: Array | None = None


class UpdateRule(NamedTuple):
    """The update of one step.

    Attributes:
      rows: `averages -> rows [n]`, each element on its own: inputs, and last, as booleans, which
        parameters move.
      some_rows: `(averages, wanted) -> rows [n]`, those of the inputs for which `wanted` is true.
      over_tensor: for each row what is made of it once its mean square over the tensor is known;
        None for nothing.
      step: `(weights, rows) -> Step`, from rows `[n]` or scalars that stand for as many equal ones;
        what may carry a derivative comes in by the arguments.
      weights: any tree of arrays, for `step`.
      is_one_loop: whether rows and `step` are elementwise throughout, so that nothing they compute
        needs memory.
      rms_normalized: whether the update is still to be divided by the root mean square of its
        direction, over the parameters of the tensor that move.
    """

    rows: Callable[[Averages], list[Array]]
    some_rows: Callable[[Averages, Sequence[bool]], list[Array]]
    over_tensor: Sequence[OverTensor | None]
    step: Callable[[Any, list[Array]], Step]
    weights: Any
    is_one_loop: bool = False
    rms_normalized: bool = False


def update_rule(settings: Settings, theta: Theta, count: Array, dtype: DTypeLike) -> UpdateRule:
    """The rule of an optimizer.

    Args:
      settings: of it: its features and multipliers, the `Decays` of its averages, the bound of its
        inputs, whether its steps are normalized. Second moments that the state does not keep are
        zero.
      theta: its weights.
      count: updates made before.
      dtype: in which all is computed.
    """
    rms_normalized, input_bound = settings.rms_normalized, settings.input_bound
    # In floating point: the last count of an int32 plus one is negative.
    debias = debias_factors(settings.decays, count.astype(dtype) + 1)
    over_tensor = rows_over_tensor(settings.features, settings.decays)
    weights, biases = layers_at(settings, len(over_tensor), theta, count, dtype)
    sums = is_summed(len(weights), len(over_tensor))

    def inputs(averages: Averages, wanted: Sequence[bool] | None = None) -> list[Array]:
        if not averages.second_moments:
            held = [jnp.zeros_like(averages.gradient)] * len(settings.decays.second_moments)
            averages = averages._replace(second_moments=held)
        return feature_rows(settings.features, averages, debias, wanted)

    def rows(averages: Averages) -> list[Array]:
        return [*inputs(averages), is_moving(averages, settings.decays)]

    def step(layers: tuple[list[Array], list[Array]], rows: list[Array]) -> Step:
        *inputs, moving = rows
        if input_bound is not None:
            inputs = [jnp.clip(row, -input_bound, input_bound) for row in inputs]
        direction, magnitude = (mlp_rows if sums else matmul_rows)(*layers, inputs)
        update = (
            -settings.step_multiplier * direction * jnp.exp(settings.exp_multiplier * magnitude)
        )
        update = jnp.where(moving, update, jnp.zeros_like(update))
        return Step(
            update,
            jnp.where(moving, direction, jnp.zeros_like(direction)) if rms_normalized else None,
        )

    return UpdateRule(
        rows=rows,
        some_rows=inputs,
        over_tensor=[*over_tensor, None],
        step=step,
        weights=(weights if sums else [weight.T for weight in weights], biases),
        # What a factored average is to a parameter lies in its row and its column.
        is_one_loop=sums and not settings.decays.factored,
        rms_normalized=rms_normalized,
    )


def stepped(rule: UpdateRule, rows: list[Array], is_spread: bool = False) -> Step:
    """The rule's step of rows of any shape, `[*shape]` each or scalars.

    A vector in between, since products go over blocks of one, unless the rows may be spread.
    """
    if rule.is_one_loop:
        # Without the barrier XLA computes the rows anew for each of their many readers.
        return rule.step(rule.weights, lax.optimization_barrier(rows))
    shape = jnp.broadcast_shapes(*(row.shape for row in rows))
    if is_spread or len(shape) == 1:
        return rule.step(rule.weights, rows)
    step = rule.step(rule.weights, [row.reshape(-1) if row.ndim else row for row in rows])
    return Step(
        *(
            None if x is None else jnp.broadcast_to(x, (math.prod(shape),)).reshape(shape)
            for x in step
        )
    )
