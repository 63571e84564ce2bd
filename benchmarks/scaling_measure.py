"""What the scaling model is fitted to, measured on this machine.

    python -m benchmarks.scaling_measure --out scaling.json

A worker's time for truncations of several lengths; the learner's time for a gradient and for a
step; gradients a second through Ray with workers that compute nothing; the time of a reduction
between two processes.
"""

import argparse
import dataclasses
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs import quickstart
from learned_opt_lab.runs.engines import sources
from outer_train import truncation
from outer_train.estimators import Estimate, GradientEstimator, Info
from outer_train.workers import Learner, Source, Worker, fresh_state, messages, ray_crew

SIZE = 610
NUM_PAIRS = 8
LENGTHS = (5, 20, 80)
KEY_DATA = np.zeros(2, np.uint32)


def worker_seconds(repetitions: int = 8) -> dict[str, float]:
    """Seconds of a gradient of `NUM_PAIRS` pairs on quickstart's problem
    as `overhead + K * per_inner_step`.
    """
    config = dataclasses.replace(
        quickstart.config,
        estimator=dataclasses.replace(quickstart.config.estimator, num_pairs=NUM_PAIRS),
        truncation=dataclasses.replace(quickstart.config.truncation, num_steps=max(LENGTHS)),
    )
    make = sources.make_source(config, 1)

    def by_version(place):
        # The length is asked for.
        schedule = truncation.TruncationSchedule(lambda key, version: version, max(LENGTHS))
        return make(place)._replace(truncation=schedule)

    worker = Worker(by_version, 0, 0, KEY_DATA)
    theta = np.zeros(worker.describe()["size"], np.float32).tobytes()
    worker.gradient(theta, LENGTHS[0])
    seconds = []
    for length in LENGTHS:
        times = [
            messages.unpack(worker.gradient(theta, length), len(theta) // 4).seconds_working
            for _ in range(repetitions)
        ]
        seconds.append(min(times))
    slope, overhead = np.polyfit(LENGTHS, seconds, 1)
    return {
        "overhead": max(float(overhead), 0.0),
        "per_inner_step": float(slope),
        "num_pairs": NUM_PAIRS,
    }


def learner_seconds(num_gradients: int = 2000) -> dict[str, float]:
    """Seconds of the learner for each gradient, and for each step."""
    rng = np.random.default_rng(0)
    means, variances = rng.normal(size=(1, SIZE)).astype(np.float32), np.ones((1, 1), np.float32)
    packed = [
        messages.pack(
            messages.Gradient(
                0, 0, i, 0, 0, NUM_PAIRS, 20, 320, 0, 0, 1.0, 1.0, 1.0, means, variances
            )
        )
        for i in range(num_gradients)
    ]
    each = {}
    for batch in (1, 50):
        optimizer = optax.adam(1e-3)
        state = fresh_state(np.zeros(SIZE, np.float32), optimizer)
        learner = Learner(state, optimizer, gradients_per_step=batch, max_staleness=num_gradients)
        started = None
        for message in packed:
            learner.offer(messages.unpack(message, SIZE))
            if learner.is_ready():
                learner.step()
            started = started or time.perf_counter()  # the first step waits for its compilation
        each[batch] = (time.perf_counter() - started) / (num_gradients - 1)
    step = (each[1] - each[50]) / (1 - 1 / 50)
    return {"per_gradient": max(each[1] - step, 1e-6), "per_step": step}


def idle_source(place: int) -> Source:
    """A worker that computes nothing."""

    def estimate(theta, state, key, num_steps, data=()):
        del key, data
        one = jnp.float32(1)
        info = Info(jnp.int32(0), jnp.int32(0), num_steps, num_steps, {"nothing": one}, {}, {})
        return Estimate(theta, one, info), state

    estimator = GradientEstimator(lambda theta, key: theta, estimate)
    return Source(estimator, truncation.constant(1), np.zeros(SIZE, np.float32), 1)


def ray_rates(seconds: float = 5.0, counts: tuple[int, ...] = (1, 2, 4)) -> dict[str, float]:
    """Gradients a second that the learner's process gets through Ray from
    so many workers that compute nothing.
    """
    ray_crew.connect(None, 60, num_workers=max(counts))
    crew, theta, rates = (
        ray_crew.RayCrew(idle_source, KEY_DATA),
        np.zeros(SIZE, np.float32).tobytes(),
        {},
    )
    handles, up = [crew.start(place, place) for place in range(max(counts))], 0
    while up < len(handles):
        up += len(crew.wait(1.0))
    for count in counts:
        for handle in handles[:count]:
            crew.request(handle, theta, 0)
        received, began = 0, None
        while began is None or time.perf_counter() < began + seconds:
            for answer in crew.wait(0.2):
                crew.request(answer.handle, theta, 0)
                received += 1
            if began is None and received >= 20 * count:  # all have compiled
                received, began = 0, time.perf_counter()
        rates[str(count)] = received / (time.perf_counter() - began)
        outstanding = count
        while outstanding:
            outstanding -= len(crew.wait(0.2))
    ray_crew.disconnect()
    return rates


def reduction_seconds() -> float:
    """Seconds of one sum of theta's size over two processes on this machine."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    command = [sys.executable, "-m", "benchmarks.scaling_measure", "--pair", address]
    pair = [
        subprocess.Popen([*command, str(i)], stdout=subprocess.PIPE, encoding="utf-8")
        for i in range(2)
    ]
    return float(pair[0].communicate()[0].splitlines()[-1])


def _reduce_in_pair(address: str, process_id: int, repetitions: int = 2000) -> None:
    from jax.sharding import NamedSharding
    from jax.sharding import PartitionSpec as P

    from outer_train import PARTICLES, particle_mesh
    from outer_train.processes import cluster

    jax.config.update("jax_num_cpu_devices", 1)
    cluster.start(cluster.explicit(address, 2, process_id), {})
    mesh = particle_mesh(2)
    add = jax.jit(
        jax.shard_map(
            lambda x: jax.lax.psum(x, PARTICLES), mesh=mesh, in_specs=P(PARTICLES), out_specs=P()
        )
    )
    values = jax.make_array_from_callback(
        (2, SIZE), NamedSharding(mesh, P(PARTICLES)), lambda index: np.ones((1, SIZE), np.float32)
    )  # fmt: skip
    jax.block_until_ready(add(values))
    times = []
    for _ in range(repetitions):
        started = time.perf_counter()
        jax.block_until_ready(add(values))
        times.append(time.perf_counter() - started)
    print(min(times))  # the rest is what else the machine did


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--pair", nargs=2, metavar=("ADDRESS", "ID"), help="used by itself")
    args = parser.parse_args()
    if args.pair:
        _reduce_in_pair(args.pair[0], int(args.pair[1]))
        return
    found = {
        "num_cores": len(os.sched_getaffinity(0)),
        "reduction": reduction_seconds(),
        "ray_gradients_per_second": ray_rates(),
        "learner": learner_seconds(),
        "worker": worker_seconds(),
    }
    text = json.dumps(found, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
