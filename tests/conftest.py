"""Eight CPU devices for every test, strict dtype promotion, warnings are errors;
slow.txt says what is slow.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of a test's time is LLVM's, optimizing a program that runs once;
# with =0 before the command a test runs what users run.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax
import pytest

TOLD = "told"
"""A property of a test's report."""

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
# No directory is set, yet JAX forms the key of every program,
# an eighth of the time of a test that compiles many.
jax.config.update("jax_enable_compilation_cache", False)


def pytest_collection_modifyitems(config, items):
    """Marks what slow.txt names."""
    lines = (Path(__file__).parent / "slow.txt").read_text(encoding="utf-8").splitlines()
    starts = tuple(f"tests/{line}" for line in lines if line and not line.startswith("#"))
    for item in items:
        if item.nodeid.startswith(starts):
            item.add_marker(pytest.mark.slow)


def pytest_runtest_logreport(report):
    """Tells a failure at once, too: a run that is ended from outside never comes to its summary."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        print(
            f"\n{report.nodeid} failed in its {report.when}\n{report.longreprtext}",
            file=sys.__stderr__,
            flush=True,
        )


def pytest_terminal_summary(terminalreporter):
    """What tests have told; what the worker of a parallel run prints is lost."""
    reports = [each for kind in ("passed", "failed") for each in terminalreporter.getreports(kind)]
    told = [value for each in reports for name, value in each.user_properties if name == TOLD]
    if told:
        terminalreporter.section("what the tests counted")
    for line in told:
        terminalreporter.write_line(line)


@pytest.fixture
def tell(record_property):
    """`line -> None`: the line is shown in the summary, whoever runs the test."""
    return lambda line: record_property(TOLD, line)


@pytest.fixture
def optimized():
    """For a test that computes for longer than it compiles: its programs as users run them."""
    name = "jax_disable_most_optimizations"
    before = jax.config.values[name]
    jax.config.update(name, False)
    yield
    jax.config.update(name, before)


@pytest.fixture(scope="session")
def fashion_mnist_dir() -> Path:
    """Where tensorflow-datasets finds real Fashion-MNIST; skips where it is not prepared."""
    directory = os.environ.get("TFDS_DATA_DIR")
    if not directory or not any(Path(directory, "fashion_mnist").glob("*/dataset_info.json")):
        pytest.skip(
            "TFDS_DATA_DIR names no directory with fashion_mnist prepared in array_record form"
        )
    return Path(directory)
