"""JAX's and Python's strict modes: a use of `load()` and three outer steps work,
and give the ordinary numbers.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.uses import FAMILIES, mode, outer_trained, trained

ROOT = Path(__file__).parent.parent.parent
ORDINARY = {"jax_numpy_dtype_promotion": "standard"}
STRICT = {"jax_numpy_dtype_promotion": "strict"}
X64 = {"jax_enable_x64": True}
RANKS = {"jax_numpy_rank_promotion": "raise"}
NANS = {"jax_debug_nans": True}
LEAKS = {"jax_check_tracer_leaks": True}
NO_JIT = {"jax_disable_jit": True}
QUICK = {
    "x64, strict": STRICT | X64,
    "strict, ranks, nans, leaks": STRICT | RANKS | NANS | LEAKS,
}
"""Each costs a compilation of everything; one setting at a time is tried with the slow ones."""
SLOW = {
    "x64": ORDINARY | X64,
    "strict": STRICT,
    "rank_promotion": ORDINARY | RANKS,
    "debug_nans": ORDINARY | NANS,
    "leaks": ORDINARY | LEAKS,
    "debug_infs": ORDINARY | NANS | {"jax_debug_infs": True},
    "x64, strict, ranks, nans": STRICT | X64 | RANKS | NANS,
}
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
MODES = [*QUICK.items(), *(pytest.param(*item, marks=pytest.mark.slow) for item in SLOW.items())]


@pytest.fixture(scope="module")
def ordinary():
    """The numbers of an ordinary JAX."""
    with mode(**ORDINARY):
        return {"trained": trained(), **{kind: outer_trained(kind) for kind in FAMILIES}}


@pytest.mark.parametrize(("name", "options"), MODES)
def test_jax(name, options, ordinary):
    with mode(**options):
        found = {"trained": trained(), **{kind: outer_trained(kind) for kind in FAMILIES}}
        if options == ORDINARY | X64:  # a user's own parameters have 64 bits there
            np.testing.assert_allclose(
                trained(jnp.float64), ordinary["trained"], rtol=1e-4, atol=1e-6
            )
    for use, values in found.items():
        np.testing.assert_allclose(values, ordinary[use], **TOLERANCE, err_msg=use)


@pytest.mark.parametrize("options", [ORDINARY | NO_JIT, STRICT | X64 | NO_JIT])
def test_load_without_compiling(options, ordinary):
    with mode(**options):
        np.testing.assert_allclose(trained(), ordinary["trained"], **TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("options", [ORDINARY | NO_JIT, STRICT | X64 | NO_JIT])
def test_outer_steps_without_compiling(options, ordinary):
    """Operation by operation, three outer steps take minutes."""
    with mode(**options):
        found = {kind: outer_trained(kind) for kind in FAMILIES}
    np.testing.assert_allclose(found["merged"], ordinary["merged"], **TOLERANCE)
    # Losses are rounded in another order, and divided by the size of a perturbation.
    np.testing.assert_allclose(
        found["persistent_es"], ordinary["persistent_es"], rtol=1e-4, atol=5e-5
    )


def test_python_optimized_and_warnings_are_errors(ordinary):
    """`python -OO` has neither docstrings nor `assert`;
    one process for both, and the same numbers.
    """
    done = subprocess.run(
        [sys.executable, "-OO", "-W", "error", "-m", "tests.support.uses"], cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found.pop("docstring") is None
    for use, values in found.items():
        np.testing.assert_allclose(values, ordinary[use], rtol=1e-5, atol=1e-6, err_msg=use)
