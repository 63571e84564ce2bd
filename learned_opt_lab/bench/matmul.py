"""The rate of the machine that everything else is measured against:
float32 matrix products on all devices at once.
"""

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from learned_opt_lab.bench.timing import median_seconds
from outer_train import PARTICLES

SIZE = 2048


def matmul_gflops(mesh: Mesh, num_repeats: int = 10) -> float:
    """Median float32 matmul rate over all devices of the mesh, in GFLOP/s."""
    x = jax.random.normal(jax.random.key(0), (mesh.size, SIZE, SIZE), jnp.float32)
    multiply = lambda x: jnp.matmul(x, x, precision=jax.lax.Precision.HIGHEST)
    run = jax.jit(jax.shard_map(multiply, mesh=mesh, in_specs=P(PARTICLES), out_specs=P(PARTICLES)))
    seconds = median_seconds(lambda: run(x), num_repeats)
    return mesh.size * 2 * SIZE**3 / seconds / 1e9
