"""A crew of Ray actors. Ray is imported here only, and only when a crew is made."""

import contextlib
import importlib.util
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from outer_train.processes._printable import printable
from outer_train.workers import ray_door
from outer_train.workers.crew import Answer, checked_answer
from outer_train.workers.worker import MakeSource

OBJECT_STORE_BYTES = 100_000_000
INLINE_BYTES = 100_000
"""Above this Ray would not send an argument within the call;
theta is then put into the object store once a version."""


def connect(
    address: str | None,
    timeout: float,
    num_workers: int = 0,
    warn: Callable[[str], None] | None = None,
) -> None:
    """Starts Ray on this machine, where no other can reach it, or connects to a cluster.

    Args:
      address: `host:port` or `auto`; None to start it here.
      timeout: seconds in which the cluster must answer.
      num_workers: that a Ray started here has room for; 0 for one a core.
      warn: called with a line if the cluster takes clients without a token; by default it is
        printed.

    Raises:
      ValueError: Ray is not installed, does not answer, is of another version, or cannot be kept to
        this machine.
    """
    if importlib.util.find_spec("ray") is None:
        raise ValueError(
            "--engine ray needs Ray, which is not installed: pip install 'learned-opt[ray]'"
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address and address != "auto":
        _check_reachable(address, timeout)
    with contextlib.ExitStack() as stack:
        if address:
            stack.enter_context(ray_door.elsewhere())
            _init(address, timeout, {"address": address})
            ray_door.warn_if_open(address, warn or _print_warning)
        else:
            folder = stack.enter_context(ray_door.local())
            stack.callback(_shutdown)
            room = {
                "num_cpus": num_workers or os.cpu_count(),
                "object_store_memory": OBJECT_STORE_BYTES,
            }
            private = {
                "include_dashboard": False,
                "dashboard_host": "127.0.0.1",
                "_temp_dir": str(folder),
            }
            _init(None, timeout, {"address": "local", **room, **private})
            ray_door.check_local()
        _surroundings.append(stack.pop_all())


def _init(address: str | None, timeout: float, settings: dict[str, Any]) -> None:
    import ray

    deadline = time.monotonic() + timeout
    while True:
        try:
            with _quietly():
                ray.init(**settings, log_to_driver=False, logging_level=logging.ERROR)
            return
        except Exception as error:  # Ray raises many types, some of them plain Exception
            # Its daemons give up after 30 s, which a busy machine may need twice.
            _end_daemons(error)
            ray.shutdown()
            if address or time.monotonic() > deadline:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                where = address or "this machine"
                raise ValueError(
                    f"Ray cannot be reached at {where}: {printable(reason, 300)}"
                ) from error


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without what Ray says of its token as it starts, before its level is set."""
    logger = logging.getLogger("ray")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _end_daemons(error: BaseException) -> None:
    """Ends what a failed start left running: Ray forgets the node that it could not finish."""
    from ray._private.node import Node

    trace = error.__traceback__
    while trace is not None:
        node = trace.tb_frame.f_locals.get("self")
        if isinstance(node, Node):
            with contextlib.suppress(Exception):
                node.kill_all_processes(check_alive=False, allow_graceful=False)
            return
        trace = trace.tb_next


def disconnect() -> None:
    """Leaves the cluster, or ends the one started here."""
    _shutdown()
    while _surroundings:
        _surroundings.pop().close()


def _shutdown() -> None:
    import ray

    ray.shutdown()


def _print_warning(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr, flush=True)


_surroundings: list[contextlib.ExitStack] = []
"""Of the connection that is open, at most one."""


def num_cpus() -> int:
    """CPUs of all nodes of the cluster that are up."""
    import ray

    return int(ray.cluster_resources().get("CPU", 0))


class RayWorker:
    """What runs in an actor's process."""

    def __init__(
        self, make_source: MakeSource, place: int, life: int, key_data: np.ndarray, on_cpu: bool
    ):
        """See `outer_train.workers.worker.Worker`; `on_cpu` keeps JAX from the GPUs of a node."""
        import jax

        if on_cpu:
            jax.config.update("jax_platforms", "cpu")
        from outer_train.workers.worker import Worker

        self._worker = Worker(make_source, place, life, key_data)

    def describe(self) -> dict[str, Any]:
        """Who this is."""
        return self._worker.describe()

    def gradient(self, theta: bytes, version: int) -> bytes:
        """See `Worker.gradient`."""
        return self._worker.gradient(theta, version)


class RayCrew:
    """Workers as actors, one CPU each.

    Ray restarts and retries nothing: the roster does, with new particles.
    """

    def __init__(self, make_source: MakeSource, key_data: np.ndarray, gpus_per_worker: float = 0.0):
        """Ray is connected already."""
        import ray

        self._ray = ray
        self._make_source, self._key_data = make_source, key_data
        self._options = {
            "num_cpus": 1,
            "num_gpus": gpus_per_worker,
            "max_restarts": 0,
            "max_task_retries": 0,
        }
        self._actor_class = ray.remote(RayWorker)
        self._pending: dict[Any, tuple[Any, bool]] = {}
        self._stored: tuple[int, Any] = (-1, None)

    def start(self, place: int, life: int) -> Any:
        """A new actor; it is pending until a node has room."""
        actor = self._actor_class.options(**self._options).remote(
            self._make_source, place, life, self._key_data, self._options["num_gpus"] == 0
        )
        self._pending[actor.describe.remote()] = (actor, True)
        return actor

    def request(self, handle: Any, theta: bytes, version: int) -> None:
        """Sends theta within the call, or by the object store if it is large."""
        argument: Any = theta
        if len(theta) > INLINE_BYTES:
            if self._stored[0] != version:
                self._stored = (version, self._ray.put(theta))
            argument = self._stored[1]
        self._pending[handle.gradient.remote(argument, version)] = (handle, False)

    def wait(self, timeout: float) -> list[Answer]:
        """All that is ready."""
        if not self._pending:
            time.sleep(timeout)
            return []
        if not self._ray.wait(list(self._pending), num_returns=1, timeout=timeout)[0]:
            return []
        ready, _ = self._ray.wait(list(self._pending), num_returns=len(self._pending), timeout=0)
        return [self._answer(reference) for reference in ready]

    def stop(self, handle: Any) -> None:
        """Kills the actor."""
        self._pending = {
            ref: entry for ref, entry in self._pending.items() if entry[0] is not handle
        }
        with contextlib.suppress(Exception):  # it may be dead already
            self._ray.kill(handle)

    def _answer(self, reference: Any) -> Answer:
        handle, is_hello = self._pending.pop(reference)
        try:
            result = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return Answer(handle, death=_reason(error))
        return checked_answer(handle, is_hello, result)


def _reason(error: Exception) -> str:
    """The line of Ray's page-long message that says what happened; a worker may have written it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [
        line
        for line in lines
        if "Error:" in line or "exit" in line.lower() or "reason" in line.lower()
    ]
    return printable((telling or lines or [type(error).__name__])[-1], 200)


def _check_reachable(address: str, timeout: float) -> None:
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (host and colon and port.isdigit()):
        raise ValueError(f"--ray-address must be HOST:PORT or auto, got {address!r}")
    deadline = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection(
                (host, int(port)), timeout=max(deadline - time.monotonic(), 0.01)
            ).close()
            return
        except OSError as error:
            if time.monotonic() + 0.2 >= deadline:
                raise ValueError(
                    f"the Ray cluster at {address} cannot be reached within {timeout:g} s "
                    f"({error.strerror or error})"
                ) from error
            time.sleep(0.2)
