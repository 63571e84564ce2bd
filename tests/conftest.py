"""Eight CPU devices for every test, strict dtype promotion, warnings are errors (see pyproject.toml)."""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(scope="session")
def fashion_mnist_dir() -> Path:
    """Where tensorflow-datasets finds real Fashion-MNIST; skips where it is not prepared."""
    directory = os.environ.get("TFDS_DATA_DIR")
    if not directory or not any(Path(directory, "fashion_mnist").glob("*/dataset_info.json")):
        pytest.skip("TFDS_DATA_DIR names no directory with fashion_mnist prepared in array_record form")
    return Path(directory)
