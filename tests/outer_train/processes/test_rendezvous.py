"""The meeting before JAX: who is missing, who differs, and that it ends in time."""

import socket
import threading
import time

import pytest

from outer_train.processes import cluster
from outer_train.processes.rendezvous import difference, meet

FINGERPRINT = {"jax": "0.10", "config": {"seed": 0, "estimator": {"std": 0.01}}}


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def meet_and_part(*arguments):
    """Returns to whom there was a connection."""
    connections = meet(*arguments)
    for connection in connections.values():
        connection.close()
    return sorted(connections)


def meeting(*processes, timeout=5.0):
    """Each process is `(num_processes, process_id, fingerprint)`;
    returns their errors, or None, in order.
    """
    port, errors = free_port(), [None] * len(processes)

    def come(i, num_processes, process_id, fingerprint):
        try:
            met = meet_and_part(
                f"127.0.0.1:{port}", num_processes, process_id, fingerprint, timeout
            )
            assert met == (list(range(1, num_processes)) if process_id == 0 else [0])
        except ValueError as error:
            errors[i] = str(error)

    threads = [
        threading.Thread(target=come, args=(i, *process)) for i, process in enumerate(processes)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_all_alike_go_on():
    assert meeting(*((4, i, FINGERPRINT) for i in range(4))) == [None] * 4


def test_another_version_or_config_is_named_in_all_processes():
    older = FINGERPRINT | {"jax": "0.8"}
    errors = meeting((2, 0, FINGERPRINT), (2, 1, older))
    assert errors == ["jax is '0.10' in process 0 and '0.8' in process 1"] * 2
    other = FINGERPRINT | {"config": {"seed": 0, "estimator": {"std": 0.02}}}
    errors = meeting((2, 0, FINGERPRINT), (2, 1, other))
    assert errors == ["config.estimator.std is 0.01 in process 0 and 0.02 in process 1"] * 2


def test_other_counts_and_twins_are_named():
    assert (
        meeting((2, 0, {}), (3, 1, {}))
        == ["--num-processes is 2 in process 0 and 3 in process 1"] * 2
    )
    errors = meeting((3, 0, {}), (3, 1, {}), (3, 1, {}))
    assert errors == ["two processes call themselves process 1"] * 3


def test_the_missing_are_named_in_time():
    started = time.monotonic()
    errors = meeting((4, 0, {}), (4, 2, {}), timeout=1.0)
    assert 1.0 <= time.monotonic() - started < 3
    assert all(
        "process 1, 3 did not come to port" in error and "within 1 s" in error for error in errors
    )


def test_an_unreachable_coordinator_is_named_in_time():
    started, port = time.monotonic(), free_port()
    with pytest.raises(
        ValueError, match=rf"the coordinator 127.0.0.1:{port} cannot be reached within 0.5 s"
    ):
        meet(f"127.0.0.1:{port}", 2, 1, {}, 0.5)
    assert 0.5 <= time.monotonic() - started < 2


def test_strangers_at_the_port_do_no_harm():
    port, errors = free_port(), []

    def host():
        try:
            meet_and_part(f"127.0.0.1:{port}", 2, 0, FINGERPRINT, 10.0)
        except ValueError as error:
            errors.append(error)

    thread = threading.Thread(target=host)
    thread.start()
    for greeting in (b"GET / HTTP/1.0\r\n\r\n", b'{"process_id": 1}\n', b""):
        for _ in range(50):
            try:
                with socket.create_connection(("127.0.0.1", port)) as stranger:
                    stranger.sendall(greeting)
                break
            except OSError:
                time.sleep(0.05)
    meet_and_part(f"127.0.0.1:{port}", 2, 1, FINGERPRINT, 10.0)
    thread.join()
    assert errors == []


def test_difference_finds_the_first_place():
    assert difference({"a": 1}, {"a": 1}) is None
    assert difference({"a": 1}, {"a": 1, "b": 2}) == "b is None in process 0 and 2"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("host:1", 2, None), "no --process-id"),
        (("host", 2, 0), "must be HOST:PORT, got 'host'"),
        (("host:99999", 2, 0), "must be HOST:PORT"),
        (("host:1", 2, 2), "got 2 of 2"),
    ],
)
def test_impossible_clusters_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        cluster.explicit(*arguments)


def test_slurm_is_detected(monkeypatch):
    slurm = {
        "JOB_ID": "4096",
        "STEP_NODELIST": "node[07-09],other",
        "NTASKS": "3",
        "PROCID": "2",
        "LOCALID": "0",
    }
    for name, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert cluster.detect(1.0) == ("node07:61440", 3, 2, True)


def test_nothing_detected_says_what_to_give():
    with pytest.raises(ValueError, match="give --coordinator HOST:PORT"):
        cluster.detect(1.0)
