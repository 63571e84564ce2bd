"""What an adaptive learning rate costs:
one step of HD, RTHO and MARTHE against one of their inner optimizer.

    python -m benchmarks.hypergradient

A step is a gradient and an update of an MLP 784-256-256-10 (0.27 M weights) on a batch of 128,
`objective_grad` left at its default. The methods take turns, so that a busy moment of the machine
meets all of them.
"""

import functools
import json
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt.hypergradient import hd, marthe, rtho
from tasks.images import MLP, softmax_cross_entropy

INNERS = {
    "sgd": optax.sgd,
    "momentum": functools.partial(optax.sgd, momentum=0.9),
    "adam": optax.adam,
    "adamw": optax.adamw,
}


def run(num_repeats: int = 20, num_steps: int = 10, batch_size: int = 128) -> dict[str, Any]:
    """Times every method around every inner optimizer.

    Args:
      num_repeats: timings of each, of which the median counts.
      num_steps: steps in one timing, in one jitted loop.
      batch_size: examples of the fixed batch.

    Returns:
      `seconds[inner][method]` of one step, and `ratio[inner][method]` to the plain inner optimizer.

    Raises:
      ValueError: a count below 1.
    """
    if min(num_repeats, num_steps, batch_size) < 1:
        raise ValueError(
            f"counts must be at least 1, got {num_repeats}, {num_steps} and {batch_size}"
        )
    with jax.numpy_dtype_promotion("standard"):  # Optax mixes types
        seconds = {
            name: _time_methods(inner, num_repeats, num_steps, batch_size)
            for name, inner in INNERS.items()
        }
    return {"seconds": seconds, "ratio": {name: _to_plain(row) for name, row in seconds.items()}}


def count(batch_size: int = 128) -> dict[str, Any]:
    """Counts what a step of every method takes, as compiled here; no clock.

    Returns:
      `flops[inner][method]` and `bytes[inner][method]`, ratios to the plain inner optimizer.
    """
    ratios: dict[str, Any] = {"flops": {}, "bytes": {}}
    with jax.numpy_dtype_promotion("standard"):
        for name, inner in INNERS.items():
            costs = {
                method: call.func.lower(*call.args).compile().cost_analysis()
                for method, call in _methods(inner, 1, batch_size).items()
            }
            for short, of_xla in (("flops", "flops"), ("bytes", "bytes accessed")):
                ratios[short][name] = _to_plain({m: cost[of_xla] for m, cost in costs.items()})
    return ratios


def _to_plain(row: dict[str, float]) -> dict[str, float]:
    return {method: value / row["plain"] for method, value in row.items() if method != "plain"}


def _methods(inner: Callable, num_steps: int, batch_size: int) -> dict[str, functools.partial]:
    methods = {
        "plain": inner(1e-3),
        "hd": hd(inner, 1e-3, 1e-8),
        "rtho": rtho(inner, 1e-3, 1e-8),
        "marthe": marthe(inner, 1e-3, meta_step=1e-8),
    }
    return {
        name: _steps(optax.with_extra_args_support(tx), num_steps, batch_size)
        for name, tx in methods.items()
    }


def _time_methods(
    inner: Callable, num_repeats: int, num_steps: int, batch_size: int
) -> dict[str, float]:
    calls = _methods(inner, num_steps, batch_size)
    for call in calls.values():
        jax.block_until_ready(call())
    timings = {name: [] for name in calls}
    for _ in range(num_repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            timings[name].append((time.perf_counter() - start) / num_steps)
    return {name: float(np.median(values)) for name, values in timings.items()}


def _steps(
    tx: optax.GradientTransformationExtraArgs, num_steps: int, batch_size: int
) -> functools.partial:
    """A compiled loop of steps, with its arguments."""
    module = MLP((256, 256), 10)
    key_images, key_labels, key_init = jax.random.split(jax.random.key(0), 3)
    images = jax.random.normal(key_images, (batch_size, 784))
    labels = jax.random.randint(key_labels, (batch_size,), 0, 10)
    params = module.init(key_init, images)

    def step(_, carry):
        params, state, images, labels = carry
        value_fn = lambda p: jnp.mean(softmax_cross_entropy(module.apply(p, images), labels))
        grads = jax.grad(value_fn)(params)
        updates, state = tx.update(grads, state, params, value_fn=value_fn)
        return optax.apply_updates(params, updates), state, images, labels

    loop = jax.jit(lambda carry: jax.lax.fori_loop(0, num_steps, step, carry)[:2])
    return functools.partial(loop, (params, tx.init(params), images, labels))


if __name__ == "__main__":
    print(json.dumps(run() | count(), indent=2))
