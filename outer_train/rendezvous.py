"""Where the processes of a run meet before JAX connects them: who is there, and whether all mean the same run."""

import contextlib
import json
import socket
import time
from collections.abc import Mapping
from typing import Any

MAX_MESSAGE = 1 << 20
RETRY_SECONDS = 0.2
GREETING_SECONDS = 5.0
"""In which a visitor must say who it is; then the next one is heard."""


def meet(
    coordinator: str, num_processes: int, process_id: int, fingerprint: Mapping[str, Any], timeout: float
) -> dict[int, socket.socket]:
    """Waits until all processes have come to process 0 at `coordinator`, and compares what they bring.

    Args:
      coordinator: `host:port` of process 0; one may listen at the port again afterwards.
      num_processes: how many there are.
      process_id: which one this is.
      fingerprint: JSON values that must be the same in all of them.
      timeout: seconds.

    Returns:
      The open connections, by process: of process 0 to each of the others, of those to process 0.

    Raises:
      ValueError: someone did not come in time, or differs; in all processes that came.
    """
    if num_processes == 1:
        return {}
    host, _, port = coordinator.rpartition(":")
    mine = {"num_processes": num_processes, "process_id": process_id, "fingerprint": dict(fingerprint)}
    deadline = time.monotonic() + timeout
    with contextlib.ExitStack() as stack:
        if process_id == 0:
            connections, error = _host(int(port), mine, deadline, timeout, stack)
        else:
            connections, error = _visit(host, int(port), mine, deadline, timeout, stack)
        if error:
            raise ValueError(error)
        stack.pop_all()
    return connections


def difference(mine: Any, theirs: Any, path: str = "") -> str | None:
    """The first place at which two JSON values differ, as `path: mine here, theirs there`, or None."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        for name in [*mine, *(name for name in theirs if name not in mine)]:
            below = f"{path}.{name}" if path else str(name)
            if found := difference(mine.get(name), theirs.get(name), below):
                return found
        return None
    return None if mine == theirs else f"{path} is {mine!r} in process 0 and {theirs!r}"


def _host(
    port: int, mine: dict[str, Any], deadline: float, timeout: float, stack: contextlib.ExitStack
) -> tuple[dict[int, socket.socket], str | None]:
    """Receives the others; tells all of them, and returns, what is wrong. Their connections close with `stack`."""
    visitors: dict[int | str, socket.socket] = {}
    error = None
    try:
        server = socket.create_server(("", port))
    except OSError as failure:
        return {}, f"process 0 cannot listen on port {port}: {failure.strerror}"
    with server:
        while error is None and len(visitors) < mine["num_processes"] - 1:
            server.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                with contextlib.ExitStack() as visit:
                    connection = visit.enter_context(server.accept()[0])
                    connection.settimeout(max(min(deadline - time.monotonic(), GREETING_SECONDS), 0.001))
                    theirs = _receive(connection)
                    error = _mismatch(mine, theirs, visitors)
                    visitors[f"rejected {len(visitors)}" if error else theirs["process_id"]] = connection
                    stack.enter_context(visit.pop_all())
            except TimeoutError:
                if time.monotonic() < deadline:
                    continue
                missing = [i for i in range(1, mine["num_processes"]) if i not in visitors]
                error = f"process {_listed(missing)} did not come to port {port} within {timeout:g} s"
            except (OSError, ValueError, KeyError, TypeError):
                continue  # whoever this was, it is not one of ours
    for connection in visitors.values():
        with contextlib.suppress(OSError):
            _send(connection, error)
    return visitors, error


def _visit(
    host: str, port: int, mine: dict[str, Any], deadline: float, timeout: float, stack: contextlib.ExitStack
) -> tuple[dict[int, socket.socket], str | None]:
    """Shows itself to process 0 and returns its answer; the connection closes with `stack`."""
    reason = "no answer"
    while (left := deadline - time.monotonic()) > 0:
        try:
            with contextlib.ExitStack() as visit:
                connection = visit.enter_context(socket.create_connection((host, port), timeout=left))
                _send(connection, mine)
                # Process 0 answers at its own deadline, with who is missing.
                connection.settimeout(max(deadline - time.monotonic(), 0) + GREETING_SECONDS)
                error = _receive(connection)
                stack.enter_context(visit.pop_all())
                return {0: connection}, error
        except TimeoutError:
            break
        except (OSError, ValueError) as failure:  # process 0 may not be up yet
            reason = getattr(failure, "strerror", None) or str(failure)
            time.sleep(min(RETRY_SECONDS, max(left, 0)))
    return {}, f"the coordinator {host}:{port} cannot be reached within {timeout:g} s ({reason})"


def _mismatch(mine: dict[str, Any], theirs: Any, visitors: Mapping[int, Any]) -> str | None:
    who = f"process {theirs['process_id']}"
    if theirs["num_processes"] != mine["num_processes"]:
        return f"--num-processes is {mine['num_processes']} in process 0 and {theirs['num_processes']} in {who}"
    if theirs["process_id"] in visitors or theirs["process_id"] == 0:
        return f"two processes call themselves {who}"
    found = difference(mine["fingerprint"], theirs["fingerprint"])
    return f"{found} in {who}" if found else None


def _send(connection: socket.socket, value: Any) -> None:
    connection.sendall(json.dumps(value).encode() + b"\n")


def _receive(connection: socket.socket) -> Any:
    data = b""
    while not data.endswith(b"\n"):
        part = connection.recv(1 << 16)
        if not part or len(data) > MAX_MESSAGE:
            raise ValueError("the connection ended early")
        data += part
    return json.loads(data)


def _listed(numbers: list[int]) -> str:
    shown = ", ".join(str(n) for n in numbers[:5])
    return shown if len(numbers) <= 5 else f"{shown} and {len(numbers) - 5} more"
