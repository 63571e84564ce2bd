"""The disk fills while a run is trained:
one line, what was whole is whole, and it goes on once there is room.
"""

import errno
import os
import resource
import subprocess

import pytest

from outer_train.run import lock, metrics
from tests.support.outer_train.runs import WalkStep, new_run, train, without_timings

# After the first write that fails, calls of Orbax's others come back to a loop that has ended.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SIZE = 700
"""Kilobytes of the file system."""


@pytest.fixture
def small_disk(tmp_path):
    """A function that says how many kilobytes the disk may hold."""
    path = tmp_path / "disk"
    path.mkdir()

    def mount(*options):
        return subprocess.run(
            ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", path]
        ).returncode

    if os.geteuid() != 0 or mount(f"size={SIZE}k"):
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        yield (
            path,
            lambda size: subprocess.run(["mount", "-o", f"remount,size={size}k", path], check=True),
        )
    finally:
        subprocess.run(["umount", "-l", path], check=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run = new_run(tmp_path_factory.mktemp("whole") / "run")
    train(run, WalkStep(size=2000))
    return without_timings(run)


@pytest.mark.parametrize("room", [0, 4, 8, 12, 24, 40, 80])
def test_a_full_disk_ends_the_run_in_one_line_and_it_goes_on(small_disk, whole, room):
    path, resize = small_disk
    run = new_run(path / "run")
    train(run, WalkStep(size=2000), num_outer_steps=6)
    rows = without_timings(run)
    disk = os.statvfs(path)
    filler = path / "filler"
    filler.write_bytes(b"x" * max(disk.f_bavail * disk.f_frsize - room * 1024, 0))
    with pytest.raises(OSError, match="No space left on device") as caught:
        train(run, WalkStep(size=2000))
    assert caught.value.errno == errno.ENOSPC
    assert len(str(caught.value).splitlines()) == 1
    assert str(path) in str(caught.value)
    assert not (run.path / lock.NAME).exists()
    assert metrics.read_rows(run.metrics)[:5] == metrics.read_rows(run.metrics)[: len(rows)][:5]
    assert {"5", "6"} <= {each.name for each in run.checkpoints.iterdir()}
    filler.unlink()
    resize(4 * SIZE)
    train(run, WalkStep(size=2000))
    assert without_timings(run) == whole


def test_a_file_that_may_not_grow_ends_the_run_in_one_line_and_it_goes_on(tmp_path, whole):
    run = new_run(tmp_path / "run")
    train(run, WalkStep(size=2000), num_outer_steps=6)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            train(run, WalkStep(size=2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    assert len(str(caught.value).splitlines()) == 1
    train(run, WalkStep(size=2000))
    assert without_timings(run) == whole
