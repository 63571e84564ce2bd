"""How much faster one vmapped sweep is than its runs one after the other.

    python -m benchmarks.tuning --out tuning.json

11 rates of Adam x 5 seeds of the digits MLP (64-32-10) for 1,000 steps, as one sharded program and as 55 runs of one
compiled program (rate and seed traced, so it compiles once too). Both measure the same losses. Compilation is left out
of both.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from evaluation.baselines import LEARNING_RATES
from evaluation.sweep import Runs, make_runs, make_sweep
from outer_train.devices import use_cpu_devices
from tasks.classifiers import MLP
from tasks.datasets import digits
from tasks.families import class_subset_family


def measure(batch_size: int, num_steps: int = 1000, num_seeds: int = 5, repetitions: int = 3) -> dict[str, float]:
    """Seconds of the sweep (the best of several) and of the single runs, and their ratio.

    The ratio compares all cores with all cores: a single run may use every thread of its device too.
    """
    family = class_subset_family(digits(), MLP(), 10, batch_size=batch_size)
    runs, rates = make_runs(jax.random.key(0), 1, num_seeds), np.asarray(LEARNING_RATES, np.float32)
    options = {"num_steps": num_steps, "splits": ("outer_valid",), "eval_every": num_steps // 100}
    sweep = make_sweep(family, optax.adam, **options)
    alone = make_sweep(family, optax.adam, mesh=Mesh(np.asarray(jax.devices()[:1]), ("sweep",)), **options)
    sweep_seconds = _best_of(repetitions, lambda: sweep(rates, runs))
    single_seconds = _best_of(1, lambda: _one_by_one(alone, rates, runs))
    num_runs = len(rates) * num_seeds
    return {
        "batch_size": batch_size,
        "num_runs": num_runs,
        "num_steps": num_steps,
        "sweep_seconds": sweep_seconds,
        "single_seconds": single_seconds,
        "sweep_inner_steps_per_second": num_runs * num_steps / sweep_seconds,
        "single_inner_steps_per_second": num_runs * num_steps / single_seconds,
        "speedup": single_seconds / sweep_seconds,
    }


def _one_by_one(alone: Callable, rates: np.ndarray, runs: Runs) -> list:
    """The same configurations and runs, each alone on the first device, each waited for."""
    results = []
    for rate in rates:
        for seed in range(len(runs.seed)):
            one = jax.tree.map(lambda keys, i=seed: keys[i : i + 1], runs)
            results.append(jax.block_until_ready(alone(jnp.asarray([rate]), one)))
    return results


def _best_of(repetitions: int, run) -> float:
    jax.block_until_ready(run())
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    """Measures batches of 32 and 128, prints and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    use_cpu_devices()
    result = {"num_devices": jax.device_count(), "results": [measure(batch_size) for batch_size in (32, 128)]}
    text = json.dumps(result, indent=1)
    print(text)
    if out:
        out.write_text(text + "\n")


if __name__ == "__main__":
    main()
