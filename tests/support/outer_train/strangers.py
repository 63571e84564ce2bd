"""Visitors of a meeting that are none of its processes, and a meeting for them to visit."""

import contextlib
import random
import socket
import struct
import threading
import time

from outer_train.processes import handshake
from outer_train.processes.rendezvous import meet

TOKEN = b"0123456789abcdef0123456789abcdef"
FINGERPRINT = {"jax": "0.10", "config": {"seed": 418_225, "name": "a secret name"}}


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Meeting:
    """Process 0 of `num_processes`, on a thread of its own."""

    def __init__(self, num_processes=2, timeout=60.0, token=TOKEN, fingerprint=None):
        self.port, self.error, self.met, self.seconds = free_port(), None, None, None
        self.size, self.token, self.fingerprint = num_processes, token, fingerprint or FINGERPRINT
        self.timeout, self.connections = timeout, []
        self.thread = threading.Thread(target=self._host, daemon=True)
        self.thread.start()

    def _host(self):
        began = time.monotonic()
        try:
            self.met = sorted(self._meet(0, self.timeout))
        except ValueError as error:
            self.error = str(error)
        self.seconds = time.monotonic() - began

    def _meet(self, number, timeout, **settings):
        settings = {
            "num_processes": self.size,
            "token": self.token,
            "fingerprint": self.fingerprint,
        } | settings
        connections = meet(
            f"127.0.0.1:{self.port}", settings["num_processes"], number, settings["fingerprint"],
            timeout, settings["token"],
        )  # fmt: skip
        self.connections += connections.values()
        return connections

    def come(self, number, timeout=60.0, **settings):
        """As process `number`; returns the error's text, or None."""
        try:
            self._meet(number, timeout, **settings)
        except ValueError as error:
            return str(error)
        return None

    def visit(self):
        """A stranger's connection."""
        for _ in range(600):
            with contextlib.suppress(OSError):
                return socket.create_connection(("127.0.0.1", self.port), timeout=20)
            time.sleep(0.02)
        raise TimeoutError("nobody listens")

    def end(self):
        self.thread.join(90)
        assert not self.thread.is_alive()
        for connection in self.connections:
            connection.close()


def greeting(number=1, num_processes=2, magic=handshake.MAGIC):
    return handshake.GREETING.pack(magic, number, num_processes, handshake.fresh_nonce())


def heard(connection):
    """All that comes until the other side closes."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(4096):
            data += part
    return data


DEEP = 100_000
SEEDS = [
    greeting(),
    greeting(0, 2**32 - 1),
    greeting(2**32 - 1, 2),
    b'{"num_processes": 2, "process_id": 1, "fingerprint": {"jax": "0.10"}}\n',
    b"[" * DEEP + b"]" * DEEP + b"\n",
    b'{"process_id":' * DEEP + b"1" + b"}" * DEEP + b"\n",
    b'{"num_processes": 1e999, "process_id": NaN, "fingerprint": ' + b"9" * 10_000 + b"}\n",
    b'{"process_id": [1], "num_processes": null}\n',
    b"\x1b[2J\x1b]0;owned\x07\r\nerror: \xe2\x80\xae\xff\xfe\x00\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    bytes.fromhex("160301020001000001fc0303") + bytes(500),
    struct.pack("!Q", 2**63) + b"x" * 100,
    b"\n",
    b"",
]


def mutant(rng: random.Random) -> list[bytes]:
    """What a stranger sends at once, and what after the first answer;
    a seed with up to four changes.
    """
    data = bytearray(rng.choice(SEEDS))
    for _ in range(rng.randrange(5)):
        where = rng.randrange(len(data) + 1)
        change = rng.randrange(6)
        if change == 0 and data:
            data[where % len(data)] ^= 1 << rng.randrange(8)
        elif change == 1:
            del data[where:]
        elif change == 2:
            data[where:where] = rng.randbytes(rng.choice([1, 4, 100]))
        elif change == 3:
            data[where:where] = bytes(rng.choice([1 << 10, 1 << 16]))
        elif change == 4:
            data[8:16] = struct.pack(
                "!II", rng.choice([0, 1, 7, 2**31, 2**32 - 1]), rng.choice([0, 2, 2**32 - 1])
            )
        else:
            data = data + data[:where]
    proof = rng.randbytes(rng.choice([0, 1, 63, 64, 65, 5000]))
    return [bytes(data), proof]
