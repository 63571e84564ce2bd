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

from tasks import SPLITS, Batch, Data, Key, StatefulTask, Task, as_stateful
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
      measure: `(params, model_state, data) -> measures`.
      num_points: measurements, evenly spaced; divides the number of steps.
    """

    rate_of: Callable[[Any, Array], Array]
    measure: Callable[[Any, Any, Data], dict[str, Array]]
    num_points: int = 1


Objective = Callable[[Any, Any, Key, Data], Array]
"""`(params, model_state, key, data) -> E`; the key is the step's own, for an objective on a random
batch."""


def train(
    task: Task | StatefulTask,
    objective: Objective,
    transformation: optax.GradientTransformationExtraArgs,
    recording: Recording,
    data: Data,
    key: Key,
    num_steps: int,
) -> Run:
    """One run. The key fixes initial weights and minibatches, whatever the optimizer.

    Args:
      task: gives weights, minibatches and training losses, and a model state that the training goes
        on from.
      objective: what online methods descend; as at test time, it changes no state.
      transformation: any; hypergradient optimizers are given `value_fn` and `objective_grad`.
      recording: what of it to keep.
      data: handed to the task.
      key: of the run.
      num_steps: T.
    """
    key_init, key_steps = jax.random.split(key)
    trained = _Training(as_stateful(task), objective, optax.with_extra_args_support(transformation))

    def step(carry, i):
        carry, loss = trained.step(carry, jax.random.fold_in(key_steps, i), data)
        return carry, (recording.rate_of(carry[2], i), loss)

    def between_points(carry, steps):
        carry, (rates, losses) = jax.lax.scan(step, carry, steps)
        return carry, (rates, losses, recording.measure(*carry[:2], data))

    steps = jnp.arange(num_steps, dtype=jnp.int32).reshape(recording.num_points, -1)
    _, (rates, losses, measures) = jax.lax.scan(between_points, trained.start(key_init), steps)
    return Run(rates.reshape(num_steps), losses.reshape(num_steps), measures)


def step_cost(
    task: Task | StatefulTask,
    objective: Objective,
    transformation: optax.GradientTransformationExtraArgs,
    data: Data,
) -> dict[str, float]:
    """What one training step takes, as the compiler counts it: no clock, so that a busy machine
    measures the same.

    Args:
      task: as in `train`.
      objective: as in `train`; it costs nothing where the optimizer does not ask for its gradient.
      transformation: as in `train`.
      data: as in `train`; not counted in the bytes of the state.

    Returns:
      `flops`; `bytes_accessed`, read and written by all operations; `temporary_bytes`, at once
      beside arguments and results; `state_bytes`, of weights, model state and optimizer.
    """
    trained = _Training(as_stateful(task), objective, optax.with_extra_args_support(transformation))
    key = jax.random.key(0)
    carry = jax.eval_shape(trained.start, key)
    compiled = jax.jit(trained.step, donate_argnums=0).lower(carry, key, data).compile()
    counted, memory = compiled.cost_analysis(), compiled.memory_analysis()
    return {
        "flops": float(counted["flops"]),
        "bytes_accessed": float(counted["bytes accessed"]),
        "temporary_bytes": float(memory.temp_size_in_bytes),
        "state_bytes": float(sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(carry))),
    }


class _Training(NamedTuple):
    """A training as its start and its step on `(params, model_state, opt_state)`."""

    task: StatefulTask
    objective: Objective
    transformation: optax.GradientTransformationExtraArgs

    def start(self, key):
        params, model_state = self.task.init(key)
        return params, model_state, self.transformation.init(params)

    def step(self, carry, key, data):
        params, model_state, opt_state = carry
        key_batch, key_loss, key_objective = jax.random.split(key, 3)
        batch = self.task.sample_batch(data, key_batch, "train")
        loss_fn = lambda p: self.task.loss(p, model_state, key_loss, batch)
        (loss, (new_state, _)), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
        objective_grad = jax.grad(self.objective)(params, model_state, key_objective, data)
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = self.transformation.update(
                grads, opt_state, params, value_fn=loss_fn, objective_grad=objective_grad
            )
        return (optax.apply_updates(params, updates), new_state, opt_state), loss


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
