"""Devices: how many of a CPU JAX makes, the mesh that particles are spread over,
what pays in compiling for them.
"""

import functools
import os

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from outer_train.checks import check_count

PARTICLES = "particles"
"""Name of the mesh axis."""
_CPU_OPTIONS: dict[str, str | int] = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
    "xla_cpu_prefer_vector_width": 512,
}


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


@functools.cache
def compiler_options() -> dict[str, str | int]:
    """Options of XLA for `jax.jit` around a program of many particles;
    empty where they have no use.

    On a CPU, XLA hands chains of products and elementwise operations to YNNPACK as one graph. For
    the small batched products of vmapped inner problems such a graph takes 2 to 10 times as long as
    its operations one by one, which is what this asks for; and for the widest vectors the CPU has,
    where XLA prefers half of that. A choice in `XLA_FLAGS` is left alone, and so is a JAX that does
    not know an option.
    """
    if jax.default_backend() != "cpu":
        return {}
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
