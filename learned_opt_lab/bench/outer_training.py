"""Inner steps a second of outer-training, against the machine's matmul rate in the same run.

W1: MLP 64-32-10 on 8x8 Fashion-MNIST, batch 128, 16 antithetic pairs, truncations of 50, the
default learned optimizer with one hidden layer of 32. The CNN is the paper's, on 32x32x3 images,
batch 8, 4 pairs. Where Fashion-MNIST is not prepared, random images of its shape stand in: the
arithmetic is the same, and the result says so.

Counted flop: 2 (F H + H H + H O) a parameter for a learned update, F without time inputs, and 6 x
batch x parameters for an inner gradient (for the CNN what XLA counts for it); three times that
where the unroll is differentiated. Neither recomputation nor the step's outer loss is counted.
"""

import itertools
import os
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

import learned_opt
from learned_opt.per_parameter import MLPSettings
from learned_opt_lab.bench.matmul import matmul_gflops
from outer_train import PARTICLES, estimators, inner_problem, outer_step, particle_mesh, truncation
from tasks import MLP, ConvNet, TaskFamily, class_subset_family, from_arrays, tfds_images

NUM_PAIRS, NUM_STEPS, EPISODE, BATCH_SIZE = 16, 50, 1000, 128
CNN_PAIRS, CNN_BATCH_SIZE = 4, 8
REFERENCE_GFLOPS = 217.0
"""Of the machine the targets were set on; scale them by `matmul_gflops` over this."""


class Throughput(NamedTuple):
    """One outer-training program.

    Attributes:
      inner_steps_per_second: median, both sides of a pair counted.
      compile_seconds: until the first step was done, tracing and compiling included.
      temporary_bytes: of the whole program, on one device; the compiler's own figure.
      seconds: median of an outer step.
    """

    inner_steps_per_second: float
    compile_seconds: float
    temporary_bytes: int
    seconds: float


def w1_family(
    hidden: int = 32, num_images: int = 70_000, batch_size: int = BATCH_SIZE
) -> tuple[TaskFamily, str]:
    """The task family of W1, or one with another inner model or data set,
    and where its images come from.
    """
    if os.environ.get("TFDS_DATA_DIR") and num_images == 70_000:
        data, source = tfds_images("fashion_mnist", image_size=8), "fashion_mnist"
    else:
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (num_images, 8, 8, 1), dtype=np.uint8)
        data, source = from_arrays(images, np.arange(num_images) % 10), "random images"
    return class_subset_family(data, MLP((hidden,), 10), 10, batch_size=batch_size), source


def cnn_family() -> TaskFamily:
    """The paper's CNN on random images."""
    images = np.random.default_rng(0).integers(0, 256, (2000, 32, 32, 3), dtype=np.uint8)
    return class_subset_family(
        from_arrays(images, np.arange(2000) % 10), ConvNet(), 10, batch_size=CNN_BATCH_SIZE
    )


def throughput(
    family: TaskFamily,
    estimator: str,
    num_repeats: int = 10,
    num_pairs: int = NUM_PAIRS,
    num_steps: int = NUM_STEPS,
    num_devices: int | None = None,
    **mlp_kwargs: Any,
) -> Throughput:
    """Times whole outer steps: sampling, unroll, estimate, clip, Adam."""
    optimizer = learned_opt.mlp(**mlp_kwargs)
    problem = inner_problem(family, optimizer, max(EPISODE, num_steps))
    mesh = particle_mesh(num_pairs, num_devices)
    make = getattr(estimators, estimator)
    made = make(problem, num_pairs, axis_name=PARTICLES, max_num_steps=num_steps, stagger=True)
    outer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))
    run = outer_step([made], outer, truncation.constant(num_steps), mesh, families=(family,))
    key = jax.random.key(0)
    state, datas = run.init(optimizer.init(key), key), run.place_data((family.data,))
    start = time.perf_counter()
    step = run.step.lower(state, key, datas).compile()
    compile_seconds = time.perf_counter() - start
    times = []
    for _ in range(1 + num_repeats):
        start = time.perf_counter()
        state, metrics = step(state, key, datas)
        live = float(metrics["num_live_inner_steps"])  # waits for the step
        times.append((time.perf_counter() - start, live))
    rate = float(np.median([live / seconds for seconds, live in times[1:]]))
    seconds = float(np.median([seconds for seconds, _ in times[1:]]))
    return Throughput(rate, compile_seconds, step.memory_analysis().temp_size_in_bytes, seconds)


def counted_flop(
    family: TaskFamily, batch_size: int, hidden_sizes: Sequence[int], differentiated: bool
) -> float:
    """Flop of one inner step as the module's first lines count it."""
    task = family.task(family.sample(jax.random.key(0)))
    params = jax.eval_shape(task.init, jax.random.key(0))
    num_parameters = sum(x.size for x in jax.tree.leaves(params))
    settings = MLPSettings()
    num_features = 1 + len(settings.second_moment_decays) + len(settings.momentum_decays)
    sizes = [num_features, *hidden_sizes, 2]
    update = 2 * sum(a * b for a, b in itertools.pairwise(sizes)) * num_parameters
    gradient = 6 * batch_size * num_parameters
    # A convolution uses each weight many times an image.
    if any(x.ndim == 4 for x in jax.tree.leaves(params)):
        gradient = _gradient_flop(task, params, family.data)
    return (3 if differentiated else 1) * (update + gradient)


def _gradient_flop(task: Any, params: Any, data: Any) -> float:
    def gradient(params, data, key):
        batch = task.sample_batch(data, key, "train")
        return jax.grad(lambda params: task.loss(params, key, batch)[0])(params)

    return (
        jax.jit(gradient).lower(params, data, jax.random.key(0)).compile().cost_analysis()["flops"]
    )


def run(num_repeats: int = 10) -> dict[str, Any]:
    """The figures of W1 as `learned-opt bench` prints them."""
    mesh = particle_mesh(NUM_PAIRS)
    family, source = w1_family()
    before = matmul_gflops(mesh)
    forward = throughput(family, "evolution_strategies", num_repeats)
    two_layers = throughput(family, "evolution_strategies", num_repeats, hidden_sizes=(32, 32))
    merged = throughput(family, "merged", num_repeats)
    after = matmul_gflops(mesh)
    gflops = float(np.mean([before, after]))
    scale = gflops / REFERENCE_GFLOPS
    measured = {
        "forward": (forward, (32,)),
        "forward_two_layers": (two_layers, (32, 32)),
        "merged": (merged, (32,)),
    }
    figures: dict[str, Any] = {}
    for name, (found, hidden_sizes) in measured.items():
        flop = counted_flop(family, BATCH_SIZE, hidden_sizes, name == "merged")
        figures |= {
            f"{name}_inner_steps_per_second": found.inner_steps_per_second,
            f"{name}_at_reference_rate": found.inner_steps_per_second / scale,
            f"{name}_share_of_matmul_rate": found.inner_steps_per_second * flop / (1e9 * gflops),
            f"{name}_compile_seconds": found.compile_seconds,
            f"{name}_temporary_megabytes": found.temporary_bytes / 1e6,
        }
    return figures | {
        "matmul_gflops": gflops,
        "matmul_gflops_before_and_after": [before, after],
        "reference_matmul_gflops": REFERENCE_GFLOPS,
        "num_devices": mesh.size,
        "num_repeats": num_repeats,
        "images": source,
    }


def cnn(num_repeats: int = 10) -> list[dict[str, Any]]:
    """Forward and merged on the CNN, one and two hidden layers."""
    family, mesh = cnn_family(), particle_mesh(CNN_PAIRS)
    gflops = matmul_gflops(mesh)
    rows = []
    for estimator in ("evolution_strategies", "merged"):
        for hidden_sizes in ((32,), (32, 32)):
            options = {"num_pairs": CNN_PAIRS, "num_steps": 10, "hidden_sizes": hidden_sizes}
            found = throughput(family, estimator, num_repeats, **options)
            flop = counted_flop(family, CNN_BATCH_SIZE, hidden_sizes, estimator == "merged")
            share = found.inner_steps_per_second * flop / (1e9 * gflops)
            rows.append(
                {
                    "estimator": estimator,
                    **options,
                    "share_of_matmul_rate": share,
                    **found._asdict(),
                }
            )
    return rows
