"""Whether an optimizer that somebody names can be trained with, found out before anything is."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from learned_opt_lab.evaluation.rivals.rival import Rival
from learned_opt_lab.evaluation.training import Trained, train_step
from tasks import Task, as_stateful

_STEPS = 100


def _loss(params: Any, key: Array, batch: Array) -> tuple[Array, dict[str, Array]]:
    del key
    return jnp.mean((batch @ params["w"] + params["b"]) ** 2), {}


_TASK = as_stateful(
    Task(
        init=lambda key: {"w": jax.random.normal(key, (2, 3)), "b": jnp.zeros(3)},
        loss=_loss,
        sample_batch=lambda data, key, split: jax.random.normal(key, (4, 2)),
    )
)
"""A matrix and a vector, so that optimizers that tell them apart meet both."""


def check_trains(what: str, rival: Rival) -> None:
    """Traces a training step at the rival's default, as a search will run it.

    Args:
      what: it is called in messages.
      rival: to try.

    Raises:
      ValueError: in one line, whatever goes wrong.
    """

    def trained(hyperparameters: Any) -> Trained:
        optimizer = optax.with_extra_args_support(rival.optimizer(hyperparameters, _STEPS))
        key = jax.random.key(0)
        params, model_state = _TASK.init(key)
        start = Trained(params, model_state, optimizer.init(params))
        return train_step(_TASK, optimizer, rival.extra_args, None, key, start)

    default = {name: values[0] for name, values in rival.space.draw(1, 0).items()}
    try:
        with jax.numpy_dtype_promotion("standard"):
            jax.eval_shape(trained, default)
    except jax.errors.ConcretizationTypeError as error:
        raise ValueError(
            f"{what} decides by the value of a hyperparameter, which is traced; give it in "
            "[given] of its file"
        ) from error
    except Exception as error:  # whatever a factory, or its optimizer, raises
        reason = " ".join(str(error).split())[:200] or "no reason"
        raise ValueError(
            f"{what} is no factory of an optimizer: {type(error).__name__}: {reason}"
        ) from error
