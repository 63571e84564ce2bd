"""Peak memory of a differentiated unroll of 10,000 inner steps of the paper's CNN,
two antithetic pairs.

    python -m benchmarks.long_unroll [NUM_STEPS]

The peak is that of the whole process. A full run takes long on a small machine; memory is allocated
as the unroll goes forward, so the compiler's own figure, which covers all 10,000 steps whatever
number is run, is printed beside it.
"""

import json
import resource
import sys

import jax
import numpy as np

import learned_opt
from outer_train import estimators, inner_problem
from tasks import ConvNet, class_subset_family, from_arrays

MAX_NUM_STEPS, NUM_PAIRS, BATCH_SIZE, CHUNK_SIZE = 10_000, 2, 8, 100


def run(num_steps: int = MAX_NUM_STEPS) -> dict:
    """Runs one merged estimate of `num_steps` with buffers for 10,000,
    and tells its memory in GB.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2000, 32, 32, 3), dtype=np.uint8)
    family = class_subset_family(
        from_arrays(images, np.arange(2000) % 10), ConvNet(), 10, batch_size=BATCH_SIZE
    )
    optimizer = learned_opt.mlp()
    problem = inner_problem(family, optimizer, MAX_NUM_STEPS)
    merged = estimators.merged(
        problem, NUM_PAIRS, max_num_steps=MAX_NUM_STEPS, chunk_size=CHUNK_SIZE
    )
    key = jax.random.key(0)
    theta = optimizer.init(key)
    state = jax.jit(merged.init)(theta, key)
    args = (theta, state, key, np.int32(num_steps), family.data)
    compiled = jax.jit(merged.estimate).lower(*args).compile()
    memory = compiled.memory_analysis()
    result, _ = jax.block_until_ready(compiled(*args))
    params = jax.tree.leaves(state.inner.params)
    return {
        "num_steps": num_steps,
        "max_num_steps": MAX_NUM_STEPS,
        "num_pairs": NUM_PAIRS,
        "inner_parameters": sum(x[0, 0].size for x in params),
        "compiled_peak_gb": (memory.temp_size_in_bytes + memory.argument_size_in_bytes) / 1e9,
        "process_peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "outer_loss": float(result.loss),
    }


if __name__ == "__main__":
    print(json.dumps(run(int(sys.argv[1]) if len(sys.argv) > 1 else MAX_NUM_STEPS), indent=2))
