"""What can fit nowhere is refused before it is allocated; what fits is not."""

import os

import jax
import numpy as np
import optax
import pytest

from learned_opt_lab.evaluation.sweep import make_runs, make_sweep
from outer_train import memory
from tasks.analytic.random_quadratic import random_quadratic_family


def test_bytes_of_shapes():
    tree = {
        "theta": jax.ShapeDtypeStruct((10**9, 3), np.float32),
        "half": np.zeros((2, 5), np.float16),
        "key": jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 7)),
        "step": jax.ShapeDtypeStruct((), np.int32),
        "none": None,
    }
    assert memory.num_bytes(tree) == 12 * 10**9 + 20 + 7 * 8 + 4


def test_the_memory_of_this_machine():
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 2**28 < memory.host_bytes() <= total
    assert memory.device_bytes() == memory.host_bytes()  # the tests run on CPUs


def test_a_group_of_processes_may_have_less(monkeypatch, tmp_path):
    (tmp_path / "memory.max").write_text("123456789\n")
    (tmp_path / "unlimited").write_text("max\n")
    paths = [str(tmp_path / name) for name in ("unlimited", "missing", "memory.max")]
    monkeypatch.setattr(memory, "_GROUP_LIMITS", paths)
    assert memory.host_bytes() == 123456789


def test_what_fits_passes_and_what_does_not_is_named():
    memory.check_fits("theta", 10**9, 10**9)
    with pytest.raises(
        ValueError, match=r"^theta would need 40 GB of memory, at least; there are 1,000 MB$"
    ):
        memory.check_fits("theta", 40 * 10**9, 10**9)


def test_runs_and_sweeps(monkeypatch):
    with pytest.raises(
        ValueError, match=r"1000000 tasks and 1000000 seeds of each: keys would need 24,000 GB"
    ):
        make_runs(jax.random.key(0), 10**6, 10**6)
    runs = make_runs(jax.random.key(0), 2, 3)
    sweep = make_sweep(random_quadratic_family(dim=3), optax.sgd, num_steps=1)
    # Three float32 parameters each, sgd has no state.
    monkeypatch.setattr(memory, "host_bytes", lambda: 4 * 6 * 12 - 1)
    with pytest.raises(
        ValueError, match=r"^4 configurations on 6 runs at once: parameters and states would need"
    ):
        sweep(np.ones(4, np.float32), runs)
