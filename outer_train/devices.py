"""Devices: how many of a CPU JAX makes, the mesh that particles are spread over,
what pays in compiling for them.
"""

import functools
import os
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import AxisType, Mesh

from outer_train.checks import check_count
from tasks import Data, Key, TaskFamily, as_stateful

PARTICLES = "particles"
"""Name of the mesh axis."""
_CPU_OPTIONS: dict[str, str | int] = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
    "xla_cpu_prefer_vector_width": 512,
}
_LARGE = 2**14
"""Elements of an array of one particle, from which on XLA's own choices are faster."""


def use_cpu_devices(num_devices: int | None = None) -> None:
    """Makes JAX show one CPU device for each core this process may use, or as many as asked for.

    Call it before anything runs on JAX. On two cores, two devices run 1.4 to 1.7 times as fast as
    one device with two threads. Does nothing where the backend has been started, or a count was
    set, already.

    Raises:
      ValueError: for a count below 1.
    """
    check_count(num_devices=num_devices)
    if num_devices is None:
        if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
            return
        if jax.config.jax_num_cpu_devices > 0:
            return
        num_devices = (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1
        )
    try:
        jax.config.update("jax_num_cpu_devices", num_devices)
    except RuntimeError:
        return  # the backend runs already; its devices stay


def particle_mesh(num_particles: int, num_devices: int | None = None) -> Mesh:
    """A one-dimensional mesh over the most devices that divide the particles,
    the same number in each process.

    Args:
      num_particles: particles, or antithetic pairs, to spread; for several families their greatest
        common divisor.
      num_devices: over all processes; asked for explicitly, it must divide.

    Raises:
      ValueError: without particles, or if the devices asked for are not there or do not divide
        them.
    """
    check_count(num_particles=num_particles)
    devices, num_processes = jax.devices(), jax.process_count()
    if num_devices is None:
        fitting = [
            n
            for n in range(num_processes, len(devices) + 1, num_processes)
            if num_particles % n == 0
        ]
        if not fitting:
            raise ValueError(f"{num_particles} pairs do not divide over {num_processes} processes")
        num_devices = max(fitting)
    if not 1 <= num_devices <= len(devices):
        raise ValueError(
            f"num_devices must lie in [1, {len(devices)}], the devices JAX has, got {num_devices}"
        )
    if num_devices % num_processes:
        raise ValueError(f"{num_devices} devices do not divide over {num_processes} processes")
    if num_particles % num_devices:
        raise ValueError(f"{num_particles} pairs do not divide over {num_devices} devices")
    share = num_devices // num_processes
    chosen = [d for i in range(num_processes) for d in jax.local_devices(process_index=i)[:share]]
    return Mesh(np.asarray(chosen), (PARTICLES,), axis_types=(AxisType.Auto,))


def compiler_options(*families: TaskFamily) -> dict[str, str | int]:
    """Options of XLA for `jax.jit` around a program of many particles;
    empty where they have no use.

    On a CPU, XLA hands chains of products and elementwise operations to YNNPACK as one graph. For
    the small batched products of vmapped inner problems such a graph takes up to 10 times as long
    as its operations one by one, which is what this asks for; and for the widest vectors the CPU
    has, where XLA prefers half of that. Then sums are XLA's own loops as well. Those go by columns,
    and compute what they sum anew for each: over the arrays of a convolutional network that took
    four times as long as all else. So where a loss makes arrays of 16,384 elements or more, XLA is
    left alone. So is a choice in `XLA_FLAGS`, and a JAX that does not know an option.

    Args:
      *families: of the tasks in the program; without any, arrays are taken to be small.
    """
    if jax.default_backend() != "cpu":
        return {}
    if any(_largest_array(family) >= _LARGE for family in families):
        return {}
    return dict(_cpu_options())


@functools.cache
def _cpu_options() -> dict[str, str | int]:
    options = {
        name: value
        for name, value in _CPU_OPTIONS.items()
        if name not in os.environ.get("XLA_FLAGS", "")
    }
    try:
        jax.jit(lambda x: x + 1, compiler_options=options).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:  # options of JAX 0.10
        return {}
    return options


def _largest_array(family: TaskFamily) -> int:
    """Elements of the largest array that the loss of a task on a batch computes; it is traced."""

    def arguments(task_params: Any, key: Key, data: Data) -> tuple:
        task = as_stateful(family.task(task_params))
        return *task.init(key), key, task.sample_batch(data, key, "train")

    def loss(task_params: Any, *arguments: Any) -> Array:
        return as_stateful(family.task(task_params)).loss(*arguments)[0]

    key = jax.random.key(0)
    task_params = jax.eval_shape(family.sample, key)
    shapes = jax.eval_shape(arguments, task_params, key, family.data)
    return _largest_of(jax.make_jaxpr(loss)(task_params, *shapes).jaxpr)


def _largest_of(jaxpr: Any) -> int:
    """Of a jaxpr's results, and of those inside it."""
    sizes = [getattr(var.aval, "size", 0) for eqn in jaxpr.eqns for var in eqn.outvars]
    values = [value for eqn in jaxpr.eqns for value in eqn.params.values()]
    leaves = [each for value in values for each in (value if type(value) is tuple else (value,))]
    return max([0, *sizes, *(_largest_of(each) for each in leaves if hasattr(each, "eqns"))])
