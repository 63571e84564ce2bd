"""A whole train step exported by `jax.export` runs where this package is not installed.

What crosses is a program over arrays: a state goes as its leaves, since the class of a state would
have to be imported to be read.
"""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from tests.support.learned_opt.every import EVERY

NUM_STEPS = 3
QUICK = ("load_general", "adam8", "marthe_adam")
ELSEWHERE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("learned_opt", "optax", "flax", "outer_train", "tests"):
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Blocked())
import jax, numpy as np
from jax import export
jax.config.update("jax_num_cpu_devices", 8)
try:
    import learned_opt
    raise SystemExit("it is installed")
except ImportError:
    pass
folder, num_steps, *names = sys.argv[1:]
inputs = np.load(f"{folder}/inputs.npz")
for name in names:
    init, step = (
        export.deserialize(open(f"{folder}/{name}.{part}", "rb").read()).call
        for part in ("init", "step")
    )
    params = {key: inputs[key] for key in ("kernel", "bias")}
    state = init(params)
    for i in range(int(num_steps)):
        params, state, loss = step(params, state, inputs["batch"][i])
    np.savez(f"{folder}/{name}.npz", loss=loss, **params)
"""
PARAMS = {
    "kernel": np.linspace(-1, 1, 32, dtype=np.float32).reshape(4, 8),
    "bias": np.linspace(-1, 1, 8, dtype=np.float32),
}
BATCH = np.random.default_rng(0).normal(size=(NUM_STEPS, 16, 4)).astype(np.float32)


def train_step(name):
    """`init` and `step` of a linear model, with the state as a list of arrays."""
    tx = EVERY[name]()
    treedef = jax.tree.structure(jax.eval_shape(tx.init, PARAMS))

    def step(params, leaves, batch):
        loss = lambda p: jnp.mean(jnp.square(batch @ p["kernel"] + p["bias"] - 1))
        value, grads = jax.value_and_grad(loss)(params)
        state = jax.tree.unflatten(treedef, leaves)
        updates, state = tx.update(grads, state, params, value_fn=loss)
        return optax.apply_updates(params, updates), jax.tree.leaves(state), value

    return jax.jit(lambda params: jax.tree.leaves(tx.init(params))), jax.jit(step)


def exported(init, step, params, batch):
    state = jax.eval_shape(init, params)
    return export.export(init)(params), export.export(step)(params, state, batch)


@pytest.mark.parametrize(
    "names", [QUICK, pytest.param(sorted({*EVERY} - {*QUICK}), marks=pytest.mark.slow)], ids=len
)
def test_a_train_step_runs_where_this_package_is_not_installed(names, tmp_path):
    expected = {}
    for name in names:
        init, step = train_step(name)
        for part, program in zip(
            ("init", "step"), exported(init, step, PARAMS, BATCH[0]), strict=True
        ):
            (tmp_path / f"{name}.{part}").write_bytes(program.serialize())
        params, state = PARAMS, init(PARAMS)
        for batch in BATCH:
            params, state, loss = step(params, state, batch)
        expected[name] = params | {"loss": loss}
    np.savez(tmp_path / "inputs.npz", batch=BATCH, **PARAMS)
    subprocess.run(
        [sys.executable, "-P", "-c", ELSEWHERE, tmp_path, str(NUM_STEPS), *names],
        check=True,
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )
    for name in names:
        with np.load(tmp_path / f"{name}.npz") as found:
            for key, x in expected[name].items():
                np.testing.assert_allclose(found[key], x, rtol=1e-6, err_msg=f"{name}: {key}")


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_a_train_step_over_eight_devices_is_exported(kind):
    mesh = jax.make_mesh((8,), ("x",), axis_types=(kind,))
    place = lambda x, *spec: jax.device_put(x, NamedSharding(mesh, P(*spec)))
    params = {"kernel": place(PARAMS["kernel"], None, "x"), "bias": place(PARAMS["bias"], "x")}
    batch = place(BATCH[0])
    with jax.set_mesh(mesh):
        init, step = train_step("adam8")
        programs = exported(init, step, params, batch)
        first, then = (export.deserialize(p.serialize()).call for p in programs)
        found = jax.jit(then)(params, jax.jit(first)(params), batch)
        expected = step(params, init(params), batch)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)
