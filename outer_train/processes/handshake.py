"""How two processes prove to each other that they have the same token,
and seal what they say afterwards.

    visitor -> host   greeting: its number, how many there are, a nonce
    host -> visitor   a nonce
    visitor -> host   a digest of its fingerprint, sealed
    host -> visitor   verdicts, sealed

The key of the seals is an HMAC of both nonces and the greeting, made with the token; so a seal
holds for one meeting, one process and one message, and the token itself never travels. All sizes
are fixed until a visitor has proved itself.
"""

import hashlib
import hmac
import json
import secrets
import socket
import struct
import time
from typing import Any, NamedTuple

GREETING = struct.Struct("!8sII32s")
MAGIC = b"LOMEET2\n"
NONCE = SEAL = 32
"""Bytes."""
VERDICT = struct.Struct("!BH")
GO_ON, REFUSED, EXPLAIN = range(3)
"""Verdicts. With `EXPLAIN` the host asks for the fingerprint, since the digests differ."""
EXPLANATION = struct.Struct("!I")
MAX_EXPLANATION = 1 << 20
"""Bytes of a fingerprint; a config has some thousand."""
MAX_TEXT = 1000
"""Bytes of what a verdict says."""


class Stranger(ValueError):
    """Whoever this is, it is none of this run, or has another token."""


class Introduction(NamedTuple):
    """Who comes: how many processes there are, which one this is,
    and what must be the same in all, as JSON.
    """

    num_processes: int
    process_id: int
    fingerprint: dict[str, Any]


class Connection(socket.socket):
    """An open connection whose two ends share a key.

    Attributes:
      key: of this connection alone; empty where there is no token.
    """

    key: bytes = b""

    @classmethod
    def taking(cls, plain: socket.socket, key: bytes) -> "Connection":
        """Takes over an open socket, whose object is of no use any more."""
        connection = cls(plain.family, plain.type, plain.proto, fileno=plain.detach())
        connection.key = key
        return connection


def fresh_nonce() -> bytes:
    """Random bytes that no other connection has had."""
    return secrets.token_bytes(NONCE)


def session_key(token: bytes | None, greeting: bytes, nonce: bytes) -> bytes:
    """Of one connection; everyone can make that of a connection without a token."""
    return hmac.digest(token or b"", b"learned-opt meeting" + greeting + nonce, hashlib.sha256)


def seal(key: bytes, label: str, message: bytes) -> bytes:
    """What proves that the message comes from who has the key, for the purpose `label`."""
    return hmac.digest(key, label.encode() + b"\0" + message, hashlib.sha256)


def check_seal(key: bytes, label: str, message: bytes, found: bytes) -> None:
    """Raises `Stranger` if the seal is not the message's."""
    if not hmac.compare_digest(seal(key, label, message), found):
        raise Stranger("a message was not sealed with this run's token")


def digest(key: bytes, fingerprint: Any) -> bytes:
    """Of JSON values; only who has the key can try guesses at them."""
    return seal(key, "fingerprint", json.dumps(fingerprint, sort_keys=True).encode())


def verdict(key: bytes, number: int, kind: int, text: str = "") -> bytes:
    """The host's message `number`."""
    said = text.encode("utf-8", "replace")[:MAX_TEXT]
    message = VERDICT.pack(kind, len(said)) + said
    return message + seal(key, f"verdict {number}", message)


def read_verdict(
    connection: socket.socket, key: bytes, number: int, deadline: float
) -> tuple[int, str]:
    """Receives the host's message `number`.

    Raises:
      Stranger: it is not sealed as it should be.
      OSError: the connection ended, or the time is over.
    """
    head = receive(connection, VERDICT.size, deadline)
    kind, length = VERDICT.unpack(head)
    if length > MAX_TEXT:
        raise Stranger("a message is longer than any of this run")
    message = head + receive(connection, length, deadline)
    check_seal(key, f"verdict {number}", message, receive(connection, SEAL, deadline))
    return kind, message[VERDICT.size :].decode("utf-8", "replace")


def receive(connection: socket.socket, size: int, deadline: float) -> bytes:
    """Exactly `size` bytes.

    Raises:
      TimeoutError: they are not all there at `deadline` (`time.monotonic`), however they trickle.
      OSError: the connection ended before.
    """
    data = bytearray()
    while len(data) < size:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        connection.settimeout(left)
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionError("it closed the connection")
        data += part
    return bytes(data)
