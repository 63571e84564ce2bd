"""One training run of an evaluation: where it starts, its steps, and what is measured of it."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from learned_opt_lab.evaluation.evaluation_parameters import evaluation_params
from tasks import SPLITS, Data, Key, StatefulTask, TaskFamily, as_stateful


class Runs(NamedTuple):
    """The keys of the runs, each `[num_runs]`: which task, which initialization and batches."""

    task: Key
    seed: Key


class Plan(NamedTuple):
    """Steps, measurements and extra arguments of a run; fields as the arguments of
    `learned_opt_lab.evaluation.sweep.make_sweep`.
    """

    num_steps: int
    splits: tuple[str, ...]
    eval_every: int
    num_eval_batches: int
    extra_args: tuple[str, ...]

    @property
    def num_points(self) -> int:
        """Measurements of a run, the one before its first step among them."""
        return self.num_steps // self.eval_every + 1


class Trained(NamedTuple):
    """How far a run has come: parameters, the network's own state (`()` if it has none), and the
    optimizer's.
    """

    params: Any
    model_state: Any
    opt_state: Any


class Begun(NamedTuple):
    """Runs before their first step, every leaf `[num_runs, ...]`, or one of them.

    Attributes:
      keys: of the runs.
      params: initial parameters.
      model_state: the network's own initial state; `()` if it has none.
    """

    keys: Runs
    params: Any
    model_state: Any


class _Same:
    """Hashable, and equal for one object only, whatever that is."""

    def __init__(self, value: Any):
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value


def begin(family: TaskFamily, runs: Runs) -> Begun:
    """Draws the initial parameters of runs.

    By a program of its own, which all optimizers on a task share: random initializations take a
    third of the compilation of a training loop that holds them.
    """
    return _beginning(_Same(family.sample), _Same(family.task))(runs)


@functools.lru_cache(maxsize=2)
def _beginning(sample: _Same, make_task: _Same) -> Callable[[Runs], Begun]:
    def of_run(keys: Runs) -> Begun:
        init_key, _, _ = jax.random.split(keys.seed, 3)
        task = as_stateful(make_task.value(sample.value(keys.task)))
        with jax.numpy_dtype_promotion("standard"):
            return Begun(keys, *task.init(init_key))

    return jax.jit(jax.vmap(of_run))


def start_run(
    family: TaskFamily,
    factory: Callable[[Any], optax.GradientTransformation],
    hyperparameters: Any,
    begun: Begun,
    data: Data,
    extra_args: tuple[str, ...],
) -> tuple[StatefulTask, Trained, Callable[[Array, Trained], Trained]]:
    """One configuration at the start of one run: its task, where it starts, and a step
    `(index, Trained) -> Trained`.
    """
    _, train_key, _ = jax.random.split(begun.keys.seed, 3)
    task = as_stateful(family.task(family.sample(begun.keys.task)))
    with jax.numpy_dtype_promotion("standard"):
        optimizer = optax.with_extra_args_support(factory(hyperparameters))
        start = Trained(begun.params, begun.model_state, optimizer.init(begun.params))

    def step(index, trained):
        key = jax.random.fold_in(train_key, index)
        return train_step(task, optimizer, extra_args, data, key, trained)

    return task, start, step


def train_step(
    task: StatefulTask,
    optimizer: optax.GradientTransformationExtraArgs,
    extra_args: tuple[str, ...],
    data: Data,
    key: Key,
    trained: Trained,
) -> Trained:
    """One inner step on a fresh `train` batch.

    What the optimizer may ask about other parameters is answered at the model state before the
    step: by `value_fn` as in training, by the gradient of the `inner_valid` batch as at test time.
    """
    params, model_state, opt_state = trained
    batch_key, loss_key, valid_batch_key, valid_loss_key = jax.random.split(key, 4)
    batch = task.sample_batch(data, batch_key, "train")

    def train_fn(at):
        value, (new_state, _) = task.loss(at, model_state, loss_key, batch)
        return value, new_state

    def valid_fn(at):
        valid_batch = task.sample_batch(data, valid_batch_key, "inner_valid")
        return task.eval_loss(at, model_state, valid_loss_key, valid_batch)[0]

    (value, new_state), grad = jax.value_and_grad(train_fn, has_aux=True)(params)
    available = {"value": lambda: value, "grad": lambda: grad}
    available["value_fn"] = available["obj_fn"] = lambda: lambda at: train_fn(at)[0]
    available["objective_grad"] = lambda: jax.grad(valid_fn)(params)
    extra = {name: available[name]() for name in extra_args}
    with jax.numpy_dtype_promotion("standard"):
        updates, opt_state = optimizer.update(grad, opt_state, params, **extra)
        return Trained(optax.apply_updates(params, updates), new_state, opt_state)


def measure(
    task: StatefulTask, splits: tuple[str, ...], data: Data, trained: Trained, key: Key
) -> dict[str, dict[str, Array]]:
    """Loss and metrics, as at test time, on one fresh batch of each split;
    its key does not depend on the other splits asked for.
    """
    measurements, params = {}, evaluation_params(trained.params, trained.opt_state)
    for split in splits:
        batch_key, loss_key = jax.random.split(jax.random.fold_in(key, SPLITS.index(split)))
        batch = task.sample_batch(data, batch_key, split)
        loss, metrics = task.eval_loss(params, trained.model_state, loss_key, batch)
        scalars = {name: value for name, value in metrics.items() if jnp.ndim(value) == 0}
        measurements[split] = {**scalars, "loss": loss}
    return measurements


def measured_at(
    plan: Plan,
    task: StatefulTask,
    step: Callable[[Array, Trained], Trained],
    data: Data,
    run: Runs,
) -> Callable[[Trained, Array], tuple[Trained, dict[str, dict[str, Array]]]]:
    """`(Trained, point) -> (Trained at the next point, what is measured at this one)`."""
    num_steps, splits, eval_every, num_eval_batches, _ = plan
    _, _, eval_key = jax.random.split(run.seed, 3)

    def measured(carry, point):
        key = jax.random.fold_in(eval_key, point)
        of_batch = functools.partial(measure, task, splits, data, carry)
        if num_eval_batches == 1:
            measurements = of_batch(key)
        else:
            each = jax.vmap(of_batch)(jax.random.split(key, num_eval_batches))
            measurements = jax.tree.map(lambda values: jnp.mean(values, axis=0), each)
        first = point * eval_every
        # The last point has no steps left: one loop body serves all points, and is compiled once.
        return jax.lax.fori_loop(
            first, jnp.minimum(first + eval_every, num_steps), step, carry
        ), measurements

    return measured
