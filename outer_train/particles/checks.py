"""What estimators refuse: systems that they cannot unroll, and lengths of truncations."""

import jax
import jax.numpy as jnp
from jax import Array

from outer_train.checks import check_count
from outer_train.problem import SUM_REDUCTIONS, UnrolledSystem
from outer_train.trees import widen


def checked_length(num_steps: int | Array, max_num_steps: int) -> Array:
    """The truncation length as an int32 scalar.

    Raises:
      ValueError: for a known length that is no whole number in `[1, max_num_steps]`; a traced one
        is cut to it.
    """
    known = not isinstance(num_steps, jax.core.Tracer)
    if known and not (1 <= num_steps <= max_num_steps and int(num_steps) == num_steps):
        raise ValueError(
            f"num_steps must lie in [1, max_num_steps = {max_num_steps}], got {num_steps}"
        )
    return jnp.clip(jnp.asarray(num_steps, jnp.int32), 1, max_num_steps)


def check_system(
    problem: UnrolledSystem, estimator: str, *, needs_sum: bool = True
) -> UnrolledSystem:
    """Refuses a problem that an estimator cannot take, before anything is traced.

    Args:
      problem: the unrolled system.
      estimator: for messages.
      needs_sum: whether its outer loss has to be a sum of step losses.

    Returns:
      The problem, with a step that refuses to change what its state looks like, and losses of at
        least float32: whole
      numbers have derivatives then, zero almost everywhere.

    Raises:
      ValueError: saying what is wrong, and what can take the problem.
    """
    check_count(**{"num_steps of the problem": problem.num_steps})
    if needs_sum and problem.reduction not in SUM_REDUCTIONS:
        raise ValueError(
            f"{estimator} adds up step losses over truncations, and {problem.reduction!r} is no "
            "sum of step losses; "
            f"use one of {', '.join(SUM_REDUCTIONS)}, or full_es, which sees whole episodes"
        )

    def step(theta, state, key, data):
        new_state, loss = problem.step(theta, state, key, data)
        if jnp.shape(loss) or jnp.issubdtype(jnp.result_type(loss), jnp.complexfloating):
            raise ValueError(
                f"a step's loss must be one real number, got {jnp.result_type(loss)} of shape "
                f"{jnp.shape(loss)}"
            )
        before, after = _kind(state), _kind(new_state)
        if before != after:
            raise ValueError(
                f"a step must not change its state's shapes and types, {before}, and made them "
                f"{after}"
            )
        return new_state, widen(loss)

    return problem._replace(step=step)


def _kind(tree):
    return ", ".join(f"{jnp.result_type(x)}{list(jnp.shape(x))}" for x in jax.tree.leaves(tree))
