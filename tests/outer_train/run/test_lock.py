"""One writer a run: who holds the lock, when it is stale, and that two never have it."""

import errno
import json
import os
import subprocess
import sys
import threading
import time

import pytest

from outer_train.run import lock as run_lock


@pytest.fixture
def sleeper():
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def leave_lock(directory, **changes):
    """The lock that another process would have left."""
    owner = run_lock._me(directory) | changes
    (directory / run_lock.NAME).write_text(json.dumps(owner))
    return owner


def test_the_lock_is_there_while_it_is_held_and_names_the_process(tmp_path):
    with run_lock.hold(tmp_path), run_lock.hold(tmp_path):
        owner = json.loads((tmp_path / run_lock.NAME).read_text())
        assert owner["pid"] == os.getpid()
        assert owner["host"] == os.uname().nodename
        assert owner["started"] == run_lock.process_start(os.getpid())
        run_lock.check(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_it_is_given_back_after_an_error(tmp_path):
    with pytest.raises(MemoryError), run_lock.hold(tmp_path):
        raise MemoryError
    assert list(tmp_path.iterdir()) == []


def test_a_living_process_is_named_and_keeps_its_lock(tmp_path, sleeper):
    owner = leave_lock(tmp_path, pid=sleeper.pid, started=run_lock.process_start(sleeper.pid))
    for attempt in (run_lock.check, lambda path: run_lock.hold(path).__enter__()):
        with pytest.raises(
            ValueError, match=f"being written by process {sleeper.pid} on {owner['host']} since"
        ):
            attempt(tmp_path)
    assert json.loads((tmp_path / run_lock.NAME).read_text()) == owner


@pytest.mark.parametrize("reaped", [True, False])
def test_the_lock_of_a_process_that_is_gone_is_taken_over(tmp_path, sleeper, reaped):
    leave_lock(tmp_path, pid=sleeper.pid, started=run_lock.process_start(sleeper.pid))
    sleeper.kill()
    if reaped:
        sleeper.wait()
    else:  # a zombie
        deadline = time.monotonic() + 20
        while run_lock.process_start(sleeper.pid) is not None and time.monotonic() < deadline:
            time.sleep(0.01)
    run_lock.check(tmp_path)
    with run_lock.hold(tmp_path):
        assert json.loads((tmp_path / run_lock.NAME).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_pid_that_is_used_again_holds_no_lock(tmp_path, sleeper):
    leave_lock(tmp_path, pid=sleeper.pid, started="1")
    with run_lock.hold(tmp_path):
        assert json.loads((tmp_path / run_lock.NAME).read_text())["pid"] == os.getpid()


def test_another_host_s_lock_is_left_to_the_user(tmp_path):
    leave_lock(tmp_path, host="node\x1b[7", pid=1, started="1", boot="another", machine="another")
    with (
        pytest.raises(ValueError, match="cannot be seen from here") as caught,
        run_lock.hold(tmp_path),
    ):
        pass
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert "process 1 on node\\x1b[7 since" in lines[0]
    assert f"delete {tmp_path / run_lock.NAME}" in lines[1]
    (tmp_path / run_lock.NAME).unlink()
    with run_lock.hold(tmp_path):
        pass


def test_another_container_s_lock_is_left_to_the_user(tmp_path):
    leave_lock(tmp_path, namespace="pid:[1]", pid=1, started="1")
    with pytest.raises(ValueError, match="cannot be seen from here"), run_lock.hold(tmp_path):
        pass


def test_a_lock_from_before_a_reboot_is_stale(tmp_path):
    leave_lock(
        tmp_path,
        boot="an earlier one",
        pid=os.getppid(),
        started=run_lock.process_start(os.getppid()),
    )
    with run_lock.hold(tmp_path):
        pass


def test_a_lock_copied_with_its_directory_locks_nothing(tmp_path, sleeper):
    leave_lock(tmp_path, pid=sleeper.pid, started=run_lock.process_start(sleeper.pid), inode=1)
    with run_lock.hold(tmp_path):
        pass


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"pid": "x"}', "[" * 3000])
def test_a_lock_that_is_being_written_is_waited_for_and_an_old_broken_one_is_not(tmp_path, content):
    lock = tmp_path / run_lock.NAME
    lock.write_text(content)
    with (
        pytest.raises(ValueError, match="is being locked by another process"),
        run_lock.hold(tmp_path),
    ):
        pass
    os.utime(lock, (1, 1))
    with run_lock.hold(tmp_path):
        assert json.loads(lock.read_text())["pid"] == os.getpid()


@pytest.fixture
def no_links(monkeypatch):
    """A file system without hard links."""

    def refuse(*_args):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(run_lock.os, "link", refuse)


@pytest.mark.usefixtures("no_links")
def test_without_links_it_is_made_exclusively(tmp_path, sleeper):
    with run_lock.hold(tmp_path):
        assert json.loads((tmp_path / run_lock.NAME).read_text())["pid"] == os.getpid()
    leave_lock(tmp_path, pid=sleeper.pid, started=run_lock.process_start(sleeper.pid))
    with pytest.raises(ValueError, match=f"process {sleeper.pid}"), run_lock.hold(tmp_path):
        pass


def test_another_thread_is_another_writer(tmp_path):
    seen = []

    def attempt():
        try:
            with run_lock.hold(tmp_path):
                seen.append("held")
        except ValueError as error:
            seen.append(str(error))

    with run_lock.hold(tmp_path):
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
    assert seen == [f"{tmp_path} is being written by another thread of this process"]


@pytest.mark.parametrize("links", [True, False])
def test_of_many_that_find_a_stale_lock_one_takes_it(tmp_path, links, request):
    if not links:
        request.getfixturevalue("no_links")
    for round_number in range(20):
        directory = tmp_path / str(round_number)
        directory.mkdir()
        leave_lock(directory, started="1", pid=2**22 + 1)
        taken, start = [], threading.Barrier(4)

        def attempt(directory=directory, start=start, taken=taken):
            start.wait()
            try:
                run_lock._take(directory / run_lock.NAME)
                taken.append(True)
            except ValueError:
                pass

        threads = [threading.Thread(target=attempt) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert taken == [True]
        assert [path.name for path in directory.iterdir()] == [run_lock.NAME]


def test_release_all_gives_back_what_this_process_holds(tmp_path):
    with run_lock.hold(tmp_path):
        run_lock.release_all()
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "broken link"])
def test_what_is_no_file_is_refused_at_once_and_stays(tmp_path, kind):
    lock, target = tmp_path / run_lock.NAME, tmp_path / "target"
    if kind == "pipe":
        os.mkfifo(lock)
    elif kind == "folder":
        lock.mkdir()
    else:
        lock.symlink_to(target)
    if kind == "link":
        target.write_text(json.dumps(run_lock._me(tmp_path)))
    before = os.lstat(lock)
    for attempt in (run_lock.check, lambda path: run_lock.hold(path).__enter__()):
        with pytest.raises(OSError, match=f"no regular file; delete it: '{lock}'"):
            attempt(tmp_path)
    run_lock._give_back(lock)
    assert os.path.samestat(os.lstat(lock), before)
    assert target.exists() == (kind == "link")


def test_a_full_disk_is_told_with_the_lock_s_name(tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(run_lock.os, "link", full)
    with pytest.raises(OSError, match="No space left") as caught, run_lock.hold(tmp_path):
        pass
    assert caught.value.filename == str(tmp_path / run_lock.NAME)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_start_is_that_of_the_process(sleeper):
    first = run_lock.process_start(sleeper.pid)
    assert first.isdigit()
    assert run_lock.process_start(sleeper.pid) == first
    assert run_lock.process_start(2**22 + 1) is None
