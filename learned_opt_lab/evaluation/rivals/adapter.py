"""Other people's learned optimizers as Optax transformations."""

from collections.abc import Callable
from typing import Any

import jax
import optax


def as_optax(
    init: Callable[[optax.Params], Any],
    update: Callable[[Any, optax.Updates, jax.Array], Any],
    get_params: Callable[[Any], optax.Params],
) -> optax.GradientTransformationExtraArgs:
    """An optimizer that holds the parameters in its own state, as an Optax transformation.

    Learned optimizers are often written so: `state = update(state, gradient, loss)`, with
    parameters that are read of the state. Here the state is Optax's, and an update is the new
    parameters less those that `update` was given, so wrappers that change an update in between
    are not seen by it. Two copies of the parameters are held.

    Args:
      init: `params -> state`; the length of the run, the weights and a key are bound by the caller.
      update: `(state, gradient, loss) -> state`, on the mean loss of the batch.
      get_params: `state -> params`.

    Returns:
      A transformation whose `update` needs `params` and the extra argument `value`, which an
      evaluation gives.

    Raises:
      ValueError: by its `update`, without `params` or `value`.

    Example:
      >>> import jax.numpy as jnp
      >>> halving = as_optax(
      ...     init=lambda params: params,
      ...     update=lambda state, gradient, loss: state - 0.5 * loss * gradient,
      ...     get_params=lambda state: state,
      ... )
      >>> params = jnp.float32(3.0)
      >>> update, _ = halving.update(jnp.float32(1.0), halving.init(params), params, value=2.0)
      >>> float(params + update)
      2.0
    """

    def updated(gradient, state, params=None, *, value=None, **extra_args):
        del extra_args
        if params is None or value is None:
            raise ValueError("update needs params and value=, the loss of the batch")
        state = update(state, gradient, value)
        step = jax.tree.map(
            lambda new, old: (new - old).astype(old.dtype), get_params(state), params
        )
        return step, state

    return optax.GradientTransformationExtraArgs(init, updated)
