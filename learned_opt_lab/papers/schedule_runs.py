"""Many training runs as one program:
hyperparameters and seeds on one axis, spread over the devices.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import AxisType, Mesh, PartitionSpec

from tasks import SPLITS, Batch, Data, Key, Task
from tasks.images import ImageData

_AXIS = "runs"


def split_rows(data: ImageData, split: str, max_examples: int | None = None) -> np.ndarray:
    """Rows of a whole split, or `max_examples` of them, evenly over its classes."""
    row = SPLITS.index(split)
    start, count = int(np.asarray(data.starts)[row].min()), int(np.asarray(data.counts)[row].sum())
    return start + np.linspace(0, count - 1, min(count, max_examples or count)).astype(np.int32)


def rows_of(data: ImageData, rows: np.ndarray) -> Batch:
    """The examples of these rows as one batch."""
    return {
        "image": (data.images[rows].astype(jnp.float32) - data.mean) / data.std,
        "label": data.labels[rows],
    }


class Run(NamedTuple):
    """What one run leaves behind.

    Attributes:
      rates: `[T]`, of its steps.
      losses: `[T]`, on its minibatches.
      measures: what was measured, each `[num_points, ...]`, the last after the last step.
    """

    rates: Array
    losses: Array
    measures: dict[str, Array]


class Recording(NamedTuple):
    """What is recorded of a run.

    Attributes:
      rate_of: `(opt_state, step) -> rate` of the step just taken.
      measure: `(params, data) -> measures`.
      num_points: measurements, evenly spaced; divides the number of steps.
    """

    rate_of: Callable[[Any, Array], Array]
    measure: Callable[[Any, Data], dict[str, Array]]
    num_points: int = 1


def train(
    task: Task,
    objective: Callable[[Any, Key, Data], Array],
    transformation: optax.GradientTransformationExtraArgs,
    recording: Recording,
    data: Data,
    key: Key,
    num_steps: int,
) -> Run:
    """One run. The key fixes initial weights and minibatches, whatever the optimizer.

    Args:
      task: gives weights, minibatches and training losses.
      objective: `(params, key, data) -> E`; the key is the step's own, for an objective on a random
        batch.
      transformation: any; hypergradient optimizers are given `value_fn` and `objective_grad`.
      recording: what of it to keep.
      data: handed to the task.
      key: of the run.
      num_steps: T.
    """
    key_init, key_steps = jax.random.split(key)
    transformation = optax.with_extra_args_support(transformation)

    def step(carry, i):
        params, opt_state = carry
        key_batch, key_loss, key_objective = jax.random.split(jax.random.fold_in(key_steps, i), 3)
        batch = task.sample_batch(data, key_batch, "train")
        value_fn = lambda p: task.loss(p, key_loss, batch)[0]
        loss, grads = jax.value_and_grad(value_fn)(params)
        objective_grad = jax.grad(objective)(params, key_objective, data)
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = transformation.update(
                grads, opt_state, params, value_fn=value_fn, objective_grad=objective_grad
            )
        return (optax.apply_updates(params, updates), opt_state), (
            recording.rate_of(opt_state, i),
            loss,
        )

    def between_points(carry, steps):
        carry, (rates, losses) = jax.lax.scan(step, carry, steps)
        return carry, (rates, losses, recording.measure(carry[0], data))

    params = task.init(key_init)
    steps = jnp.arange(num_steps, dtype=jnp.int32).reshape(recording.num_points, -1)
    _, (rates, losses, measures) = jax.lax.scan(
        between_points, (params, transformation.init(params)), steps
    )
    return Run(rates.reshape(num_steps), losses.reshape(num_steps), measures)


def over_runs(function: Callable[..., Any], one_by_one: bool = False) -> Callable[..., Any]:
    """Maps `(run arguments..., data)` over a leading axis of all but the last argument,
    sharded over all devices.

    A device takes its runs at once, or, where they are large enough to fill it, one by one. The
    number of runs need not divide: the last run fills up, and is cut off again.
    """
    mesh = jax.make_mesh((len(jax.devices()),), (_AXIS,), axis_types=(AxisType.Auto,))
    program = _sharded(function, mesh, one_by_one)  # once: another call compiles nothing

    def call(*arguments):
        *run_arguments, data = arguments
        num_runs = jax.tree.leaves(run_arguments)[0].shape[0]
        padded = -(-num_runs // mesh.size) * mesh.size
        picked = jnp.minimum(jnp.arange(padded), num_runs - 1)
        run_arguments = jax.tree.map(lambda x: x[picked], tuple(run_arguments))
        results = program(run_arguments, data)
        return jax.tree.map(lambda x: np.asarray(x)[:num_runs], results)

    return call


def _sharded(function: Callable[..., Any], mesh: Mesh, one_by_one: bool) -> Callable[..., Any]:
    def mapped(run_arguments, data):
        one = lambda arguments: function(*arguments, data)
        return jax.lax.map(one, run_arguments) if one_by_one else jax.vmap(one)(run_arguments)

    specs = (PartitionSpec(_AXIS), PartitionSpec())
    return jax.jit(
        jax.shard_map(
            mapped, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(_AXIS), check_vma=False
        )
    )
