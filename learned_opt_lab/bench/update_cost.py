"""What one update of a learned optimizer costs beside Optax's, in one run.

    python -m learned_opt_lab.bench.update_cost --out update_cost.json [--sizes 1e4 1e6 3e7]

Models are four square matrices with their biases. The optimizer's state is donated, as in a
training loop. Temporary memory is the compiler's own figure for the update alone, beside gradient,
parameters, state and result.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

import learned_opt
from learned_opt.per_parameter import adafactor_mlp
from learned_opt_lab.bench.timing import medians_in_turn
from outer_train import use_cpu_devices

SIZES = (1e4, 1e6, 3e7)


def optimizers() -> dict[str, optax.GradientTransformation]:
    """Optax's, the shipped default, and each preset with fresh weights."""
    fresh = {
        "mlp()": learned_opt.mlp(),
        "mlp(hidden_sizes=(32, 32))": learned_opt.mlp((32, 32)),
        "mlp(preset='metz2019')": learned_opt.mlp(preset="metz2019"),
        "mlp(preset='metz2019_released')": learned_opt.mlp(preset="metz2019_released"),
        "adafactor_mlp()": adafactor_mlp(),
    }
    made = {
        name: optimizer.optimizer(optimizer.init(jax.random.key(0)))
        for name, optimizer in fresh.items()
    }
    optax_own = {"sgd": optax.sgd(1e-3), "adam": optax.adam(1e-3), "adamw": optax.adamw(1e-3)}
    return {**optax_own, "load()": learned_opt.load(), **made}


def model(num_parameters: int) -> dict[str, jax.Array]:
    """Four square matrices with biases, of about that many parameters, normal."""
    width = max(round((math.sqrt(1 + num_parameters) - 1) / 2), 1)
    keys = jax.random.split(jax.random.key(1), 4)
    layers = {
        f"layer_{i}": 0.05 * jax.random.normal(key, (width, width)) for i, key in enumerate(keys)
    }
    return layers | {f"bias_{i}": jnp.zeros(width) for i in range(4)}


def run(
    sizes: Sequence[float] = SIZES, num_repeats: int = 10, names: Sequence[str] | None = None
) -> list[dict]:
    """A row for each optimizer and size; `ratio_to_adam` is of times taken in turn with Adam.

    Args:
      sizes: numbers of parameters.
      num_repeats: timings of each, of which the median counts.
      names: of `optimizers()`; all if not given. Adam is always among them.

    Raises:
      ValueError: a count below 1.
    """
    if num_repeats < 1 or min(sizes) < 1:
        raise ValueError(
            f"counts must be at least 1, got {num_repeats} repeats and sizes {tuple(sizes)}"
        )
    chosen = {k: v for k, v in optimizers().items() if names is None or k in {"adam", *names}}
    return [row for size in sizes for row in _rows(chosen, int(size), num_repeats)]


def _rows(
    chosen: dict[str, optax.GradientTransformation], size: int, num_repeats: int
) -> list[dict[str, Any]]:
    """Each optimizer in turn with Adam; no more than two states are held at a time."""
    params = model(size)
    count = sum(x.size for x in jax.tree.leaves(params))
    adam, adam_row = _compiled(chosen["adam"], params, count)
    rows = []
    for name, optimizer in chosen.items():
        call, row = (adam, adam_row) if name == "adam" else _compiled(optimizer, params, count)
        seconds = medians_in_turn({"adam": adam, name: call}, num_repeats)
        timed = {
            "ns_per_parameter": 1e9 * seconds[name] / count,
            "ratio_to_adam": seconds[name] / seconds["adam"],
        }
        rows.append({"optimizer": name, "parameters": count, **row, **timed})
    return rows


def _compiled(
    optimizer: optax.GradientTransformation, params: Any, count: int
) -> tuple[Callable, dict[str, float]]:
    """A call that makes one update and keeps its state, and what the compiler tells of it."""
    jitted = jax.jit(optimizer.update, donate_argnums=1)
    with jax.numpy_dtype_promotion("standard"):  # Optax mixes types
        state = jax.jit(optimizer.init)(params)
        start = time.perf_counter()
        update = jitted.lower(params, state, params).compile()
    seconds = time.perf_counter() - start
    held, flop = [state], (update.cost_analysis() or {}).get("flops")

    def call() -> Any:
        updates, held[0] = update(params, held[0], params)
        return updates, held[0]

    figures = {
        "state_bytes_per_parameter": sum(x.nbytes for x in jax.tree.leaves(state)) / count,
        "temporary_bytes_per_parameter": update.memory_analysis().temp_size_in_bytes / count,
        "flop_per_parameter": None if flop is None else flop / count,
        "compile_seconds": seconds,
    }
    return call, figures


def main() -> None:
    """Prints and writes the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--sizes", type=float, nargs="+", default=SIZES)
    parser.add_argument("--names", nargs="+")
    parser.add_argument("--num-repeats", type=int, default=10)
    args = parser.parse_args()
    use_cpu_devices(1)  # one device with all cores: an update is one array program
    text = json.dumps(run(args.sizes, args.num_repeats, args.names), indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
