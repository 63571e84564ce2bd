"""What the tests of configs and runs share."""

import sys

import jax
import pytest


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A module in the working directory that leaves a file behind when it is imported;
    gives the file's path.
    """
    directory = tmp_path / "stranger"
    directory.mkdir()
    touched = tmp_path / "touched"
    (directory / "stranger.py").write_text(
        f"import pathlib\npathlib.Path({str(touched)!r}).touch()\n"
        "from learned_opt import mlp\n"
        "from tasks.analytic.random_quadratic import random_quadratic_family\n"
        "def optimizer(width=4):\n    return mlp((width,))\n"
        "def family(dim=3):\n    return random_quadratic_family(dim)\n"
    )
    path = list(sys.path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(directory)
    cache = jax.config.jax_compilation_cache_dir
    yield touched
    jax.config.update("jax_compilation_cache_dir", cache)
    sys.modules.pop("stranger", None)
    sys.path[:] = path
