"""The parameters at which an optimizer wants its loss measured, which need not be those at which it
takes gradients.
"""

from typing import Any

import jax
import optax
from optax import contrib


def evaluation_params(params: optax.Params, state: Any) -> optax.Params:
    """The parameters of a trained model: those that Schedule-Free has averaged, wherever in the
    state of a chain, a partition or a wrapper it is (arXiv 2405.15682); else `params`.

    Args:
      params: those that `update` was given and changed.
      state: the optimizer's.

    Example:
      >>> import jax.numpy as jnp
      >>> optimizer = optax.contrib.schedule_free_sgd(0.5)
      >>> params = jnp.float32(1.0)
      >>> state = optimizer.init(params)
      >>> float(evaluation_params(params, state))
      1.0
    """
    is_free = lambda node: isinstance(node, contrib.ScheduleFreeState)
    is_masked = lambda node: isinstance(node, optax.MaskedNode)
    for free in filter(is_free, jax.tree.leaves(state, is_leaf=is_free)):
        # A partition leaves nodes without arrays where another rule has its parameters.
        own = jax.tree.map(lambda z, p: z if is_masked(z) else p, free.z, params, is_leaf=is_masked)
        with jax.numpy_dtype_promotion("standard"):
            averaged = contrib.schedule_free_eval_params(free, own)
        params = jax.tree.map(
            lambda x, p: p if is_masked(x) else jax.tree.map(lambda x, p: x.astype(p.dtype), x, p),
            averaged,
            params,
            is_leaf=is_masked,
        )
    return params
