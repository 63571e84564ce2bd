"""Both sides of the meeting prove that they have the token, and it stays with them."""

import contextlib
import socket
import threading
import time

import pytest

from outer_train.processes import addresses, handshake, rendezvous, secret
from outer_train.processes.rendezvous import meet
from tests.support.outer_train.strangers import (
    FINGERPRINT,
    TOKEN,
    Meeting,
    free_port,
    greeting,
    heard,
)

OTHER = TOKEN[::-1]


class Relay:
    """Between a visitor and a meeting:
    notes all bytes, and may change the first that the visitor sends.
    """

    def __init__(self, port, change=lambda data: data):
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port, self.to, self.change = self.server.getsockname()[1], port, change
        self.seen, self.ends = {"there": b"", "back": b""}, []
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        with self.server:
            near = self.server.accept()[0]
        far = socket.create_connection(("127.0.0.1", self.to))
        self.ends = [near, far]
        back = threading.Thread(target=self.pass_on, args=(far, near, "back"), daemon=True)
        back.start()
        self.pass_on(near, far, "there")
        back.join()

    def pass_on(self, source, sink, way):
        with contextlib.suppress(OSError):
            while part := source.recv(4096):
                if way == "there" and not self.seen[way]:
                    part = self.change(part)
                self.seen[way] += part
                sink.sendall(part)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def end(self):
        self.thread.join(60)
        assert not self.thread.is_alive()
        for end in self.ends:
            end.close()


def come(port, token=TOKEN, timeout=60.0, fingerprint=None):
    """As process 1 of 2; returns the error's text, or None."""
    try:
        connections = meet(f"127.0.0.1:{port}", 2, 1, fingerprint or FINGERPRINT, timeout, token)
    except ValueError as error:
        return str(error)
    for connection in connections.values():
        connection.close()
    return None


def test_neither_token_nor_config_travels_where_all_is_well():
    meeting = Meeting()
    meeting.visit().close()
    relay = Relay(meeting.port)
    assert come(relay.port) is None
    meeting.end()
    relay.end()
    assert meeting.met == [1]
    travelled = relay.seen["there"] + relay.seen["back"]
    assert len(relay.seen["there"]) == handshake.GREETING.size + 64
    assert not any(
        part in travelled for part in (TOKEN, b"secret name", b"418225", b"seed", b"0.10")
    )


def test_another_token_is_refused_and_told():
    meeting = Meeting()
    not_ours = (
        "is not process 0 of this run, or has another token (LEARNED_OPT_TOKEN, --token-file)"
    )
    assert come(meeting.port, OTHER) == f"the coordinator 127.0.0.1:{meeting.port} {not_ours}"
    assert come(meeting.port) is None
    meeting.end()
    assert meeting.met == [1]


def test_process_0_says_that_someone_had_another_token():
    meeting = Meeting(timeout=3.0)
    with meeting.visit() as stranger:
        stranger.sendall(greeting())
        assert len(stranger.recv(100)) == handshake.NONCE
        stranger.sendall(bytes(64))
        assert heard(stranger) == b""
    meeting.end()
    assert meeting.error == (
        f"process 1 did not come to port {meeting.port} within 3 s (attempts with another token: 1)"
    )


@pytest.mark.parametrize("where", [8, 15, 20], ids=["process", "count", "nonce"])
def test_a_proof_holds_for_one_process_and_one_greeting(where):
    """Whoever is on the way changes a bit; the rest of the visit is honest."""
    meeting = Meeting()
    meeting.visit().close()

    def change(data):
        return data[:where] + bytes([data[where] ^ 1]) + data[where + 1 :]

    relay = Relay(meeting.port, change)
    assert "cannot be reached within" in come(relay.port, timeout=1.0)
    relay.end()
    assert meeting.come(1) is None
    meeting.end()
    assert meeting.met == [1]


def test_a_visit_cannot_be_played_again():
    first = Meeting()
    first.visit().close()
    relay = Relay(first.port)
    assert come(relay.port) is None
    first.end()
    relay.end()
    second = Meeting()
    with second.visit() as again:
        again.sendall(relay.seen["there"])
        assert len(heard(again)) == handshake.NONCE
    assert second.come(1) is None
    second.end()
    assert second.met == [1]


@pytest.mark.parametrize(
    "answer", ["unsealed", "sealed with another token", "explain", "garbage", "slow"]
)
def test_who_is_not_process_0_gets_no_config_and_no_trust(answer, monkeypatch):
    """A stranger who was at the port first."""
    monkeypatch.setattr(rendezvous, "ANSWER_SECONDS", 0.5)
    server, seen = socket.create_server(("127.0.0.1", 0)), []

    def pretend():
        while True:
            try:
                connection = server.accept()[0]
            except OSError:
                return
            with connection:
                reply(connection)

    def reply(connection):
        try:
            hello = handshake.receive(connection, handshake.GREETING.size, time.monotonic() + 30)
            connection.sendall(bytes(32) if answer != "slow" else bytes(1))
            seen.append(hello + connection.recv(64))
            key = handshake.session_key(OTHER, hello, bytes(32))
            kind = handshake.EXPLAIN if answer == "explain" else handshake.GO_ON
            message = handshake.verdict(key, 0, kind)
            message = {"unsealed": message[:3] + bytes(32), "garbage": b"\xff" * 5000}.get(
                answer, message
            )
            connection.sendall(message)
            seen.append(heard(connection))
        except OSError:
            pass

    thread = threading.Thread(target=pretend, daemon=True)
    thread.start()
    told = come(server.getsockname()[1], timeout=2.0)
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(60)
    assert told.startswith(f"the coordinator 127.0.0.1:{told.split(':')[1].split(' ')[0]} ")
    assert not any(part in b"".join(seen) for part in (TOKEN, b"secret name", b"418225", b"0.10"))


def test_processes_over_a_network_need_a_token(monkeypatch):
    """Refused before anything listens or connects."""
    monkeypatch.delenv(secret.VARIABLE, raising=False)
    monkeypatch.delenv(secret.FILE_VARIABLE, raising=False)
    for number in (0, 1):
        with pytest.raises(
            ValueError,
            match=r"over a network \(192.0.2.77:9\) need the same token .*; make one with",
        ):
            meet("192.0.2.77:9", 2, number, {}, 5.0)
        with pytest.raises(ValueError, match="must be one address of process 0"):
            meet(f"0.0.0.0:{free_port()}", 2, number, {}, 5.0)


def test_processes_of_one_user_meet_without_a_token_and_those_with_another_do_not(
    monkeypatch, tmp_path
):
    monkeypatch.delenv(secret.VARIABLE, raising=False)
    monkeypatch.delenv(secret.FILE_VARIABLE, raising=False)
    monkeypatch.setattr(secret, "LOCAL_FOLDER", str(tmp_path / "user-{}"))
    meeting = Meeting(token=None)
    assert meeting.come(1, token=TOKEN, timeout=60.0).startswith("the coordinator 127.0.0.1")
    assert meeting.come(1) is None
    meeting.end()
    assert meeting.met == [1]
    (folder,) = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "token").stat().st_mode & 0o777 == 0o600
    folder.chmod(0o755)
    with pytest.raises(ValueError, match="is not this user's alone"):
        meet(f"127.0.0.1:{free_port()}", 2, 0, {}, 5.0)


def test_the_token_comes_from_the_environment_or_a_private_file(monkeypatch, tmp_path):
    monkeypatch.delenv(secret.FILE_VARIABLE, raising=False)
    monkeypatch.delenv(secret.VARIABLE, raising=False)
    assert secret.given() is None
    monkeypatch.setenv(secret.VARIABLE, TOKEN.decode())
    assert secret.given() == TOKEN
    path = tmp_path / "token"
    secret.write_private(path, OTHER)
    monkeypatch.setenv(secret.FILE_VARIABLE, str(path))
    assert secret.given() == OTHER
    path.chmod(0o644)
    with pytest.raises(ValueError, match=f"others may read or write: chmod 600 {path}"):
        secret.given()
    path.unlink()
    with pytest.raises(OSError, match="token"):
        secret.given()
    secret.write_private(path, b"short")
    with pytest.raises(ValueError, match="at least 16 characters: "):
        secret.given()


@pytest.mark.parametrize(
    ("text", "found"),
    [("host:1", ("host", 1)), ("[::1]:65535", ("::1", 65535)), ("127.0.0.1:9", ("127.0.0.1", 9))],
)
def test_addresses_are_split(text, found):
    assert addresses.split(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "host",
        ":1",
        "host:",
        "host:0",
        "host:65536",
        "host:-1",
        "host:1e3",
        "host:" + "9" * 5000,
        "h:²",
    ],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValueError, match="must be HOST:PORT"):
        addresses.split(text)


def test_loopback_is_told_from_a_network():
    assert [
        a.is_loopback for a in addresses.resolve("127.0.0.1", 1) + addresses.resolve("192.0.2.1", 1)
    ] == [
        True,
        False,
    ]
    assert str(addresses.resolve("::1", 5)[0]) == "[::1]:5"
