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
    ratio = {
        name: {m: s / row["plain"] for m, s in row.items() if m != "plain"}
        for name, row in seconds.items()
    }
    return {"seconds": seconds, "ratio": ratio}


def _time_methods(
    inner: Callable, num_repeats: int, num_steps: int, batch_size: int
) -> dict[str, float]:
    methods = {
        "plain": inner(1e-3),
        "hd": hd(inner, 1e-3, 1e-8),
        "rtho": rtho(inner, 1e-3, 1e-8),
        "marthe": marthe(inner, 1e-3, meta_step=1e-8),
    }
    calls = {
        name: _steps(optax.with_extra_args_support(tx), num_steps, batch_size)
        for name, tx in methods.items()
    }
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
) -> Callable[[], Any]:
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
    print(json.dumps(run(), indent=2))
