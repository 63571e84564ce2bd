"""All configurations x runs of an optimizer factory in one program over traced hyperparameters.

A *configuration* is one point of the hyperparameter space (for a learned optimizer: one theta). A
*run* is a task drawn from the family together with its initialization and its batches. Every
configuration sees the same runs: the keys of tasks, initial parameters and batches belong to the
run alone. The batches are drawn once for each run, so that the first layer of all configurations is
one large matmul.

One program serves all rates: rates are traced, never constants. Sharded with `jax.shard_map` over a
one-dimensional mesh, along whichever of the two axes wastes less on padding. A device trains its
runs in one batch, which suits small networks, or one by one, which suits those that fill it alone.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import AxisType, Mesh, PartitionSpec

from learned_opt_lab.evaluation.training import Begun, Plan, Runs, begin, measured_at, start_run
from outer_train import compiler_options, memory
from outer_train.particles import vary
from tasks import SPLITS, Feed, Key, TaskFamily, check_model_state

Hyperparameters = Any
Factory = Callable[[Hyperparameters], optax.GradientTransformation]
Curves = dict[str, dict[str, Array]]
"""split -> metric (`loss`, and what the task's own metrics hold)
-> `[configurations, runs, points]`."""

EXTRA_ARGS = ("value", "grad", "value_fn", "obj_fn", "objective_grad")
"""What an `update` may ask for: for line searches; `value_fn` as Sophia calls it; the gradient of
an `inner_valid` batch."""
BYTES_OF_KEYS = 24
"""Of one run, while they are made."""
Tell = Callable[[float], None]
_AXIS = "sweep"


def make_runs(key: Key, num_tasks: int, num_seeds: int = 1) -> Runs:
    """Keys of `num_tasks * num_seeds` runs; seeds of one task lie next to each other."""
    if num_tasks < 1 or num_seeds < 1:
        raise ValueError(
            f"num_tasks and num_seeds must be at least 1, got {num_tasks} and {num_seeds}"
        )
    memory.check_fits(
        f"{num_tasks} tasks and {num_seeds} seeds of each: keys",
        num_tasks * num_seeds * BYTES_OF_KEYS,
    )
    task_key, seed_key = jax.random.split(key)
    return Runs(
        task=jnp.repeat(jax.random.split(task_key, num_tasks), num_seeds),
        seed=jax.random.split(seed_key, num_tasks * num_seeds),
    )


def make_sweep(
    family: TaskFamily,
    factory: Factory,
    *,
    num_steps: int,
    splits: tuple[str, ...] = ("outer_valid", "test"),
    eval_every: int = 1,
    num_eval_batches: int = 1,
    extra_args: tuple[str, ...] = (),
    mesh: Mesh | None = None,
) -> Callable[..., Curves]:
    """Builds the program; calling it again with other values of the same shapes compiles nothing.

    Args:
      family: the tasks; its `data` is an argument of the jitted program. If it has windows, each
        measurement and the steps after it have the next window of seed 0, the same in all runs, and
        each of them is a call of one program.
      factory: `hyperparameters -> optax.GradientTransformation`; hyperparameters are traced.
      num_steps: inner steps of a run.
      splits: where losses are measured, each on fresh batches.
      eval_every: inner steps between two measurements; divides `num_steps`.
      num_eval_batches: batches of each split that a measurement is the mean over.
      extra_args: which of `EXTRA_ARGS` the optimizer's `update` is given.
      mesh: one-dimensional mesh; default: all devices, at most as many as there are configurations
        or runs.

    Returns:
      `(hyperparameters, runs, tell=None, one_by_one=False) -> curves`. Every leaf of
      hyperparameters leads with the configurations axis. Curves have `num_steps // eval_every + 1`
      points: point i is after `i * eval_every` steps, point 0 before the first. `tell` is called
      with the share of the points that are done; each is a call of one program then. With
      `one_by_one` a device trains its runs one after the other;
      `learned_opt_lab.evaluation.timing` measures which is faster.

    Raises:
      ValueError: for a number of steps, an interval, a split or an extra argument outside the
        above, or tasks that do not keep their model state's shapes and types.
    """
    plan = Plan(num_steps, splits, eval_every, num_eval_batches, extra_args)
    _check(plan)
    check_model_state(family)
    options = {"compiler_options": compiler_options(family)}
    in_one, in_calls = (make(plan, family, factory, **options) for make in (_in_one, _in_calls))

    def sweep(
        hyperparameters: Hyperparameters,
        runs: Runs,
        tell: Tell | None = None,
        one_by_one: bool = False,
    ) -> Curves:
        check_memory(family, factory, hyperparameters, runs, extra_args)
        begun = begin(family, runs)
        if tell is None and not family.windows:
            train = functools.partial(in_one, one_by_one=one_by_one)
            return spread(train, hyperparameters, begun, mesh)
        tell = tell or (lambda share: None)
        train = functools.partial(in_calls, tell=tell, one_by_one=one_by_one)
        return spread(train, hyperparameters, begun, mesh)

    return sweep


def _in_one(
    plan: Plan, family: TaskFamily, factory: Factory, **options: Any
) -> Callable[..., Curves]:
    """Whole runs in one call of one program."""

    def run(hyperparameters, begun, data, *_, axis_name):
        task, start, step = start_run(
            family, factory, hyperparameters, begun, data, plan.extra_args
        )
        of_point = measured_at(plan, task, step, data, begun.keys)
        # What starts as a constant (a momentum of zeros) does not stay one.
        carry = vary(start, axis_name)
        return vary(jax.lax.scan(of_point, carry, jnp.arange(plan.num_points))[1], axis_name)

    program = sharded(run, **options)

    def train(hyperparameters, begun, *place, one_by_one):
        return program(hyperparameters, begun, family.data, (), 0, *place, one_by_one)

    return train


def _in_calls(
    plan: Plan, family: TaskFamily, factory: Factory, **options: Any
) -> Callable[..., Curves]:
    """A call for each measurement and the steps after it, each with the next window of the data."""

    def first(hyperparameters, begun, data, *_, axis_name):
        start = start_run(family, factory, hyperparameters, begun, data, plan.extra_args)[1]
        return vary(start, axis_name)

    def onward(hyperparameters, begun, data, carry, point, *, axis_name):
        task, _, step = start_run(family, factory, hyperparameters, begun, data, plan.extra_args)
        return vary(measured_at(plan, task, step, data, begun.keys)(carry, point), axis_name)

    start, interval = sharded(first, **options), sharded(onward, donate_argnames="carry", **options)

    def train(hyperparameters, begun, *place, tell, one_by_one):
        place = (*place, one_by_one)
        carry, points = start(hyperparameters, begun, family.data, (), 0, *place), []
        with Feed.of((family,)).stream() as stream:
            for point in range(plan.num_points):
                (data,) = stream.next()
                carry, measured = interval(hyperparameters, begun, data, carry, point, *place)
                points.append(measured)
                # So that no more than two windows are on the devices.
                jax.block_until_ready(points[-2:][0])
                tell((point + 1) / plan.num_points)
        return jax.tree.map(lambda *values: jnp.stack(values, axis=-1), *points)

    return train


def check_memory(
    family: TaskFamily,
    factory: Factory,
    hyperparameters: Hyperparameters,
    runs: Runs,
    extra_args: tuple[str, ...],
) -> None:
    """Raises `ValueError` where all configurations and runs at once do not fit into memory."""
    num_configurations, num_runs = _axis_size(hyperparameters), runs.seed.shape[0]
    one = lambda tree: jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), tree)
    begun = jax.eval_shape(lambda runs: begin(family, runs), runs)
    start = jax.eval_shape(
        lambda h, begun: start_run(family, factory, h, begun, family.data, extra_args)[1],
        one(hyperparameters),
        one(begun),
    )
    memory.check_fits(
        f"{num_configurations} configurations on {num_runs} runs at once: parameters and states",
        num_configurations * num_runs * memory.num_bytes(start),
    )


def spread(
    train: Callable[..., Any],
    hyperparameters: Hyperparameters,
    begun: Begun,
    mesh: Mesh | None = None,
) -> Any:
    """Calls `train(hyperparameters, begun, mesh, by_configuration)` over all devices,
    along the axis that wastes less on padding.

    Every leaf of what it gives leads with configurations and runs.
    """
    num_configurations, num_runs = _axis_size(hyperparameters), begun.keys.seed.shape[0]
    used_mesh = mesh if mesh is not None else _default_mesh(max(num_configurations, num_runs))
    padded_configurations, padded_runs = (
        -(-n // used_mesh.size) * used_mesh.size for n in (num_configurations, num_runs)
    )
    by_configuration = padded_configurations * num_runs < num_configurations * padded_runs
    if by_configuration:
        hyperparameters = _pad(hyperparameters, padded_configurations)
    else:
        begun = _pad(begun, padded_runs)
    found = train(hyperparameters, begun, used_mesh, by_configuration)
    return jax.tree.map(lambda leaf: leaf[:num_configurations, :num_runs], found)


def sharded(run: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`run` over all configurations and runs, spread over a mesh along one of the two axes.

    What it carries leads with both, as what it returns does. The last argument says whether a
    device takes its own one by one. Options are those of `jax.jit`.
    """

    @functools.partial(
        jax.jit,
        static_argnames=("mesh", "by_configuration", "one_by_one"),
        **options,
    )
    def program(hyperparameters, begun, data, carry, point, mesh, by_configuration, one_by_one):
        sharded, whole = PartitionSpec(mesh.axis_names[0]), PartitionSpec()
        out_specs = sharded if by_configuration else PartitionSpec(None, *sharded)
        in_specs = (sharded, whole) if by_configuration else (whole, sharded)
        over = _one_after_another if one_by_one else _at_once
        grid = over(functools.partial(run, axis_name=mesh.axis_names[0]))
        return jax.shard_map(
            grid, mesh=mesh, in_specs=(*in_specs, whole, out_specs, whole), out_specs=out_specs
        )(hyperparameters, begun, data, carry, point)

    return program


def _at_once(run: Callable[..., Any]) -> Callable[..., Any]:
    """Over configurations and runs, in one batch."""
    of_run = jax.vmap(run, in_axes=(0, None, None, 0, None))
    return jax.vmap(of_run, in_axes=(None, 0, None, 1, None), out_axes=1)


def _one_after_another(run: Callable[..., Any]) -> Callable[..., Any]:
    """The same in loops."""

    def grid(hyperparameters, begun, data, carry, point):
        def of_configuration(given):
            hyperparameters, carry = given
            one = lambda given: run(hyperparameters, given[0], data, given[1], point)
            return jax.lax.map(one, (begun, carry))

        return jax.lax.map(of_configuration, (hyperparameters, carry))

    return grid


def _check(plan: Plan) -> None:
    steps, every = plan.num_steps, plan.eval_every
    if plan.num_eval_batches < 1:
        raise ValueError(f"num_eval_batches must be at least 1, got {plan.num_eval_batches}")
    if steps < 1 or every < 1 or steps % every:
        raise ValueError(
            f"num_steps must be a positive multiple of eval_every, got {steps} and {every}"
        )
    if unknown := [split for split in plan.splits if split not in SPLITS]:
        raise ValueError(f"unknown splits {unknown}; a task has {SPLITS}")
    if unknown := [name for name in plan.extra_args if name not in EXTRA_ARGS]:
        raise ValueError(f"unknown extra arguments {unknown}; there are {EXTRA_ARGS}")


def _axis_size(tree: Any) -> int:
    sizes = {leaf.shape[0] for leaf in jax.tree.leaves(tree) if leaf.ndim}
    if len(sizes) != 1 or any(leaf.ndim == 0 for leaf in jax.tree.leaves(tree)):
        raise ValueError(
            "every leaf of hyperparameters leads with one configurations axis, got sizes "
            f"{sorted(sizes)}"
        )
    return sizes.pop()


def _default_mesh(useful: int) -> Mesh:
    devices = jax.local_devices()[:useful]
    return jax.make_mesh((len(devices),), (_AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def _pad(tree: Any, size: int) -> Any:
    """Repeats the last entry: a finite, harmless configuration, thrown away afterwards."""
    return jax.tree.map(lambda x: x[jnp.minimum(jnp.arange(size), x.shape[0] - 1)], tree)
