"""Workers on a real Ray: deaths by kill -9, nan, joining and leaving,
bytes on the wire, clear errors.
"""

import json
import os
import signal
import threading
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from outer_train.run import QUIET, LoopSettings, directory, metrics
from outer_train.workers import ray_crew, ray_door
from outer_train.workers._train import WorkerSettings, train_asynchronously
from tests.support.outer_train.sources import SIZE, parabola
from tests.support.outer_train.wire import tcp_bytes

pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings(
    "ignore:os.fork:RuntimeWarning",
    "ignore::ResourceWarning",
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
)

KEY = np.asarray(jax.random.key_data(jax.random.key(0)))


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Ray on this machine, for all tests of this file."""
    ray_crew.connect(None, 120, num_workers=3)
    yield
    ray_crew.disconnect()


@pytest.fixture
def new_run(tmp_path):
    return lambda name="run": directory.create(
        tmp_path / name, {"type": "test"}, config_file=None, overwrite=False
    )


def go(source, run, num_workers, num_outer_steps, warnings, **settings):
    workers = WorkerSettings(num_workers, 2, ("parabola",), start_timeout=120, **settings)
    crew = ray_crew.RayCrew(source, KEY)
    theta, settings = np.zeros(SIZE, np.float32), LoopSettings(num_outer_steps)
    show = QUIET._replace(warn=warnings.append)
    return train_asynchronously(crew, theta, optax.sgd(0.1), run, workers, settings, show)


def events(run, kind):
    rows = [json.loads(line) for line in run.worker_log.read_text().splitlines()]
    return [row for row in rows if row["event"] == kind]


class Killer(threading.Thread):
    """Kills -9 the oldest worker process every `pause` seconds,
    if the run has made `progress` steps since then.
    """

    def __init__(self, run, pause, progress):
        super().__init__(daemon=True)
        self.directory, self.pause, self.progress = run, pause, progress
        self.killed, self.done = [], threading.Event()

    def run(self):
        num_rows = 0
        while not self.done.wait(self.pause):
            alive = [pid for pid in worker_pids() if pid not in self.killed]
            now = len(metrics.read_rows(self.directory.metrics))
            if alive and now >= num_rows + self.progress:
                num_rows = now
                self.killed.append(alive[0])
                os.kill(alive[0], signal.SIGKILL)


def worker_pids():
    """Processes of the actors, oldest first, as Linux shows them."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            if "ray::RayWorker" in Path(f"/proc/{entry}/cmdline").read_text() and descends(
                int(entry), os.getpid()
            ):
                found.append(int(entry))
        except OSError:
            continue
    return sorted(found)


def descends(pid, ancestor):
    while pid > 1 and pid != ancestor:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid == ancestor


def listening():
    """Addresses at which a process of ours, or a child of one, listens over TCP,
    as Linux shows them: hexadecimal.
    """
    inodes = set()
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            if descends(int(entry), os.getpid()):
                links = [
                    os.readlink(f"/proc/{entry}/fd/{fd}") for fd in os.listdir(f"/proc/{entry}/fd")
                ]
                inodes |= {link[8:-1] for link in links if link.startswith("socket:[")}
        except OSError:
            continue
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    return [row[1].partition(":")[0] for row in rows if row[3] == "0A" and row[9] in inodes]


@pytest.mark.skipif(
    not Path("/proc/net/tcp6").exists(), reason="reads the kernel's table of sockets"
)
def test_nothing_listens_on_other_than_loopback_while_a_run_is_on(new_run):
    seen = []

    class Crew(ray_crew.RayCrew):
        def request(self, handle, theta, version):
            if version == 3:
                seen.extend(listening())
            super().request(handle, theta, version)

    workers = WorkerSettings(lambda: 1, 1, ("parabola",), start_timeout=120)
    crew, theta = Crew(partial(parabola), KEY), np.zeros(SIZE, np.float32)
    train_asynchronously(crew, theta, optax.sgd(0.1), new_run(), workers, LoopSettings(5))
    loopback = {"0100007F", "0" * 24 + "01000000", "0000000000000000FFFF00000100007F"}
    assert len(seen) >= 4  # GCS, raylet, object manager, a worker
    assert set(seen) <= loopback


def test_a_ray_started_here_asks_for_a_token_of_its_own():
    path = Path(os.environ[ray_door.TOKEN_PATH])
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert len(path.read_text().strip()) == 64
    warnings = []
    ray_door.warn_if_open("here", warnings.append)  # tries it without, as a stranger would
    assert warnings == []


@pytest.mark.parametrize(
    ("pause", "progress", "num_outer_steps", "seconds", "fewest_deaths"),
    [(0.5, 60, 300, 0.04, 2), pytest.param(5.0, 1, 400, 0.15, 6, marks=pytest.mark.slow)],
)
def test_killed_workers_are_replaced_and_nothing_counts_twice(
    new_run, pause, progress, num_outer_steps, seconds, fewest_deaths
):
    """The slow one takes 40 s or more:
    a gradient of one of three workers takes .15 s, and a step two of them.
    """
    run, warnings = new_run(), []
    killer = Killer(run, pause, progress)
    killer.start()
    try:
        result = go(partial(parabola, seconds=seconds), run, lambda: 3, num_outer_steps, warnings)
    finally:
        killer.done.set()
    rows = metrics.read_rows(run.metrics)
    assert [row["outer_step"] for row in rows] == list(range(num_outer_steps))
    np.testing.assert_allclose(result.theta, 1.0, atol=0.15)
    counted = [name for row in rows for name in row["gradients"]]
    assert (
        len(counted) == len(set(counted)) == result.totals["num_gradients"] >= 2 * num_outer_steps
    )
    deaths = events(run, "died")
    # The last one killed may not have been missed yet when the run ended.
    assert len(killer.killed) - 1 <= len(deaths) <= len(killer.killed)
    assert len(deaths) >= fewest_deaths
    assert len([line for line in warnings if "died" in line and "takes its place" in line]) == len(
        deaths
    )


def test_workers_of_other_families_join_and_leave_and_the_sick_one_is_named(new_run):
    """Two families with minima at 1 and 2.

    A third worker joins, sends nan and is refused; then two of three leave.
    """
    run, warnings, left_at = new_run(), [], []

    def wanted():
        num_steps = len(metrics.read_rows(run.metrics))
        if not events(run, "refused"):
            return 2 if num_steps < 50 else 3
        left_at.append(num_steps)
        if num_steps > left_at[0] + 100:
            os.kill(os.getpid(), signal.SIGTERM)
        return 1

    result = go(
        partial(parabola, num_families=2, sick=2, seconds=0.02), run, wanted, 100_000, warnings
    )
    assert result.signal == signal.SIGTERM
    names = lambda kind: {event["worker"].partition(" (")[0] for event in events(run, kind)}
    assert names("came") == {"worker 0", "worker 1", "worker 2"}
    # The sick one by its tenth gradient.
    assert names("left") | names("sent away") == {"worker 1", "worker 2"}
    refusals = [line for line in warnings if "refused a gradient of worker 2 (life 2 on " in line]
    assert len(refusals) == result.totals["num_refused"] >= 1
    assert all("worker 2" in line for line in warnings)
    rows = metrics.read_rows(run.metrics)
    # Theta was at 1.5.
    np.testing.assert_allclose(rows[45]["outer_loss_0"], SIZE * 0.5**2 / 2, rtol=0.5)
    np.testing.assert_allclose(result.theta, 1.0, atol=0.15)  # then the first family alone was left
    assert rows[-1]["num_workers"] == 1
    assert all(0 <= row["worker_idle"] <= 1 and 0 <= row["learner_idle"] <= 1 for row in rows[1:])


@pytest.mark.parametrize(("size", "parts", "most"), [(20_000, None, 2.2), (5_000, ("a", "b"), 5.2)])
def test_bytes_on_the_wire(new_run, size, parts, most):
    """What the learner's sockets carried for each gradient,
    Ray's own envelope of a kilobyte with it, in thetas.

    Beyond 100 kB a message goes through shared memory on one machine, and no socket counts it.
    """
    seen = []

    class Crew(ray_crew.RayCrew):
        def request(self, handle, theta, version):
            seen.append(sum(tcp_bytes()))
            super().request(handle, theta, version)

    crew = Crew(partial(parabola, size=size, parts=parts), KEY)
    workers = WorkerSettings(lambda: 1, 1, parts or ("parabola",), start_timeout=120)
    theta = np.zeros(size, np.float32)
    train_asynchronously(crew, theta, optax.sgd(0.1), new_run(), workers, LoopSettings(60))
    each = (seen[-1] - seen[10]) / (len(seen) - 11)
    assert most - 0.3 < each / (4 * size) <= most
