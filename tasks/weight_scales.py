"""Weight-scale augmentation: the same tasks in other units of their parameters."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from tasks.base import Key, ModelState, Params, StatefulTask, Task, TaskFamily, TaskParams


def rescaled_weights(family: TaskFamily, max_scale: float) -> TaskFamily:
    """Every tensor w of a task is held as w / c, with a c of its own for each task and tensor.

    log c is uniform within plus and minus log(max_scale). The task's losses stay what they were;
    gradients grow c times and the best steps shrink c times, so that an optimizer sees other
    proportions between weights, gradients and steps than those of one initialization (as the
    reparameterized weights of arXiv 2203.11860).

    Args:
      family: any family whose parameters are arrays of a floating type.
      max_scale: at least 1; 1 gives the family itself.

    Returns:
      A family of the same data; its task parameters are
      `(inner task parameters, key of the scales)`.

    Raises:
      ValueError: for a scale below 1 or not finite.
    """
    if not 1.0 <= max_scale < math.inf:
        raise ValueError(f"max_scale must be at least 1 and finite, got {max_scale}")
    if max_scale == 1.0:
        return family

    def sample(key: Key) -> TaskParams:
        key_task, key_scales = jax.random.split(key)
        # The words of a typed key, since task parameters are selected
        # between like any other arrays.
        return family.sample(key_task), jax.random.key_data(key_scales)

    def scales(words: jax.Array, params: Params) -> Params:
        leaves, treedef = jax.tree.flatten(params)
        bound = math.log(max_scale)
        logs = jax.random.uniform(
            jax.random.wrap_key_data(words), (len(leaves),), jnp.float32, -bound, bound
        )
        return jax.tree.unflatten(treedef, list(jnp.exp(logs)))

    def task(drawn: TaskParams) -> Task | StatefulTask:
        inner_params, words = drawn
        inner = family.task(inner_params)

        def held(params: Params) -> Params:
            return jax.tree.map(lambda w, c: w / c.astype(w.dtype), params, scales(words, params))

        def unscaled(loss: Callable) -> Callable:
            def of_held(params: Params, *rest: Any) -> Any:
                own = jax.tree.map(
                    lambda w, c: w * c.astype(w.dtype), params, scales(words, params)
                )
                return loss(own, *rest)

            return of_held

        scaled = inner._replace(loss=unscaled(inner.loss))
        if isinstance(scaled, StatefulTask):

            def init(key: Key) -> tuple[Params, ModelState]:
                params, model_state = inner.init(key)
                return held(params), model_state

            return scaled._replace(init=init, eval_loss=unscaled(scaled.eval_loss))
        return scaled._replace(init=lambda key: held(inner.init(key)))

    return family._replace(sample=sample, task=task)
