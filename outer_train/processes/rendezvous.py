"""Where the processes of a run meet before JAX connects them:
who is there, and whether all mean the same run.

Process 0 listens at the coordinator's address alone. Processes that meet over a network need a
token (`outer_train.processes.secret`); those of one machine use it if it is given, and one of their
user's own if not.
"""

import contextlib
import json
import socket
import time
from collections.abc import Mapping
from typing import Any

from outer_train.processes import addresses, handshake, secret
from outer_train.processes._difference import difference
from outer_train.processes._printable import printable
from outer_train.processes.addresses import Address
from outer_train.processes.handshake import (
    EXPLAIN,
    EXPLANATION,
    GO_ON,
    GREETING,
    MAGIC,
    NONCE,
    Connection,
)
from outer_train.processes.reception import Reception

__all__ = ["difference", "meet"]

RETRY_SECONDS = 0.2
ANSWER_SECONDS = 15.0
"""In which process 0, once it is up, answers a greeting; it hears all visitors at once."""
VERDICT_SECONDS = 5.0
"""After the deadline, at which process 0 tells the others who is missing."""
MAX_REFUSALS = 3
"""Times that process 0 may hang up on a proof of the token, or prove nothing itself."""
NOT_OURS = f"is not process 0 of this run, or has another token ({secret.VARIABLE}, --token-file)"


def meet(
    coordinator: str,
    num_processes: int,
    process_id: int,
    fingerprint: Mapping[str, Any],
    timeout: float,
    token: bytes | None = None,
) -> dict[int, Connection]:
    """Waits until all processes have come to process 0 at `coordinator`,
    and compares what they bring.

    Args:
      coordinator: `host:port` of process 0; one may listen at the port again afterwards.
      num_processes: how many there are.
      process_id: which one this is.
      fingerprint: JSON values that must be the same in all of them.
      timeout: seconds.
      token: the same in all of them; by default that of the environment
        (`outer_train.processes.secret`).

    Returns:
      The open connections, by process: of process 0 to each of the others, of those to process 0.

    Raises:
      ValueError: someone did not come in time, or differs, in all processes that came; or there is
        no token.
    """
    if num_processes == 1:
        return {}
    mine = handshake.Introduction(
        num_processes, process_id, json.loads(json.dumps(dict(fingerprint)))
    )
    token = secret.given() if token is None else token
    deadline = time.monotonic() + timeout
    with contextlib.ExitStack() as stack:
        if process_id == 0:
            connections, error = _host(coordinator, mine, token, deadline, timeout)
        else:
            connections, error = _visit(coordinator, mine, token, deadline, timeout)
        for connection in connections.values():
            stack.enter_context(connection)
        if error:
            raise ValueError(error)
        stack.pop_all()
    return connections


def _token_for(address: Address, token: bytes | None) -> bytes | None:
    """The token for a meeting there;
    of this user's processes alone where only this machine can come.
    """
    if token is not None:
        return token
    if address.is_loopback:
        return secret.local()
    raise ValueError(
        f"processes that meet over a network ({address}) need the same token in {secret.VARIABLE} "
        f"or --token-file FILE; make one with {secret.RECIPE}"
    )


def _host(
    coordinator: str,
    mine: handshake.Introduction,
    token: bytes | None,
    deadline: float,
    timeout: float,
) -> tuple[dict[int, Connection], str | None]:
    """Receives the others; tells all of them, and returns, what is wrong."""
    host, port = addresses.split(coordinator)
    while True:
        try:
            address = addresses.listening(coordinator)
            break
        except OSError as failure:
            # A name may not be known yet where machines have just been started.
            if time.monotonic() + RETRY_SECONDS >= deadline:
                return (
                    {},
                    f"process 0 cannot find the address of {printable(host)} "
                    f"({failure.strerror or failure})",
                )
            time.sleep(RETRY_SECONDS)
    token = _token_for(address, token)
    try:
        server = socket.create_server(
            (address.ip, address.port), family=address.family, backlog=128
        )
    except OSError as failure:
        return {}, f"process 0 cannot listen on port {port} of {address.ip}: {failure.strerror}"
    where = f"port {port}"
    if address.is_loopback and host not in (address.ip, "localhost"):
        where += (
            f" of {printable(host)}, which is {address.ip} here and reached from this machine only,"
        )
    with server:
        return Reception(server, mine.num_processes, mine.fingerprint, token, deadline).receive(
            where, timeout
        )


def _visit(
    coordinator: str,
    mine: handshake.Introduction,
    token: bytes | None,
    deadline: float,
    timeout: float,
) -> tuple[dict[int, Connection], str | None]:
    """Shows itself to process 0 and returns its answer."""
    host, port = addresses.split(coordinator)
    reason, num_refusals = "no answer", 0
    where = f"the coordinator {printable(host)}:{port}"
    while (left := deadline - time.monotonic()) > 0:
        try:
            plain, key = _connect(host, port, token, left)
            with contextlib.ExitStack() as visit:
                visit.enter_context(plain)
                connection, error = _introduce(plain, mine, key, deadline)
                visit.pop_all()
                return {0: connection}, error
        except handshake.Stranger as failure:
            reason, num_refusals = str(failure), num_refusals + 1
            if num_refusals >= MAX_REFUSALS:
                return {}, f"{where} {NOT_OURS}"
        except OSError as failure:  # process 0 may not be up yet
            if not num_refusals:  # after a refusal it may just have ended
                reason = getattr(failure, "strerror", None) or str(failure)
        time.sleep(min(RETRY_SECONDS, max(deadline - time.monotonic(), 0)))
    return {}, f"{where} cannot be reached within {timeout:g} s ({reason})"


def _connect(
    host: str, port: int, token: bytes | None, left: float
) -> tuple[socket.socket, bytes | None]:
    """A connection to the first address of the name that takes one, and the token for it."""
    found = [(address, _token_for(address, token)) for address in addresses.resolve(host, port)]
    failure: OSError = ConnectionError("it has no address")
    for address, its_token in found:
        try:
            return socket.create_connection(
                (address.ip, port), timeout=left / len(found)
            ), its_token
        except OSError as error:
            failure = error
    raise failure


def _introduce(
    plain: socket.socket, mine: handshake.Introduction, token: bytes | None, deadline: float
) -> tuple[Connection, str | None]:
    """One visit: proves to process 0 who this is, has it prove the same, and returns its verdict.

    Raises:
      Stranger: process 0 hung up on the proof, or gave none itself.
      OSError: it does not answer.
    """
    soon = min(time.monotonic() + ANSWER_SECONDS, deadline + VERDICT_SECONDS)
    greeting = GREETING.pack(MAGIC, mine.process_id, mine.num_processes, handshake.fresh_nonce())
    plain.sendall(greeting)
    key = handshake.session_key(token, greeting, handshake.receive(plain, NONCE, soon))
    digest = handshake.digest(key, mine.fingerprint)
    plain.sendall(digest + handshake.seal(key, "visitor", digest))
    late = deadline + VERDICT_SECONDS
    try:
        kind, text = handshake.read_verdict(plain, key, 0, late)
        if kind == EXPLAIN and token is not None:
            data = json.dumps(mine.fingerprint).encode()
            head = EXPLANATION.pack(len(data))
            plain.sendall(head + data + handshake.seal(key, "explanation", head + data))
            kind, text = handshake.read_verdict(plain, key, 1, late)
    except ConnectionError as failure:
        raise handshake.Stranger(f"it {NOT_OURS}") from failure
    plain.settimeout(None)
    return Connection.taking(plain, key), None if kind == GO_ON else printable(
        text, handshake.MAX_TEXT
    )
