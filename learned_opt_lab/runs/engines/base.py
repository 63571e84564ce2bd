"""What runs the outer steps of a run:
the interface of the engines, and the settings by which a user chooses one.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from learned_opt_lab.runs.build import Built
from outer_train.processes import Cluster
from outer_train.run import Allowed, LoopSettings, RunDirectory, Show


@dataclasses.dataclass(frozen=True)
class InStep:
    """All devices of all processes make one outer step together."""

    num_devices: int | None = None
    """Devices of all processes that the particles are spread over; must divide their number. If
    None, the most that do: of those there are where JAX runs already, else of one a core on CPU."""
    cluster: Cluster | None = None
    """Which processes there are, and which one this is; None for a process on its own. They connect
    once, and one that loses another ends at once, by exit status 1 and a line on standard error."""
    connect_timeout: float = 60.0
    """Seconds in which all processes must be there."""

    def __post_init__(self):
        _check_timeout(self.connect_timeout)


@dataclasses.dataclass(frozen=True)
class Ray:
    """Workers of a Ray cluster send gradients when they have them, and may fail, join and leave.

    What is None is as the run was started; a new one has
    `learned_opt_lab.runs.engines.ray.DEFAULTS`.
    """

    address: str | None = None
    """`host:port` of a running cluster, or `auto`; if None, Ray is started on this machine."""
    num_workers: int | None = None
    """Workers at a time; 0 for one for each free CPU of the cluster as nodes come and go."""
    gradients_per_step: int | None = None
    """Gradients that make one outer step; they share out the estimator's particles.
    By default as many as workers."""
    max_staleness: int | None = None
    """Outer steps by which a gradient's theta may be behind; older ones are dropped and counted."""
    gpus_per_worker: float | None = None
    """GPUs, or a share of one, that each worker is given."""
    num_devices: int | None = None
    """Of this process, which steps theta and scores it."""
    connect_timeout: float = 60.0
    """Seconds in which the cluster, and then the first worker, must be there."""

    def __post_init__(self):
        _check_timeout(self.connect_timeout)


def _check_timeout(seconds: float) -> None:
    if not seconds > 0:
        raise ValueError(f"--connect-timeout must be above 0, got {seconds}")


class Trained(NamedTuple):
    """How the outer steps of a run ended.

    Attributes:
      theta: after the last one, on the host.
      signal: SIGINT, SIGTERM or SIGHUP if one ended them early, else None.
      about: what `summary.json` says of the engine.
    """

    theta: Any
    signal: int | None
    about: dict[str, Any]


class Engine(NamedTuple):
    """What a course needs of an engine; made from a config and the settings of one.

    Attributes:
      open: connects what must be connected before anything runs on JAX. `check` is called where it
        is known whether the run directory can be written: before a process on its own starts
        anything, and by the first of several once they have met.
      fit: compiles before anything is written, tells a line of what memory it takes, and refuses
        what does not fit.
      train: runs the outer steps to their end, within the run's lock.
      close: parts what `open` has connected.
    """

    open: Callable[[RunDirectory, Callable[[], None], Show], None]
    fit: Callable[[Built, Callable[[str], None]], Built]
    train: Callable[[Built, RunDirectory, LoopSettings, Show, Allowed], Trained]
    close: Callable[[], None]
