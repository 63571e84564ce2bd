"""Runs and checkpoints that several files of tests start from."""

from pathlib import Path

import jax
import pytest

from outer_train.run import directory as run_dir
from outer_train.run.checkpoint import Checkpoints
from tests.support.outer_train.states import make_state


@pytest.fixture
def new_run(tmp_path):
    def make(name):
        return run_dir.create(tmp_path / name, {"type": "test"}, config_file=None, overwrite=False)

    return make


@pytest.fixture(scope="module")
def three_checkpoints(tmp_path_factory) -> Path:
    """Steps 1, 2 and 3, written while the state is donated and changed."""
    directory = tmp_path_factory.mktemp("run") / "checkpoints"
    change = jax.jit(lambda state: state._replace(particles=state.particles * 2), donate_argnums=0)
    with Checkpoints(directory, keep=3) as checkpoints:
        for step in (1, 2, 3):
            state = make_state(step)
            checkpoints.save(step, state, 1.0)
            change(state)
    return directory
