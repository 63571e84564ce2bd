"""The side of process 0 in the meeting: hears all visitors at once, and seats those of the run."""

import contextlib
import json
import selectors
import socket
import time
from collections.abc import Iterator
from typing import Any

from outer_train.processes import handshake
from outer_train.processes._difference import difference
from outer_train.processes.handshake import (
    EXPLAIN,
    EXPLANATION,
    GO_ON,
    GREETING,
    MAGIC,
    NONCE,
    REFUSED,
    SEAL,
    Stranger,
)

GREETING_SECONDS = 5.0
"""In which a visitor must say who it is and prove it, however its bytes trickle."""
TWIN_SECONDS = 2.0
"""For which the meeting goes on after two processes with the token had the same number."""
MAX_STRANGERS = 200
"""Visitors that have proved nothing yet; beyond them the one that came first has to go."""


class Guest:
    """A connection, and how far the talk with it has come."""

    def __init__(self, connection: socket.socket, deadline: float):
        """Nobody yet; it must be seated by `deadline`."""
        self.connection, self.deadline = connection, deadline
        self.data, self.wanted = bytearray(), 0
        self.talk: Iterator[int] = iter(())
        self.key, self.number, self.num_verdicts = b"", -1, 0

    def say(self, kind: int, text: str = "") -> None:
        """Sends a verdict; it fits the buffer of a connection that has carried nothing else."""
        with contextlib.suppress(OSError):  # whoever is gone needs no telling
            self.connection.send(handshake.verdict(self.key, self.num_verdicts, kind, text))
        self.num_verdicts += 1


class Reception:
    """Seats the processes 1 to N - 1. What strangers send is never shown, kept or waited for."""

    def __init__(
        self,
        server: socket.socket,
        num_processes: int,
        fingerprint: Any,
        token: bytes | None,
        deadline: float,
    ):
        """Takes visitors from `server`, which listens, until all are seated,
        or `deadline` (`time.monotonic`).
        """
        self._server, self._num_processes, self._token, self._deadline = (
            server,
            num_processes,
            token,
            deadline,
        )
        self._fingerprint = json.loads(json.dumps(fingerprint))
        self._guests: dict[socket.socket, Guest] = {}
        self._seats: dict[int, Guest] = {}
        self._error: str | None = None
        self._twins: str | None = None
        self._num_impostors = self._num_different = 0

    def receive(
        self, where: str, timeout: float
    ) -> tuple[dict[int, handshake.Connection], str | None]:
        """Hears visitors to the end and tells all that were seated how it went.

        Args:
          where: the server listens, for the message.
          timeout: for the message.

        Returns:
          The connections by process, and what is wrong, or None. The caller closes the connections.
        """
        self._server.setblocking(False)
        with selectors.DefaultSelector() as self._selector:
            self._selector.register(self._server, selectors.EVENT_READ)
            while self._error is None and len(self._seats) < self._num_processes - 1:
                if time.monotonic() >= self._deadline:
                    self._error = self._twins or self._absence(where, timeout)
                    break
                self._turn()
            seated = list(self._seats.values())
            for guest in list(self._guests.values()):
                if guest not in seated:
                    self._dismiss(guest)
        for guest in seated:
            guest.say(GO_ON if self._error is None else REFUSED, self._error or "")
            guest.connection.setblocking(True)
        take = handshake.Connection.taking
        return {g.number: take(g.connection, g.key) for g in seated}, self._error

    def _turn(self) -> None:
        """Waits for the next event or deadline, and handles what came."""
        dues = [guest.deadline for guest in self._guests.values()]
        wait = min([self._deadline, *dues]) - time.monotonic()
        for key, _ in self._selector.select(max(wait, 0)):
            if key.fileobj is self._server:
                self._accept()
            elif guest := self._guests.get(key.fileobj):
                self._listen(guest)
            if self._error is not None or len(self._seats) == self._num_processes - 1:
                return
        now = time.monotonic()
        for guest in [guest for guest in self._guests.values() if guest.deadline <= now]:
            self._dismiss(guest)

    def _accept(self) -> None:
        unknown = [guest for guest in self._guests.values() if guest.number not in self._seats]
        if len(unknown) >= MAX_STRANGERS:
            self._dismiss(unknown[0])
        try:
            connection = self._server.accept()[0]
        except OSError:  # it is gone already, or there is no file descriptor left
            if unknown:
                self._dismiss(unknown[0])
            return
        connection.setblocking(False)
        guest = Guest(connection, time.monotonic() + GREETING_SECONDS)
        guest.talk = self._hear(guest)
        guest.wanted = next(guest.talk)
        self._guests[connection] = guest
        self._selector.register(connection, selectors.EVENT_READ)

    def _listen(self, guest: Guest) -> None:
        """Reads no more than the talk asks for, and goes on with it once that is there."""
        try:
            part = guest.connection.recv(guest.wanted - len(guest.data))
            if not part:
                raise Stranger("it left")
            guest.data += part
            if len(guest.data) == guest.wanted:
                data, guest.data = bytes(guest.data), bytearray()
                guest.wanted = guest.talk.send(data)
        except BlockingIOError:
            return
        except (OSError, ValueError, RecursionError, StopIteration):
            self._dismiss(guest)

    def _dismiss(self, guest: Guest) -> None:
        """Closes the connection; a seat is free again."""
        if self._guests.pop(guest.connection, None):
            self._selector.unregister(guest.connection)
        if self._seats.get(guest.number) is guest:
            del self._seats[guest.number]
        guest.connection.close()

    def _hear(self, guest: Guest) -> Iterator[int]:
        """The talk with one visitor: yields how many bytes it must send next, and is sent them."""
        greeting = yield GREETING.size
        magic, number, num_processes, _ = GREETING.unpack(greeting)
        if magic != MAGIC:
            raise Stranger("it speaks of something else")
        nonce = handshake.fresh_nonce()
        guest.connection.send(nonce)
        key = handshake.session_key(self._token, greeting, nonce)
        proof = yield NONCE + SEAL
        try:
            handshake.check_seal(key, "visitor", proof[:NONCE], proof[NONCE:])
        except Stranger:
            self._num_impostors += 1
            raise
        guest.key = key
        found = self._mismatch(number, num_processes)
        if found is None and proof[:NONCE] != handshake.digest(key, self._fingerprint):
            found = yield from self._explain(guest, number)
        if found is not None:
            guest.say(REFUSED, found)
            raise Stranger(found)
        guest.number, guest.deadline = number, float("inf")
        self._seats[number] = guest
        yield 1  # whoever is seated has nothing to say: this ends when it leaves

    def _mismatch(self, number: int, num_processes: int) -> str | None:
        """What is wrong with its numbers.

        Who has the token ends the meeting by that, nobody else does.
        """
        mine, who = self._num_processes, f"process {number}"
        if num_processes != mine:
            found = f"--num-processes is {mine} in process 0 and {num_processes} in {who}"
            self._error = found if self._token else None
            return found
        if number >= mine:
            return f"{who} is none of the {mine} processes of this run"
        if number and number not in self._seats:
            return None
        found = f"two processes call themselves {who}"
        if self._token:
            self._twins = found
            self._deadline = min(self._deadline, time.monotonic() + TWIN_SECONDS)
        return found

    def _explain(self, guest: Guest, number: int) -> Iterator[int]:
        """Returns where the fingerprints differ;
        asks only who has the token, and tells only who has it.
        """
        if not self._token:
            self._num_different += 1
            return f"process {number} has another config or other versions than process 0"
        guest.say(EXPLAIN)
        head = yield EXPLANATION.size
        (length,) = EXPLANATION.unpack(head)
        if length > handshake.MAX_EXPLANATION:
            raise Stranger("it explains itself at too great length")
        data = yield length + SEAL
        handshake.check_seal(guest.key, "explanation", head + data[:length], data[length:])
        found = difference(self._fingerprint, json.loads(data[:length]))
        if number in self._seats:  # another one was quicker
            return self._mismatch(number, self._num_processes)
        self._error = f"{found} in process {number}" if found else None
        return self._error

    def _absence(self, where: str, timeout: float) -> str:
        missing = [i for i in range(1, self._num_processes) if i not in self._seats]
        notes = []
        if self._num_impostors:
            notes.append(f"attempts with another token: {self._num_impostors}")
        if self._num_different:
            notes.append(f"with another config or other versions: {self._num_different}")
        told = f" ({', '.join(notes)})" if notes else ""
        return f"process {_listed(missing)} did not come to {where} within {timeout:g} s{told}"


def _listed(numbers: list[int]) -> str:
    shown = ", ".join(str(n) for n in numbers[:5])
    return shown if len(numbers) <= 5 else f"{shown} and {len(numbers) - 5} more"
