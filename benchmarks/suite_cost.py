"""What the tasks of a suite cost: CPU seconds of a run under Adam, of many at once and of one.

    python benchmarks/suite_cost.py real 20

The first argument is a suite, the second the number of steps that are timed. One CPU device; the
matmul rate of the same core is printed first.
"""

import sys
import time

import jax
import numpy as np
import optax

from learned_opt_lab.evaluation.sweep import make_sweep
from learned_opt_lab.evaluation.tuning import runs_of
from outer_train import use_cpu_devices
from tasks import Suite, SuiteTask, suite


def cost(task: SuiteTask, num_steps: int, num_rates: int, num_runs: int) -> tuple[float, float]:
    """CPU seconds to compile, and of a whole run, with so many at once."""
    sweep = make_sweep(
        task.build(), optax.adam, num_steps=num_steps, splits=("outer_valid",), eval_every=num_steps
    )
    rates = np.geomspace(1e-4, 1e-2, num_rates).astype(np.float32)
    seconds = []
    for _ in range(2):
        start = time.process_time()
        jax.block_until_ready(sweep(rates, runs_of(task, "tune", num_runs, 0)))
        seconds.append(time.process_time() - start)
    first, again = seconds
    return first - again, again * task.num_steps / (num_steps * num_rates * num_runs)


def matmul_rate(size: int = 1024) -> float:
    """Gigaflops a CPU second of float32 products."""
    product, x = jax.jit(lambda x: x @ x), np.ones((size, size), np.float32)
    product(x).block_until_ready()
    start = time.process_time()
    for _ in range(20):
        product(x).block_until_ready()
    return 20 * 2e-9 * size**3 / (time.process_time() - start)


def num_parameters(task: SuiteTask) -> int:
    """Inner parameters."""
    family, key = task.build(), jax.random.key(0)
    shapes = jax.eval_shape(lambda: family.task(family.sample(key)).init(key))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def main(chosen: Suite, num_steps: int) -> None:
    """Prints a row for each task."""
    use_cpu_devices(1)
    print(f"{matmul_rate():.0f} GFLOP a CPU second")
    print("task, parameters, steps; CPU s: to compile, a run of 33 at once; to compile, one alone")
    for task in chosen.tasks:
        shown = [f"{x:.2f}" for sizes in ((11, 3), (1, 1)) for x in cost(task, num_steps, *sizes)]
        print(task.name, num_parameters(task), task.num_steps, *shown, flush=True)


if __name__ == "__main__":
    main(suite(sys.argv[1]), int(sys.argv[2]))
