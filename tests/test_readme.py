"""The Python of README.md runs as it stands, in a folder that holds a finished run; so does that
of pages which need more than one folder or name.
"""

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import learned_opt

ROOT = Path(__file__).parents[1]


def blocks_of(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def run(page, names):
    with jax.numpy_dtype_promotion("standard"):  # as users have it
        for block in blocks_of(page):
            exec(compile(block, page, "exec"), names)
    return names


def test_the_readmes_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mlp = learned_opt.mlp()
    (tmp_path / "runs" / "quickstart").mkdir(parents=True)
    learned_opt.save("runs/quickstart/theta", "mlp", {}, mlp.init(jax.random.key(0)))
    assert len(blocks_of("README.md")) == 2
    names = run("README.md", {})
    assert float(names["loss"](names["params"])) < 7.0
    assert float(names["model"].kernel[...].std()) > 0


def test_the_readme_is_short_and_shows_the_two_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 100
    assert text.index("## Install") < text.index("make quickstart  ")
    assert "\n.venv/bin/learned-opt train digits_mlp " in text


def test_the_readmes_numbers_are_those_of_the_league():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    leagues = json.loads((ROOT / "docs/results/real.json").read_text(encoding="utf-8"))["leagues"]
    boards = [leagues["untuned"], leagues["equal_budgets"]["5"]]
    untuned, tuned = ({each["label"]: each for each in board["optimizers"]} for board in boards)
    seconds = {
        k: each["against_reference"]["seconds_per_step_ratio"] for k, each in untuned.items()
    }
    table = readme[readme.index("| optimizer | nobody tunes") :].partition("\n\n")[0]
    shown = [re.split(r" *\| *", row)[1:-1] for row in table.splitlines()[2:]]
    assert len(shown) == 5
    for label, *said in shown:
        name = label.strip("*`")
        assert said == [
            *(_interval(board[name]["normalized"]) for board in (untuned, tuned)),
            f"{seconds[name] / seconds['adam']:.2f}",
        ]


def _interval(found):
    estimate, low, high = (f"{found[key]:.3f}" for key in ("estimate", "low", "high"))
    return f"{estimate} [{low}, {high}]"


def test_a_package_index_shows_the_same_program():
    (program,) = blocks_of("docs/package.md")
    assert program == blocks_of("README.md")[0]


def test_what_is_trained_from_python_is_saved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run("docs/guides/from_python.md", {})
    assert int(names["state"].step) == 3
    assert np.isfinite(float(names["metrics"]["outer_loss"]))
    _, theta = learned_opt.load_theta("regression.npz")
    np.testing.assert_array_equal(
        jax.tree.leaves(theta)[0], jax.tree.leaves(names["state"].theta)[0]
    )


def test_the_guides_marthe_runs():
    names = run("docs/guides/choose_an_optimizer.md", {})
    assert int(names["opt_state"].num_non_finite) == 0
    assert float(names["opt_state"].hypergradient) != 0
    assert float(np.abs(names["stats"]["BatchNorm_0"]["mean"]).max()) > 0


def test_the_python_about_states_runs():
    params = {"body": jnp.ones((3, 2)), "head": jnp.ones(2)}
    loss = lambda params, batch: jnp.mean((batch @ params["body"] * params["head"] - 1.0) ** 2)
    optimizer, batch = learned_opt.load("mlp"), jnp.ones((4, 3))
    updates, opt_state = jax.jit(optimizer.update)(params, optimizer.init(params), params)
    names = {**globals(), **locals(), "optax": optax}
    assert len(blocks_of("docs/sharding.md")) == 2
    for block in blocks_of("docs/sharding.md"):
        exec(compile(block, "docs/sharding.md", "exec"), names)
    assert not np.any(names["opt_state"].momenta["head"])
    np.testing.assert_array_equal(
        names["opt_state"].momenta["body"], opt_state.momenta["body"], strict=True
    )
    assert len(names["program"]) > 1000
