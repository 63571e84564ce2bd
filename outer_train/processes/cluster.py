"""Several processes of one run, in step: `jax.distributed`, and what only one process may do.

JAX ends a process by an abort when its coordinator cannot be reached. So the processes meet first
over a plain TCP connection at the coordinator's address, compare versions and configs, and end with
one clear line if anything is wrong. They keep that connection, and end with one clear line too if
one of them is lost later.

The meeting asks for a token (`outer_train.processes.secret`). JAX's coordination service and Gloo,
which come after it, ask for none: docs/scaling.md says what listens where.
"""

import atexit
import functools
import json
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from outer_train.processes import addresses
from outer_train.processes._printable import printable
from outer_train.processes.rendezvous import meet
from outer_train.processes.watch import Watch, on_abort

MAX_BROADCAST = 1 << 26
"""Bytes of what the first process tells the others, as JSON."""
HEARTBEAT_TIMEOUT = 60
"""Seconds after which JAX counts a process that fell silent as lost;
`outer_train.processes.watch` does so earlier."""


class Cluster(NamedTuple):
    """The processes of a run: `host:port` of process 0, how many there are,
    which one this is, and if JAX found it.
    """

    coordinator: str
    num_processes: int
    process_id: int
    detected: bool = False


def explicit(coordinator: str | None, num_processes: int | None, process_id: int | None) -> Cluster:
    """Checks what was given on the command line.

    Raises:
      ValueError: for a missing or impossible value.
    """
    given = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    missing = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is None]
    if missing:
        raise ValueError(
            "several processes need --coordinator, --num-processes and --process-id: no "
            f"{missing[0]}"
        )
    addresses.split(coordinator)
    if num_processes < 1 or not 0 <= process_id < num_processes:
        raise ValueError(
            f"--process-id must lie in [0, --num-processes), got {process_id} of {num_processes}"
        )
    return Cluster(coordinator, num_processes, process_id)


def detect(timeout: float) -> Cluster:
    """What JAX finds in the environment: SLURM, Open MPI, Kubernetes, TPU pods.

    Raises:
      ValueError: it finds nothing.
    """
    # jax.distributed.initialize detects the same way, but tells nobody what it found.
    from jax._src.clusters import ClusterEnv

    for kind in ClusterEnv._cluster_types:
        if not kind.opt_in_only_method and kind.is_env_present():
            port = os.environ.get("JAX_COORDINATOR_PORT")
            address = kind.get_coordinator_address(
                timeout_secs=int(timeout), override_coordinator_port=port
            )
            return Cluster(address, kind.get_process_count(), kind.get_process_id(), detected=True)
    raise ValueError(
        "JAX finds no cluster here (it knows SLURM, Open MPI, Kubernetes and TPU pods)\n"
        "give --coordinator HOST:PORT, --num-processes and --process-id"
    )


def start(
    cluster: Cluster,
    fingerprint: Mapping[str, Any],
    timeout: float = 60,
    on_loss: Callable[[str], None] | None = None,
) -> None:
    """Connects the processes; call it before anything runs on JAX.

    On CPU they talk through Gloo, on GPUs through NCCL.

    Args:
      cluster: from `explicit` or `detect`.
      fingerprint: what must be the same in all processes, as JSON: versions, the config.
      timeout: seconds in which all must have come.
      on_loss: called, on another thread, with what happened to a process that is lost before this
        one leaves; must end this process at once. If not given, the loss shows in JAX's own ways.

    Raises:
      ValueError: someone did not come, or differs; raised by all processes that came. Or there is
        no token.
    """
    coordinator, num_processes, process_id, detected = cluster
    connections = meet(coordinator, num_processes, process_id, fingerprint, timeout)
    if on_loss is None:
        for connection in connections.values():
            connection.close()
    elif connections:
        watch = Watch(process_id, connections, on_loss)
        on_abort(lambda: on_loss("JAX aborted this one, as said above"))
        atexit.register(watch.leave)
        _watches.append(watch)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    where = _listening(coordinator)
    jax.distributed.initialize(
        # Detecting again, JAX finds the devices too.
        *(() if detected else (coordinator, num_processes, process_id)),
        initialization_timeout=max(int(timeout), 10),
        heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT,
        # JAX listens at all addresses otherwise.
        coordinator_bind_address=where if process_id == 0 else None,
    )


def _listening(coordinator: str) -> str:
    """Where JAX's coordination service is to listen;
    has Gloo stay on this machine where the coordinator does.

    Raises:
      ValueError: the coordinator has no address.
    """
    try:
        address = addresses.listening(coordinator)
        others = addresses.resolve(*addresses.split(coordinator))
    except OSError as error:
        raise ValueError(
            f"the address of {printable(coordinator)} cannot be found ({error})"
        ) from error
    if all(other.is_loopback for other in others):
        from jax._src.lib import _jax

        make = getattr(_jax.make_gloo_tcp_collectives, "func", _jax.make_gloo_tcp_collectives)
        # Else it listens at the address of the machine's name. JAX has no setting for it.
        _jax.make_gloo_tcp_collectives = functools.partial(make, hostname=others[0].ip)
    return str(address)


def leave() -> None:
    """Parts the processes, once all have come here:
    from then on each goes on and ends on its own.
    """
    if jax.process_count() > 1:
        jax.distributed.shutdown()
    for watch in _watches:
        watch.leave()


def is_first() -> bool:
    """Whether this process writes what is written once; true for a process on its own."""
    return jax.process_index() == 0


def from_first(make: Callable[[], Any]) -> Any:
    """Calls `make` in the first process and returns its result, JSON values, in all of them.

    Raises:
      Exception: what `make` raises, in the first process; a ValueError with its text in the others.
    """
    if jax.process_count() == 1:
        return make()
    message, failure = {}, None
    if is_first():
        try:
            message = {"result": make()}
        except Exception as error:  # whatever it is, the others wait to hear of it
            message, failure = {"error": str(error) or type(error).__name__}, error
    message = _broadcast(message)
    if failure is not None:
        raise failure
    if "error" in message:
        raise ValueError(
            "\n".join(printable(line, 300) for line in str(message["error"]).splitlines()[:5])
        )
    return message["result"]


def agree(values: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Each process's integers, in all processes, by process; waits for all."""
    if jax.process_count() == 1:
        return [values]
    from jax.experimental import multihost_utils

    return [
        tuple(int(v) for v in row)
        for row in multihost_utils.process_allgather(np.asarray(values, np.int32))
    ]


def _broadcast(message: dict[str, Any]) -> dict[str, Any]:
    from jax.experimental import multihost_utils

    data = np.frombuffer(json.dumps(message).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
    if not 0 <= size <= MAX_BROADCAST:
        raise ValueError(f"the first process has {size} bytes to say, of at most {MAX_BROADCAST}")
    padded = np.zeros(size, np.uint8)
    padded[: min(size, len(data))] = data[:size]
    return json.loads(
        np.asarray(multihost_utils.broadcast_one_to_all(padded)).astype(np.uint8).tobytes()
    )


_watches: list[Watch] = []
"""At most one; JAX connects a process once."""
