"""Whether what is asked for can fit into memory at all, told before anything is allocated.

An array past the memory of a machine is not always refused: the operating system may give out more
than there is, and end a process, not always the right one, once the memory is touched.
"""

import math
import os
from pathlib import Path
from typing import Any

import jax

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
            f"{what} would need {_shown(needed)} of memory, at least; there are {_shown(available)}"
        )


def _shown(size: int) -> str:
    return f"{size / 1e9:,.0f} GB" if size >= 10e9 else f"{size / 1e6:,.0f} MB"
