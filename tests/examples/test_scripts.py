"""The example scripts, with fewer steps: the loss falls, on one line's change."""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@pytest.mark.parametrize("name", ["plain_optax", "flax_linen", "flax_nnx"])
def test_the_loss_falls(name, capsys):
    spec = importlib.util.spec_from_file_location(f"examples_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with jax.numpy_dtype_promotion("standard"):
        losses = module.main(num_steps=50)
    assert len(losses) == 50
    # Ten classes cost log 10 = 2.3 to begin with.
    assert 1.8 < np.mean(losses[:3]) < 3.5
    assert np.mean(losses[-5:]) < 0.6 * losses[0]
    assert "step   50  loss" in capsys.readouterr().out
    assert "learned_opt.load(" in (EXAMPLES / f"{name}.py").read_text()
