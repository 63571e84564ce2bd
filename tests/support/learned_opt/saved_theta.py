"""A theta on disk, and what the tests do to its files."""

import io
import json
import zipfile

import jax
import numpy as np
import pytest

import learned_opt

KWARGS = {"hidden_sizes": (4,), "timescales": (3.0, 10.0)}


@pytest.fixture
def saved(tmp_path):
    theta = learned_opt.mlp(**KWARGS).init(jax.random.key(3))
    return learned_opt.save(tmp_path / "theta.npz", "mlp", KWARGS, theta), theta


def change_header(path, **changes):
    file = path.with_suffix(".json")
    header = {k: v for k, v in (json.loads(file.read_text()) | changes).items() if v is not None}
    file.write_text(json.dumps(header))


def refused(path, message):
    with pytest.raises((ValueError, OSError), match=message) as error:
        learned_opt.load_theta(path)
    assert str(path.parent) in str(error.value)


def write_npz(path, arrays, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.save(content, array)
            archive.writestr(f"{name}.npy", content.getvalue())
