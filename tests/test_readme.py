"""The Python of README.md runs as it stands, in a folder that holds a finished run."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import learned_opt

ROOT = Path(__file__).parents[1]


def test_the_readmes_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mlp = learned_opt.mlp()
    (tmp_path / "runs" / "quickstart").mkdir(parents=True)
    learned_opt.save("runs/quickstart/theta", "mlp", {}, mlp.init(jax.random.key(0)))
    blocks = re.findall(
        r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert len(blocks) == 7
    names = {}
    with jax.numpy_dtype_promotion("standard"):  # as users have it
        for block in blocks:
            exec(compile(block, "README.md", "exec"), names)
    assert int(names["state"].step) == 3
    assert names["kinds"] == {"bias": "vector", "kernel": "matrix"}
    assert np.isfinite(float(names["metrics"]["outer_loss"]))
    _, theta = learned_opt.load_theta("regression.npz")
    np.testing.assert_array_equal(
        jax.tree.leaves(theta)[0], jax.tree.leaves(names["state"].theta)[0]
    )


def test_the_python_about_states_runs():
    params = {"body": jnp.ones((3, 2)), "head": jnp.ones(2)}
    loss = lambda params, batch: jnp.mean((batch @ params["body"] * params["head"] - 1.0) ** 2)
    optimizer, batch = learned_opt.load("mlp"), jnp.ones((4, 3))
    updates, opt_state = jax.jit(optimizer.update)(params, optimizer.init(params), params)
    names = {**globals(), **locals(), "optax": optax}
    blocks = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/sharding.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "docs/sharding.md", "exec"), names)
    assert not np.any(names["opt_state"].momenta["head"])
    np.testing.assert_array_equal(
        names["opt_state"].momenta["body"], opt_state.momenta["body"], strict=True
    )
    assert len(names["program"]) > 1000


def test_every_file_the_readme_names_exists():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    paths = re.findall(
        r"`((?:tasks|learned_opt|outer_train|configs|learned_opt_lab|benchmarks)/[\w/]+\.py)`", text
    )
    paths += re.findall(r"\]\((docs/[\w/.]+)\)", text)
    assert len(paths) > 8
    assert [path for path in paths if not (ROOT / path).exists()] == []
