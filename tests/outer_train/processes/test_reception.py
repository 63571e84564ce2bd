"""Strangers at the meeting: told nothing, waited for by nobody, in nobody's way."""

import random
import socket
import threading
import time
import tracemalloc
from pathlib import Path

import pytest

from outer_train.processes import handshake, reception, secret
from tests.support.outer_train.strangers import (
    DEEP,
    FINGERPRINT,
    TOKEN,
    Meeting,
    greeting,
    heard,
    mutant,
)


@pytest.mark.parametrize("count", [30, pytest.param(300, marks=pytest.mark.slow)])
def test_no_mutated_greeting_hangs_ends_or_fills_the_meeting(count, capsys, tell):
    """Each is sent, answered if it is, and closed; every tenth stays open and silent."""
    rng, meeting, silent, most, told = random.Random(0), Meeting(), [], 0.0, set()
    meeting.visit().close()
    tracemalloc.start()
    try:
        for i in range(count):
            parts = mutant(rng)
            size = sum(map(len, parts))
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            answer = visit(meeting, parts, silent if i % 10 == 9 else None)
            most = max(most, (tracemalloc.get_traced_memory()[1] - before - 65_536) / max(size, 1))
            told.add(len(answer))
            assert meeting.thread.is_alive(), (i, parts[0][:100])
    finally:
        tracemalloc.stop()
    assert told <= {0, handshake.NONCE}  # a nonce, and nothing else, is what a stranger hears
    assert most <= 2
    assert meeting.come(1) is None
    meeting.end()
    assert (meeting.met, meeting.error) == ([1], None)
    assert capsys.readouterr() == ("", "")
    tell(f"greetings: {count} mutations, 0 hung, 0 ended it, 0 shown, 0 took twice their size")
    for connection in silent:
        connection.close()


def visit(meeting, parts, silent):
    connection = meeting.visit()
    answer = b""
    try:
        connection.sendall(parts[0])
        if silent is not None:
            silent.append(connection)
            return answer
        if parts[0].startswith(handshake.MAGIC) and len(parts[0]) == handshake.GREETING.size:
            answer = connection.recv(100)
            connection.sendall(parts[1])
        connection.shutdown(socket.SHUT_WR)
    except OSError:  # it was closed on us
        pass
    if silent is None:
        answer += heard(connection)
        connection.close()
    return answer


def test_a_stranger_hears_a_nonce_and_no_more():
    meeting = Meeting()
    with meeting.visit() as stranger:
        stranger.sendall(greeting())
        assert len(stranger.recv(1000)) == handshake.NONCE
        stranger.sendall(bytes(64))
        assert heard(stranger) == b""
    assert meeting.come(1) is None
    meeting.end()
    assert meeting.met == [1]


def test_the_meeting_ends_at_its_deadline_however_bytes_trickle(monkeypatch):
    monkeypatch.setattr(reception, "GREETING_SECONDS", 0.3)
    meeting, stop, ended = Meeting(timeout=2.0), threading.Event(), []

    def trickle():
        with meeting.visit() as connection:
            try:
                for byte in greeting():
                    connection.sendall(bytes([byte]))
                    stop.wait(0.6)
            except OSError:
                ended.append(byte)

    threads = [threading.Thread(target=trickle) for _ in range(20)]
    for thread in threads:
        thread.start()
    meeting.end()
    stop.set()
    for thread in threads:
        thread.join()
    assert meeting.error == f"process 1 did not come to port {meeting.port} within 2 s"
    assert 2.0 <= meeting.seconds < 15  # a greeting takes 29 s
    assert len(ended) == 20  # none came as far as the end of its greeting


def test_silent_strangers_keep_nobody_out(monkeypatch):
    monkeypatch.setattr(reception, "MAX_STRANGERS", 10)
    monkeypatch.setattr(reception, "GREETING_SECONDS", 600.0)
    meeting = Meeting()
    strangers = [meeting.visit() for _ in range(30)]
    assert meeting.come(1) is None
    meeting.end()
    assert meeting.met == [1]
    assert heard(strangers[0]) == b""  # the first of them had to go
    for stranger in strangers:
        stranger.close()


@pytest.mark.parametrize(
    "data",
    [
        b"[" * DEEP + b"]" * DEEP,
        b'{"a":' * DEEP + b"1" + b"}" * DEEP,
        b"\xff\xfe",
        b"9" * 100_000,
        b"nan",
        b'{"jax": "0.10"',
        None,
    ],
    ids=[
        "nested lists",
        "nested objects",
        "no text",
        "huge number",
        "no JSON",
        "cut",
        "huge length",
    ],
)
def test_what_no_fingerprint_is_ends_nothing_even_with_the_token(data):
    meeting = Meeting()
    with meeting.visit() as visitor:
        hello = greeting()
        visitor.sendall(hello)
        key = handshake.session_key(
            TOKEN, hello, handshake.receive(visitor, 32, time.monotonic() + 30)
        )
        visitor.sendall(bytes(32) + handshake.seal(key, "visitor", bytes(32)))
        assert handshake.read_verdict(visitor, key, 0, time.monotonic() + 30) == (
            handshake.EXPLAIN,
            "",
        )
        head = handshake.EXPLANATION.pack(2**32 - 1 if data is None else len(data))
        visitor.sendall(
            head + (data or b"") + handshake.seal(key, "explanation", head + (data or b""))
        )
        assert heard(visitor) == b""
    assert meeting.come(1) is None
    meeting.end()
    assert meeting.met == [1]


def test_text_of_another_process_is_shown_escaped_and_cut():
    meeting = Meeting()
    theirs = FINGERPRINT | {"jax": "\x1b[2J\u202e" + "x" * 500}
    shown = meeting.come(1, fingerprint=theirs)
    meeting.end()
    assert (
        meeting.error
        == "jax is '0.10' in process 0 and '\\x1b[2J\\u202e" + "x" * 64 + "...' in process 1"
    )
    assert shown.replace("\\\\", "\\") == meeting.error
    assert shown.isprintable()


def test_numbers_out_of_range_are_refused_and_the_meeting_goes_on():
    meeting = Meeting(num_processes=3)
    assert meeting.come(7) == "process 7 is none of the 3 processes of this run"
    others = [threading.Thread(target=meeting.come, args=(number,)) for number in (1, 2)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    meeting.end()
    assert (meeting.met, meeting.error) == ([1, 2], None)


def prove(meeting, visitor, number, num_processes):
    """The greeting and the proof of an honest process; returns the key."""
    hello = greeting(number, num_processes)
    visitor.sendall(hello)
    key = handshake.session_key(TOKEN, hello, handshake.receive(visitor, 32, time.monotonic() + 30))
    digest = handshake.digest(key, FINGERPRINT)
    visitor.sendall(digest + handshake.seal(key, "visitor", digest))
    return key


def test_the_first_of_two_twins_keeps_its_place(monkeypatch):
    monkeypatch.setattr(reception, "TWIN_SECONDS", 30.0)
    meeting = Meeting(num_processes=3)
    with meeting.visit() as first:
        key = prove(meeting, first, 1, 3)
        assert meeting.come(1) == "two processes call themselves process 1"
        assert meeting.come(2) is None
        assert handshake.read_verdict(first, key, 0, time.monotonic() + 30) == (handshake.GO_ON, "")
    meeting.end()
    assert (meeting.met, meeting.error) == ([1, 2], None)


def test_who_leaves_frees_its_place():
    meeting = Meeting(num_processes=3)
    with meeting.visit() as early:
        prove(meeting, early, 1, 3)
    others = [threading.Thread(target=meeting.come, args=(number,)) for number in (1, 2)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    meeting.end()
    assert meeting.met == [1, 2]


def test_without_any_token_nobody_can_end_the_meeting_or_learn_the_config(monkeypatch):
    """As where there is no place for a token of the user's own."""
    monkeypatch.setattr(secret, "local", lambda: None)
    monkeypatch.delenv(secret.VARIABLE, raising=False)
    meeting = Meeting(token=None)
    other = meeting.come(1, fingerprint={"jax": "0"})
    assert other == "process 1 has another config or other versions than process 0"
    assert (
        meeting.come(1, num_processes=5) == "--num-processes is 2 in process 0 and 5 in process 1"
    )
    assert meeting.come(1) is None
    meeting.end()
    assert (meeting.met, meeting.error) == ([1], None)


@pytest.mark.skipif(
    not Path("/proc/net/tcp").exists(), reason="reads the kernel's table of sockets"
)
def test_it_listens_at_the_coordinators_address_only():
    meeting = Meeting()
    meeting.visit().close()
    listening = []
    for table in ("tcp", "tcp6"):
        if Path(f"/proc/net/{table}").exists():
            rows = [
                line.split() for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
            ]
            listening += [
                row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{meeting.port:04X}")
            ]
    assert listening == [f"0100007F:{meeting.port:04X}"]
    assert meeting.come(1) is None
    meeting.end()


def test_the_digest_tells_equal_from_unequal():
    key = bytes(32)
    assert handshake.digest(key, {"a": 1, "b": 2}) == handshake.digest(key, {"b": 2, "a": 1})
    assert handshake.digest(key, {"a": 1}) != handshake.digest(key, {"a": 2})
    assert handshake.digest(b"1", {"a": 1}) != handshake.digest(b"2", {"a": 1})
