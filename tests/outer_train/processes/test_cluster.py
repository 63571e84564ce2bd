"""Two processes in step: the numbers of one process with two devices,
checkpoints across counts, bytes sent.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from outer_train.processes import cluster
from outer_train.run import metrics
from tests.support.outer_train import distributed_pair as pair

ROOT = Path(__file__).parents[3]
TIMEOUT = 1200
"""Seconds; an idle machine needs about 20."""


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """What two processes wrote."""
    directory, port = tmp_path_factory.mktemp("pair"), free_port()
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {
        "JAX_PLATFORMS": "cpu"
    }
    command = [
        sys.executable,
        "-m",
        "tests.support.outer_train.distributed_pair",
        f"127.0.0.1:{port}",
    ]
    processes = [
        subprocess.Popen(
            [*command, str(i), str(directory)], cwd=ROOT, env=environment, stderr=subprocess.PIPE,
            text=True
        )
        for i in range(2)
    ]  # fmt: skip
    for process in processes:
        errors = process.communicate(timeout=TIMEOUT)[1]
        assert process.returncode == 0, errors
    return directory


@pytest.fixture(scope="module")
def seen(out):
    return [json.loads((out / f"process_{i}.json").read_text()) for i in range(2)]


@pytest.fixture(scope="module")
def merged_step():
    return pair.make_step("merged")


def rows_of(directory):
    return metrics.read_rows(Path(directory) / "metrics.jsonl")


def assert_rows_close(rows, expected):
    assert [row["outer_step"] for row in rows] == [row["outer_step"] for row in expected]
    for row, other in zip(rows, expected, strict=True):
        for name in (
            "outer_loss",
            "grad_norm",
            "weight_reparameterization",
            "variance_evolution_strategies",
        ):
            assert row[name] == pytest.approx(other[name], rel=1e-3, abs=1e-6), (
                row["outer_step"],
                name,
            )


def test_two_processes_are_one_process_with_two_devices(seen, out, merged_step, tmp_path):
    whole = pair.train(merged_step, tmp_path)
    np.testing.assert_array_equal(seen[0]["theta"], seen[1]["theta"])
    np.testing.assert_allclose(seen[0]["theta"], pair.flat(whole.state.theta), rtol=1e-3, atol=2e-5)
    assert_rows_close(rows_of(out / "run"), rows_of(tmp_path))
    assert len(rows_of(tmp_path)) == pair.NUM_STEPS


def test_their_checkpoint_goes_on_with_two_processes_bitwise(seen, out):
    np.testing.assert_array_equal(seen[0]["resumed"], seen[0]["theta"])
    without = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in rows_of(out / d)]
        for d in ("run", "two")
    ]
    assert without[0] == without[1]


def test_their_checkpoint_goes_on_with_one_process(seen, out, merged_step, tmp_path):
    pair.run_dir_copy(out / "run", tmp_path / "one")
    resumed = pair.train(merged_step, tmp_path / "one")
    np.testing.assert_allclose(
        pair.flat(resumed.state.theta), seen[0]["theta"], rtol=1e-3, atol=2e-5
    )
    assert_rows_close(rows_of(tmp_path / "one"), rows_of(out / "run"))


@pytest.mark.parametrize(
    ("name", "content", "envelope"), [("merged", 4, 1650), ("evolution_strategies", 1, 900)]
)  # fmt: skip
def test_bytes_sent_a_step(seen, name, content, envelope):
    """By each process, over TCP: the content, in thetas (float32), and Gloo's envelope.

    That is 576 B a sum, and 147 B for a scalar's; one sum alone is .24 of the shipped theta. Counts
    and heartbeats are the rest.
    """
    for process in seen:
        large, small = process["bytes"][name]
        assert content < large / (4 * pair.SIZE) <= content + 0.2
        assert 0 < small - content * 4 * pair.SHIPPED_SIZE <= envelope
        assert 0 < large - content * 4 * pair.SIZE <= envelope


def test_an_error_of_the_first_process_is_everyones(seen):
    assert (
        seen[0]["error"]
        == seen[1]["error"]
        == "invalid literal for int() with base 10: 'no number'"
    )


def test_a_single_process_needs_no_others():
    assert cluster.is_first()
    assert cluster.from_first(lambda: {"a": [1, 2]}) == {"a": [1, 2]}
    assert cluster.agree((3, 4)) == [(3, 4)]
    assert jax.process_count() == 1
