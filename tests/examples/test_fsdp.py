"""The fully sharded example, small: a device holds its share, and four devices go on where eight
would.
"""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "fsdp.py"


def test_four_devices_go_on_where_eight_would(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("examples_fsdp", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with jax.numpy_dtype_promotion("standard"):
        losses, again, held = module.main(32, 2, 16, num_steps=4, folder=tmp_path)
    assert len(losses) == 8
    assert losses[-1] < 0.9 * losses[0]
    # A uniform guess costs log 256.
    assert losses[0] == pytest.approx(np.log(256), rel=0.05)
    np.testing.assert_allclose(again, losses[4:], rtol=1e-4)
    # All axes of 8 and more elements are cut; only counts are whole.
    np.testing.assert_allclose(held, [[1 / 8] * 2, [1 / 4] * 2], rtol=1e-3)
    assert "on each of 4 devices" in capsys.readouterr().out
