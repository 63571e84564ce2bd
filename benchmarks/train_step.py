"""What an optimizer costs a whole train step: a byte-level transformer of 10 million parameters.

    python -m benchmarks.train_step

A step is a batch of 8 windows of 128 bytes, its gradient, the update and its addition; parameters
and state are donated. The optimizers take turns, so that a busy moment of the machine meets all.
"""

import argparse
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax.contrib import muon

import learned_opt
from learned_opt_lab.bench.timing import medians_in_turn
from learned_opt_lab.results import made
from tasks import SPLITS, TaskFamily, byte_transformer_family

OPTIMIZERS: dict[str, Callable[[], optax.GradientTransformation]] = {
    "adamw": lambda: optax.adamw(1e-3),
    "muon": lambda: muon(2e-2),
    "load()": learned_opt.load,
    "load(state_dtype='bfloat16')": lambda: learned_opt.load(state_dtype="bfloat16"),
}


def run(
    depth: int = 12,
    width: int = 256,
    length: int = 128,
    batch_size: int = 8,
    num_repeats: int = 10,
) -> dict[str, Any]:
    """Times a train step with each optimizer.

    Args:
      depth: blocks of the transformer.
      width: of its residual stream, divided by 4 heads.
      length: bytes of a window.
      batch_size: windows.
      num_repeats: timings of each, of which the median counts.

    Returns:
      `num_parameters`, `seconds[optimizer]` a step, and `ratio_to_adamw[optimizer]`.

    Raises:
      ValueError: a count below 1, or sizes that make no transformer.
    """
    if num_repeats < 1:
        raise ValueError(f"num_repeats must be at least 1, got {num_repeats}")
    family = byte_transformer_family(depth, width, 4, length, batch_size)
    num_parameters, calls = 0, {}
    with jax.numpy_dtype_promotion("standard"):  # Optax mixes types
        for name, make in OPTIMIZERS.items():
            calls[name], num_parameters = _train_steps(family, make())
        seconds = medians_in_turn(calls, num_repeats)
    ratio = {name: value / seconds["adamw"] for name, value in seconds.items()}
    return {"num_parameters": num_parameters, "seconds": seconds, "ratio_to_adamw": ratio}


def _train_steps(
    family: TaskFamily, opt: optax.GradientTransformation
) -> tuple[Callable[[], Any], int]:
    """A call that makes the next step, and the number of parameters."""
    task = family.task(family.sample(jax.random.key(0)))
    key = jax.random.key(1)
    params = task.init(key)
    batch = task.sample_batch(family.data, key, SPLITS[0])

    def train_step(params: Any, state: Any) -> tuple[Any, Any]:
        grads = jax.grad(lambda p: task.loss(p, key, batch)[0])(params)
        updates, state = opt.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    step = jax.jit(train_step, donate_argnums=(0, 1))
    carry = [jax.tree.map(jnp.copy, params), opt.init(params)]

    def call() -> Any:
        carry[:] = step(*carry)
        return carry[0]

    return call, sum(x.size for x in jax.tree.leaves(params))


def main() -> None:
    """Prints the measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-repeats", type=int, default=10)
    found = run(num_repeats=parser.parse_args().num_repeats)
    print(json.dumps(found | {"made": made.here_and_now()}, indent=2))


if __name__ == "__main__":
    main()
