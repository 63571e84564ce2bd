"""Medians of wall-clock times, one call alone or several in turn."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

Call = Callable[[], Any]


def median_seconds(call: Call, num_repeats: int) -> float:
    """Median seconds of a call whose result is waited for, after one that is not counted."""
    return medians_in_turn({"call": call}, num_repeats)["call"]


def medians_in_turn(calls: Mapping[str, Call], num_repeats: int) -> dict[str, float]:
    """Median seconds of each call, the calls taking turns,
    so that a busy moment of the machine meets all of them.
    """
    for call in calls.values():
        jax.block_until_ready(call())
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(num_repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in times.items()}
