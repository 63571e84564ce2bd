"""What data from the host cost outer-training, beside the same set on the device.

    python -m benchmarks.host_data

Both outer-train on whole Fashion-MNIST (`TFDS_DATA_DIR`) by persistent ES and take turns, some
outer steps at a time, so that a busy moment of the machine meets both. Fed from the host, each
outer step waits for its window if that is not read yet.
"""

import argparse
import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

import jax
import optax

import learned_opt
from learned_opt_lab.bench.timing import medians_in_turn
from learned_opt_lab.results import made
from outer_train import (
    PARTICLES,
    estimators,
    inner_problem,
    outer_step,
    particle_mesh,
    truncation,
    use_cpu_devices,
)
from tasks import MLP, Feed, TaskFamily, class_subset_family, tfds_images
from tasks.images import ImageData, from_host, host_images

EPISODE = 1000


def run(
    dataset: str = "fashion_mnist",
    window: int = 100,
    num_pairs: int = 4,
    num_inner_steps: int = 50,
    num_outer_steps: int = 10,
    num_repeats: int = 5,
) -> dict[str, Any]:
    """Times outer steps with both feeds.

    Args:
      dataset: of tensorflow-datasets.
      window: examples of a class and split.
      num_pairs: of particles.
      num_inner_steps: of a truncation.
      num_outer_steps: of a turn.
      num_repeats: turns of each, of which the median counts.

    Returns:
      `steps_per_second[feed]` of outer steps, `host_over_device` of seconds a step, and
      `windows_per_second` that are read where nothing else runs, above which steps wait.

    Raises:
      ValueError: a count below 1.
      tasks.DatasetNotPrepared: the set is not on this machine.
    """
    if min(num_pairs, num_inner_steps, num_outer_steps, num_repeats) < 1:
        raise ValueError("counts of pairs, steps and repeats must be at least 1")
    families = {
        "device": _mlp(tfds_images(dataset)),
        "host": from_host(host_images(dataset, window), _mlp),
    }
    rate = _windows_per_second(families["host"])
    with contextlib.ExitStack() as opened:
        calls = {
            name: _turn(family, num_pairs, num_inner_steps, num_outer_steps, opened)
            for name, family in families.items()
        }
        seconds = medians_in_turn(calls, num_repeats)
    return {
        "steps_per_second": {name: num_outer_steps / value for name, value in seconds.items()},
        "host_over_device": seconds["host"] / seconds["device"],
        "windows_per_second": rate,
    }


def _mlp(data: ImageData) -> TaskFamily:
    return class_subset_family(data, MLP((32,), data.num_classes), data.num_classes, batch_size=64)


def _windows_per_second(family: TaskFamily, number: int = 10) -> float:
    with Feed.of((family,)).stream() as stream:
        stream.next()  # imports and opens files
        start = time.perf_counter()
        for _ in range(number):
            jax.block_until_ready(stream.next())
        return number / (time.perf_counter() - start)


def _turn(
    family: TaskFamily,
    num_pairs: int,
    num_inner_steps: int,
    num_outer_steps: int,
    opened: contextlib.ExitStack,
) -> Callable[[], Any]:
    """A call that makes some outer steps, whose stream of data is closed with `opened`."""
    optimizer, key = learned_opt.mlp(), jax.random.key(0)
    estimator = estimators.persistent_es(
        inner_problem(family, optimizer, EPISODE),
        num_pairs,
        axis_name=PARTICLES,
        max_num_steps=num_inner_steps,
        stagger=True,
    )
    mesh, lengths = particle_mesh(num_pairs), truncation.constant(num_inner_steps)
    step = outer_step([estimator], optax.adam(1e-3), lengths, mesh, families=(family,))
    stream = opened.enter_context(Feed.of((family,), place=step.place_data).stream())
    carry = [step.init(optimizer.init(key), key)]

    def call() -> Any:
        for _ in range(num_outer_steps):
            carry[0], metrics = step.step(carry[0], key, stream.next())
            jax.block_until_ready(metrics)
        return carry[0].theta

    return call


def main() -> None:
    """Prints the measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--window", type=int, default=100)
    parser.add_argument("--num-repeats", type=int, default=5)
    args = parser.parse_args()
    use_cpu_devices()
    found = run(window=args.window, num_repeats=args.num_repeats)
    print(json.dumps(found | {"made": made.here_and_now()}, indent=2))


if __name__ == "__main__":
    main()
