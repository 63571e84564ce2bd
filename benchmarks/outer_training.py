"""Inner steps a second of outer-training on workload W1, against the machine's matmul rate in the same run.

W1: MLP 64-32-10 on 8x8 Fashion-MNIST, batch 128, 16 antithetic pairs, truncations of 50, the default learned optimizer
with one hidden layer of 32. Where Fashion-MNIST is not prepared, random images of its shape stand in: the arithmetic is
the same, and the result says so.
"""

import os
import time
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

import learned_opt
from benchmarks.matmul import matmul_gflops
from outer_train import PARTICLES, estimators, inner_problem, outer_step, particle_mesh, truncation
from tasks import MLP, TaskFamily, class_subset_family, from_arrays, tfds_images

NUM_PAIRS, NUM_STEPS, EPISODE, BATCH_SIZE = 16, 50, 1000, 128
REFERENCE_GFLOPS = 217.0
"""Of the machine the targets were set on; scale them by `matmul_gflops` over this."""


class Throughput(NamedTuple):
    """Median inner steps a second (both sides of a pair counted), and seconds until the first step was done."""

    inner_steps_per_second: float
    compile_seconds: float


def w1_family() -> tuple[TaskFamily, str]:
    """The task family of W1, and where its images come from."""
    if os.environ.get("TFDS_DATA_DIR"):
        data, source = tfds_images("fashion_mnist", image_size=8), "fashion_mnist"
    else:
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (70_000, 8, 8, 1), dtype=np.uint8)
        data, source = from_arrays(images, np.arange(70_000) % 10), "random images"
    return class_subset_family(data, MLP((32,), 10), 10, batch_size=BATCH_SIZE), source


def throughput(
    family: TaskFamily, estimator: str, num_repeats: int = 10, num_pairs: int = NUM_PAIRS, num_steps: int = NUM_STEPS,
    num_devices: int | None = None, **mlp_kwargs: Any,
) -> Throughput:  # fmt: skip
    """Times whole outer steps: sampling, unroll, estimate, clip, Adam."""
    optimizer = learned_opt.mlp(**mlp_kwargs)
    problem = inner_problem(family, optimizer, max(EPISODE, num_steps))
    mesh = particle_mesh(num_pairs, num_devices)
    make = getattr(estimators, estimator)
    made = make(problem, num_pairs, axis_name=PARTICLES, max_num_steps=num_steps, stagger=True)
    outer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))
    run = outer_step([made], outer, truncation.constant(num_steps), mesh)
    key = jax.random.key(0)
    state, datas = run.init(optimizer.init(key), key), run.place_data((family.data,))
    times = []
    for _ in range(1 + num_repeats):
        start = time.perf_counter()
        state, metrics = run.step(state, key, datas)
        live = float(metrics["num_live_inner_steps"])  # waits for the step
        times.append((time.perf_counter() - start, live))
    rates = [live / seconds for seconds, live in times[1:]]
    return Throughput(float(np.median(rates)), times[0][0])


def run(num_repeats: int = 10) -> dict[str, Any]:
    """The figures of W1 as `learned-opt bench` prints them."""
    mesh = particle_mesh(NUM_PAIRS)
    family, source = w1_family()
    before = matmul_gflops(mesh)
    forward = throughput(family, "evolution_strategies", num_repeats)
    merged = throughput(family, "merged", num_repeats)
    after = matmul_gflops(mesh)
    gflops = float(np.mean([before, after]))
    scale = gflops / REFERENCE_GFLOPS
    return {
        "forward_inner_steps_per_second": forward.inner_steps_per_second,
        "merged_inner_steps_per_second": merged.inner_steps_per_second,
        "matmul_gflops": gflops,
        "matmul_gflops_before_and_after": [before, after],
        "forward_at_reference_rate": forward.inner_steps_per_second / scale,
        "merged_at_reference_rate": merged.inner_steps_per_second / scale,
        "reference_matmul_gflops": REFERENCE_GFLOPS,
        "forward_compile_seconds": forward.compile_seconds,
        "merged_compile_seconds": merged.compile_seconds,
        "num_devices": mesh.size,
        "num_repeats": num_repeats,
        "images": source,
    }
