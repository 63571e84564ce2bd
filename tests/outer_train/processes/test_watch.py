"""The watch over the other processes: who is lost, who only left first, and how soon it is told."""

import contextlib
import queue
import socket
import subprocess
import sys
import time

import pytest

from outer_train.processes import watch as watch_lib
from outer_train.processes.watch import Watch

FAST = 0.05
"""Seconds between beats, in place of 5."""


@pytest.fixture
def star(monkeypatch):
    """Makes the watches of `num` processes, all in this one:
    each with the queue of what it tells.
    """
    monkeypatch.setattr(watch_lib, "BEAT_SECONDS", FAST)
    with contextlib.ExitStack() as stack:

        def make(num):
            pairs = {i: socket.socketpair() for i in range(1, num)}
            told = [queue.Queue() for _ in range(num)]
            watches = [Watch(0, {i: ends[0] for i, ends in pairs.items()}, told[0].put)]
            watches += [Watch(i, {0: ends[1]}, told[i].put) for i, ends in pairs.items()]
            for watch in watches:
                stack.callback(watch.close)
            return watches, told, pairs

        yield make


def test_the_lost_one_is_named_by_all_others_and_the_first_ends_last(star):
    _, told, pairs = star(4)
    started = time.monotonic()
    pairs[2][1].shutdown(socket.SHUT_RDWR)
    assert [told[i].get(timeout=30) for i in (1, 3)] == ["process 2 ended"] * 2
    assert time.monotonic() - started >= watch_lib.GRACE
    assert told[0].get(timeout=30) == "process 2 ended"
    assert time.monotonic() - started >= watch_lib.GRACE_OF_FIRST


def test_the_loss_of_the_first_is_told_at_once(star, monkeypatch):
    monkeypatch.setattr(watch_lib, "GRACE", 60.0)
    _, told, pairs = star(2)
    started = time.monotonic()
    pairs[1][0].shutdown(socket.SHUT_RDWR)
    assert told[1].get(timeout=30) == "process 0 ended"
    assert time.monotonic() - started < watch_lib.GRACE / 2


def test_nobody_who_said_farewell_is_lost(star):
    watches, told, _ = star(3)
    for watch in watches[::-1]:
        watch.close()
    time.sleep(watch_lib.GRACE_OF_FIRST + 2 * FAST * watch_lib.MAX_SILENT_BEATS)
    assert all(each.empty() for each in told)


def test_a_farewell_before_the_others_is_a_loss_after_a_while(star):
    (_, _, third), told, _ = star(3)
    time.sleep(2 * FAST * watch_lib.MAX_SILENT_BEATS)
    assert all(each.empty() for each in told)
    third.leave()
    assert told[0].get(timeout=30) == "process 2 ended before the others"
    assert told[1].get(timeout=30) == "process 2 ended"


def test_silence_is_a_loss(monkeypatch):
    near, far = socket.socketpair()
    monkeypatch.setattr(watch_lib, "BEAT_SECONDS", FAST)
    told, started = queue.Queue(), time.monotonic()
    with far:
        watch = Watch(1, {0: near}, told.put)
        assert told.get(timeout=30) == "process 0 fell silent"
        assert time.monotonic() - started >= FAST * watch_lib.MAX_SILENT_BEATS
        watch.close()


ABORTED = """
import os
from outer_train.processes.watch import on_abort
on_abort(lambda: os._exit(7))
os.abort()
"""


def test_an_abort_of_cpp_code_is_told():
    assert subprocess.run([sys.executable, "-c", ABORTED], timeout=120).returncode == 7
