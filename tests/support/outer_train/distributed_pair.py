"""One of two processes: `python -m <this module> ADDRESS ID OUT`; writes what it saw as JSON.

One pair of processes serves all tests: starting and compiling take longer than all there is to see.
"""

import json
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import optax

from outer_train.devices import PARTICLES, particle_mesh
from outer_train.estimators import evolution_strategies, merged
from outer_train.processes import cluster as distributed
from outer_train.run import QUIET, LoopSettings, loop
from outer_train.run import directory as run_dir
from outer_train.step import outer_step
from outer_train.truncation import constant
from tests.support.outer_train.systems import linear_quadratic
from tests.support.outer_train.wire import tcp_bytes

SIZE = 16_384
"""Outer parameters: so many that the envelopes of the sums do not hide what is counted."""
SHIPPED_SIZE = 610
"""Those of the default optimizer."""
NUM_STEPS, CHECKPOINT_EVERY = 20, 10
ESTIMATORS = {"merged": merged, "evolution_strategies": evolution_strategies}


def make_step(name, num_devices=2, size=SIZE):
    """The outer step of a small noisy system."""
    problem, _ = linear_quadratic(num_steps=12, num_theta=size, coupling=0.02)
    extra = {"chunk_size": 3} if name == "merged" else {}
    estimator = ESTIMATORS[name](
        problem, 4, axis_name=PARTICLES, max_num_steps=3, stagger=True, **extra
    )
    return outer_step([estimator], optax.adam(1e-2), constant(3), particle_mesh(4, num_devices))


def fresh_theta(size=SIZE):
    return np.linspace(-0.1, 0.1, size, dtype=np.float32)


def train(step, directory, num_outer_steps=NUM_STEPS):
    data = step.place_data(((),))
    run = run_dir.RunDirectory(Path(directory))
    settings = LoopSettings(num_outer_steps, CHECKPOINT_EVERY)
    return loop.train(
        step, fresh_theta(), jax.random.key(1), data, run, settings, QUIET._replace(warn=complain)
    )


def complain(line):
    raise AssertionError(line)


def flat(theta):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(jax.device_get(theta))])


def bytes_a_step(step, size, num_steps=50):
    """Sent by this process, a step;
    steps are read one by one, so that nothing else is under way.
    """
    data, key = step.place_data(((),)), np.asarray(jax.random.key_data(jax.random.key(1)))
    key = jax.random.wrap_key_data(
        jax.device_put(key, jax.tree.leaves(data)[0].sharding) if data[0] else key
    )
    state = step.init(fresh_theta(size), jax.random.key(0))
    state, _ = jax.block_until_ready(step.step(state, key, data))
    before = tcp_bytes()[0]
    for _ in range(num_steps):
        state, _ = jax.block_until_ready(step.step(state, key, data))
    return (tcp_bytes()[0] - before) / num_steps


def main(address, process_id, out):
    cluster = distributed.explicit(address, 2, int(process_id))
    distributed.start(cluster, {"config": 1}, timeout=120)
    out, seen = Path(out), {}
    steps = {name: make_step(name) for name in ESTIMATORS}
    distributed.from_first(lambda: (out / "run").mkdir())
    whole = train(steps["merged"], out / "run")
    seen["theta"] = flat(whole.state.theta).tolist()
    # Back to the checkpoint of step 10, as after a kill, and on with the same two.
    distributed.from_first(lambda: run_dir_copy(out / "run", out / "two"))
    seen["resumed"] = flat(train(steps["merged"], out / "two").state.theta).tolist()
    seen["bytes"] = {
        name: [
            bytes_a_step(step, SIZE),
            bytes_a_step(make_step(name, size=SHIPPED_SIZE), SHIPPED_SIZE),
        ]
        for name, step in steps.items()
    }
    try:
        distributed.from_first(lambda: int("no number"))
    except ValueError as error:
        seen["error"] = str(error)
    (out / f"process_{process_id}.json").write_text(json.dumps(seen))


def run_dir_copy(source, target, keep=CHECKPOINT_EVERY):
    """A run cut back to its checkpoint `keep`."""
    shutil.copytree(source, target)
    for path in (target / "checkpoints").iterdir():
        if path.name.isdigit() and int(path.name) > keep:
            shutil.rmtree(path)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 1)
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    main(*sys.argv[1:])
