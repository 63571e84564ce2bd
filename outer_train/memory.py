"""Whether what is asked for can fit into memory at all, told before anything is allocated.

An array past the memory of a machine is not always refused: the operating system may give out more
than there is, and end a process, not always the right one, once the memory is touched.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from jax.stages import Compiled

from learned_opt import Theta
from outer_train._unroll import changing_leaves
from outer_train.problem import UnrolledSystem

_GROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def num_bytes(tree: Any) -> int:
    """Bytes of a tree of arrays or of their shapes, as `jax.eval_shape` gives them."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def host_bytes() -> int:
    """Memory of this machine, or what the group of processes this one is in may use of it."""
    limits = (
        [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")] if hasattr(os, "sysconf") else []
    )
    for path in map(Path, _GROUP_LIMITS):
        try:
            limits.append(int(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return min(limits, default=2**63)


def device_bytes() -> int:
    """Memory of all devices that JAX has, where it knows it;
    of the host where that is the device.
    """
    total = 0
    for device in jax.devices():
        if device.platform == "cpu":
            return host_bytes()
        total += (device.memory_stats() or {}).get("bytes_limit", 2**63)
    return total


def available_bytes(devices: Sequence[jax.Device]) -> int | None:
    """What a program over these devices has in each memory it lies in: that of the smallest
    accelerator, or of the host, which CPU devices share; None where JAX does not know.
    """
    if devices[0].platform == "cpu":
        return host_bytes()
    limits = [(device.memory_stats() or {}).get("bytes_limit") for device in devices]
    return None if None in limits else min(limits)


def program_bytes(program: Compiled, devices: Sequence[jax.Device]) -> int:
    """What a compiled program takes at its peak of the memory that `available_bytes` is of:
    arguments, results and temporaries by the compiler's own figures.

    Args:
      program: as `jax.jit(f).lower(...).compile()` gives it.
      devices: those of this process that it runs on.
    """
    found = program.memory_analysis()
    arguments_and_results = found.argument_size_in_bytes + found.output_size_in_bytes
    each = arguments_and_results - found.alias_size_in_bytes + found.temp_size_in_bytes
    return each * (len(devices) if devices[0].platform == "cpu" else 1)


def num_kept_states(max_num_steps: int, chunk_size: int) -> int:
    """States that an unroll keeps where it is differentiated (`outer_train.unroll`)."""
    chunk_size = min(chunk_size, max_num_steps)
    num_chunks = -(-max_num_steps // chunk_size)
    return chunk_size + (num_chunks if num_chunks > 1 else 0)


def kept_state_bytes(problem: UnrolledSystem, theta: Theta) -> int:
    """Bytes of one kept state of one particle: of what a step changes."""

    def kept(theta, key, data):
        state = problem.init(theta, key)
        return changing_leaves(problem.step, theta, state, key, data).select(state)

    return num_bytes(jax.eval_shape(kept, theta, jax.random.key(0), problem.data))


def check_fits(what: str, needed: int, available: int | None = None) -> None:
    """Refuses what can fit nowhere.

    Args:
      what: is asked for, as the user knows it.
      needed: bytes, at least.
      available: bytes; `device_bytes()` if not given.

    Raises:
      ValueError: more is needed than there is.
    """
    available = device_bytes() if available is None else available
    if needed > available:
        raise ValueError(
            f"{what} would need {shown(needed)} of memory, at least; there are {shown(available)}"
        )


def shown(size: float) -> str:
    """Bytes as a person reads them: 45.3 GB, 1,738 MB, 0.129 MB."""
    value, unit = (size / 1e9, "GB") if size >= 10e9 else (size / 1e6, "MB")
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
