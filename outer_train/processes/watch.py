"""Whether the other processes of a run are still there:
their connections from the meeting stay open and tell.

Without it a loss shows in the next collective at best; a process that waits for anything else hears
of it from JAX's coordination service, which aborts it: at once after the loss of process 0, after
missed heartbeats otherwise.

Each message bears a seal of the connection's key (`outer_train.processes.handshake`), its direction
and its number, so that nobody on the way makes one, leaves one out or sends one twice unnoticed.
"""

import contextlib
import ctypes
import hmac
import selectors
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping

from outer_train.processes.handshake import seal

BEAT_SECONDS = 5.0
MAX_SILENT_BEATS = 8
"""After which a process counts as lost: 40 s, before JAX's heartbeats time out. They are counted by
the one who waits, so that a machine that was suspended as a whole does not mistake its own absence
for that of another."""
BEAT, FAREWELL = -1, -2
"""Messages; one of 0 or more is the number of a lost process."""
MESSAGE = struct.Struct("!i16s")
"""With the first bytes of its seal."""
GRACE_OF_FIRST, GRACE = 1.0, 0.3
"""Seconds between a loss and this process's end, in which a signal to all of them reaches this one
too. Process 0 takes longer, since its end makes JAX abort the others; after its own loss nobody has
time."""


class Watch:
    """A thread that calls `on_loss` once another process is gone without a farewell.

    Process 0 is connected to each of the others and tells them whom it lost; they are connected to
    it alone. A process that said farewell is lost all the same if this one has not left as long
    after it as silence lasts.
    """

    def __init__(
        self,
        process_id: int,
        connections: Mapping[int, socket.socket],
        on_loss: Callable[[str], None],
    ):
        """Starts the thread.

        Args:
          process_id: which one this is.
          connections: from `outer_train.processes.rendezvous.meet`; kept open until the process
            ends.
          on_loss: called on the thread with what happened, as in "process 1 ended"; expected to end
            the process.
        """
        self._grace = GRACE_OF_FIRST if process_id == 0 else GRACE
        self._connections = dict(connections)
        self._on_loss = on_loss
        self._process_id = process_id
        self._received = dict.fromkeys(connections, b"")
        self._num_received, self._num_sent = (
            dict.fromkeys(connections, 0),
            dict.fromkeys(connections, 0),
        )
        self._telling = threading.Lock()
        self._silent_beats = dict.fromkeys(connections, 0)
        self._farewells: set[int] = set()
        self._left = self._noticed = False
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def leave(self) -> None:
        """Says farewell: from here on this process may end, and nobody's end matters to it."""
        if self._noticed:  # an exit that follows from the loss is not in order: the thread ends it
            self._thread.join(2 * GRACE_OF_FIRST)
        if not self._left:
            self._left = True
            self._tell(FAREWELL)

    def close(self) -> None:
        """Leaves and closes the connections."""
        self.leave()
        for connection in self._connections.values():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for connection in self._connections.values():
            connection.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for number, connection in self._connections.items():
                connection.setblocking(False)
                selector.register(connection, selectors.EVENT_READ, number)
            due = time.monotonic() + BEAT_SECONDS
            while selector.get_map() or not self._left:
                for key, _ in selector.select(max(due - time.monotonic(), 0)):
                    if not self._listen(key.data):
                        selector.unregister(key.fileobj)
                if time.monotonic() >= due:
                    due = time.monotonic() + BEAT_SECONDS
                    self._beat()

    def _listen(self, number: int) -> bool:
        """Reads what has come from a process; returns whether more can come."""
        try:
            data = self._connections[number].recv(4096)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if not data:
            if number not in self._farewells:
                self._notice(number, "ended")
            return False
        self._silent_beats[number] = 0
        data = self._received[number] + data
        whole = len(data) // MESSAGE.size * MESSAGE.size
        self._received[number] = data[whole:]
        for message, found in MESSAGE.iter_unpack(data[:whole]):
            if message < FAREWELL or not hmac.compare_digest(
                found, self._seal(message, number, self._process_id)
            ):
                self._notice(number, "sent a message that is not of this run")
                return False
            self._num_received[number] += 1
            if message == FAREWELL:
                self._farewells.add(number)
            elif message != BEAT:
                self._notice(message, "ended")
        return True

    def _seal(self, message: int, sender: int, receiver: int) -> bytes:
        """Of the next message in this direction."""
        mine = sender == self._process_id
        number, counts = (receiver, self._num_sent) if mine else (sender, self._num_received)
        key = getattr(self._connections[number], "key", b"")
        label = f"watch from {sender} to {receiver}, {counts[number]}"
        return seal(key, label, struct.pack("!i", message))[:16]

    def _beat(self) -> None:
        if self._left:
            return
        self._tell(BEAT)
        for number in self._silent_beats:
            self._silent_beats[number] += 1
            if self._silent_beats[number] > MAX_SILENT_BEATS:
                self._notice(
                    number,
                    "ended before the others" if number in self._farewells else "fell silent",
                )

    def _notice(self, number: int, how: str) -> None:
        if self._left:
            return
        self._noticed = True
        self._tell(number)
        if number:
            time.sleep(self._grace)
        if not self._left:
            self._on_loss(f"process {number} {how}")

    def _tell(self, message: int) -> None:
        with self._telling:
            for number, connection in self._connections.items():
                sealed = MESSAGE.pack(message, self._seal(message, self._process_id, number))
                with contextlib.suppress(OSError):  # whoever is gone needs no telling
                    if connection.send(sealed) == len(sealed):
                        self._num_sent[number] += 1


def on_abort(act: Callable[[], None]) -> None:
    """Has `act` called, on whatever thread, when C++ code aborts this process,
    as JAX's coordination service does.

    A handler of Python's `signal` would run too late: `abort` ends the process as soon as the C
    handler returns.
    """
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _number: act())
    ctypes.CDLL(None).signal(signal.SIGABRT, handler)
    _handlers.append(handler)


_handlers: list[Callable] = []
"""Kept alive: C holds only their addresses."""
