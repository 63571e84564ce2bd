"""How much faster one vmapped sweep is than its runs one after the other.

    python -m learned_opt_lab.bench.tuning --out tuning.json

11 rates of Adam x 5 seeds of the digits MLP (64-32-10) for 1,000 steps: as one sharded program; as
55 plain Optax loops, a jitted step called from Python; and as 55 calls of one program that scans
over the steps of a single run. All measure the same losses, rate and seed are traced everywhere,
and compilation is left out of all.
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

from learned_opt_lab.evaluation.baselines import LEARNING_RATES
from learned_opt_lab.evaluation.sweep import Runs, make_runs, make_sweep
from outer_train import use_cpu_devices
from tasks import TaskFamily
from tasks.images import MLP, class_subset_family, digits


def measure(
    batch_size: int, num_steps: int = 1000, num_seeds: int = 5, repetitions: int = 3
) -> dict[str, float]:
    """Inner steps per second of the sweep, of plain loops and of single scans,
    and the ratios of the first to those.
    """
    family = class_subset_family(digits(), MLP(), 10, batch_size=batch_size)
    runs, rates = make_runs(jax.random.key(0), 1, num_seeds), np.asarray(LEARNING_RATES, np.float32)
    options = {"num_steps": num_steps, "splits": ("outer_valid",), "eval_every": num_steps // 100}
    sweep = make_sweep(family, optax.adam, **options)
    alone = make_sweep(
        family, optax.adam, mesh=Mesh(np.asarray(jax.devices()[:1]), ("sweep",)), **options
    )
    seconds = {
        "sweep": _best_of(repetitions, lambda: sweep(rates, runs)),
        "scans": _best_of(1, lambda: _one_by_one(alone, rates, runs)),
        "plain_loops": _best_of(1, _plain_loops(family, rates, runs, num_steps)),
    }
    num_runs = len(rates) * num_seeds
    speeds = {
        f"{name}_inner_steps_per_second": num_runs * num_steps / value
        for name, value in seconds.items()
    }
    ratios = {
        f"speedup_over_{name}": seconds[name] / seconds["sweep"]
        for name in ("plain_loops", "scans")
    }
    return {
        "batch_size": batch_size,
        "num_runs": num_runs,
        "num_steps": num_steps,
        **speeds,
        **ratios,
    }


def _plain_loops(family: TaskFamily, rates: np.ndarray, runs: Runs, num_steps: int) -> Callable:
    """The loops one writes by hand: `step` is jitted once, rate and key are its arguments."""
    task = family.task(family.sample(runs.task[0]))

    @jax.jit
    def step(rate, params, state, key, index, data):
        optimizer = optax.adam(rate)
        batch_key, loss_key = jax.random.split(jax.random.fold_in(key, index))
        batch = task.sample_batch(data, batch_key, "train")
        grad = jax.grad(lambda p: task.loss(p, loss_key, batch)[0])(params)
        updates, state = optimizer.update(grad, state, params)
        return optax.apply_updates(params, updates), state

    @jax.jit
    def measured(params, key, index, data):
        batch_key, loss_key = jax.random.split(jax.random.fold_in(key, index))
        return task.loss(params, loss_key, task.sample_batch(data, batch_key, "outer_valid"))[0]

    init = jax.jit(lambda key: (task.init(key), optax.adam(0.0).init(task.init(key))))

    def loops() -> list:
        losses = []
        for rate in rates:
            for key in runs.seed:
                params, state = init(key)
                for index in range(num_steps):
                    if index % (num_steps // 100) == 0:
                        losses.append(measured(params, key, index, family.data))
                    params, state = step(rate, params, state, key, index, family.data)
        return losses

    return loops


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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    use_cpu_devices()
    result = {
        "num_devices": jax.device_count(),
        "results": [measure(batch_size) for batch_size in (32, 128)],
    }
    text = json.dumps(result, indent=1)
    print(text)
    if out:
        out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
