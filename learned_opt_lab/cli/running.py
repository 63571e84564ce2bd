"""What `train` and `resume` share on the command line:
flags that choose an engine, and how a run's end is told.
"""

import contextlib
import dataclasses
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from learned_opt_lab.cli.output import Outcome
from learned_opt_lab.cli.stopping import stopped_by_signals

if TYPE_CHECKING:
    from learned_opt_lab.runs import InStep, Ray, RunResult
    from outer_train.processes import Cluster
    from outer_train.run import RunDirectory

RAY_ONLY = ("ray_address", "num_workers", "gradients_per_step", "max_staleness", "gpus_per_worker")
"""Flags of the asynchronous engine."""
NOTHING_LEARNED = 1
"""Exit status of a run without one finite outer loss."""


@dataclasses.dataclass(frozen=True)
class EngineArgs:
    """Where the outer gradient is computed; see docs/scaling.md."""

    engine: Literal["in-step", "ray"] | None = None
    """in-step: all devices of all processes make one outer step together.
    ray: workers of a cluster send gradients when they have them; they may fail, join and leave.
    If not given, in-step, or as the run was started."""
    distributed: bool = False
    """in-step: connect what SLURM, Open MPI, Kubernetes or a TPU pod started, as JAX detects."""
    coordinator: str | None = None
    """in-step: HOST:PORT of process 0, where nothing is detected;
    then --num-processes and --process-id too."""
    num_processes: int | None = None
    """in-step: processes of the run."""
    process_id: int | None = None
    """in-step: which of them this is; process 0 writes the logs. All must see the run directory."""
    token_file: Path | None = None
    """in-step: a file only you can read, with the token by which processes know each other.
    It may be in LEARNED_OPT_TOKEN instead.
    Needed unless the coordinator's address is of this machine alone."""
    ray_address: str | None = None
    """ray: HOST:PORT of a running cluster, or auto.
    If not given, Ray is started on this machine."""
    num_workers: int | None = None
    """ray: workers at a time; 0 for one for each free CPU of the cluster as nodes come and go.
    2 if not given."""
    gradients_per_step: int | None = None
    """ray: gradients that make one outer step; they share out the estimator's particles.
    If not given, the number of workers at the start."""
    max_staleness: int | None = None
    """ray: outer steps by which a gradient's theta may be behind;
    older ones are dropped and counted. 4 by default."""
    gpus_per_worker: float | None = None
    """ray: GPUs, or a share of one, that each worker is given. 0 if not given."""
    connect_timeout: float = 60.0
    """Seconds in which all processes, the Ray cluster or the first worker must be there;
    exit status 2 after it."""

    def settings(
        self, num_devices: int | None, *, started_with_ray: bool = False
    ) -> "InStep | Ray":
        """The engine that is meant: the one given, or else the one the run was started with.

        Raises:
          ValueError: for flags that do not fit together, or nothing detected.
        """
        if self.engine == "ray" or (self.engine is None and started_with_ray):
            return self._ray(num_devices)
        return self._in_step(num_devices)

    def _in_step(self, num_devices: int | None) -> "InStep":
        from learned_opt_lab.runs import InStep

        if given := [
            f"--{name.replace('_', '-')}" for name in RAY_ONLY if getattr(self, name) is not None
        ]:
            raise ValueError(f"{given[0]} is for --engine ray")
        return dataclasses.replace(
            InStep(num_devices, connect_timeout=self.connect_timeout), cluster=self._cluster()
        )

    def _cluster(self) -> "Cluster | None":
        """The processes of the run, or None for a process on its own."""
        from outer_train.processes import cluster as distributed
        from outer_train.processes import secret

        if self.token_file is not None:
            os.environ[secret.FILE_VARIABLE] = str(self.token_file.absolute())
            secret.given()  # a file that is of no use is told before anyone waits
        explicit = (self.coordinator, self.num_processes, self.process_id)
        if any(value is not None for value in explicit):
            if self.distributed:
                raise ValueError(
                    "give --distributed or --coordinator, --num-processes and --process-id, not "
                    "both"
                )
            return distributed.explicit(*explicit)
        return distributed.detect(self.connect_timeout) if self.distributed else None

    def _ray(self, num_devices: int | None) -> "Ray":
        from learned_opt_lab.runs import Ray

        if self.distributed or any(
            v is not None for v in (self.coordinator, self.num_processes, self.process_id)
        ):
            raise ValueError(
                "--engine ray takes no --distributed, --coordinator, --num-processes or "
                "--process-id"
            )
        if self.token_file is not None:
            raise ValueError(
                "--engine ray takes no --token-file: Ray has a token of its own "
                "(RAY_AUTH_TOKEN_PATH)"
            )
        return Ray(
            address=self.ray_address,
            num_workers=self.num_workers,
            gradients_per_step=self.gradients_per_step,
            max_staleness=self.max_staleness,
            gpus_per_worker=self.gpus_per_worker,
            num_devices=num_devices,
            connect_timeout=self.connect_timeout,
        )


def is_alone(engine: "InStep | Ray") -> bool:
    """Whether the run has no other process that computes in step with this one."""
    return getattr(engine, "cluster", None) is None


def outcome_of(
    start: Callable[[], "RunResult"],
    run_dir: Path | None = None,
    *,
    replaces: bool = False,
    alone: bool = True,
) -> Outcome:
    """Calls `runs.train` or `runs.resume`, and says what the run came to.

    Status 0: it is complete. 1: it is, and has learned nothing. 128 and its number: a signal ended
    it.

    Args:
      start: calls it.
      run_dir: of the run, to say how to go on where a signal comes outside of the outer loop.
      replaces: whether what is in `run_dir` is another run, which makes room for it.
      alone: whether no other process belongs to the run. One of several dies of a signal at once:
        at an ordinary end JAX would wait for the others.
    """
    from learned_opt_lab.cli import verdicts
    from learned_opt_lab.runs import NothingLearned
    from outer_train.processes import cluster

    error, before = "", _made(run_dir) if replaces else None
    outside = lambda number: _stopped(number, run_dir if _made(run_dir) != before else None)
    try:
        with (
            stopped_by_signals(lambda number: outside(number).error)
            if alone
            else contextlib.nullcontext()
        ):
            result = start()
    except NothingLearned as nothing:
        error, result = f"error: {nothing}", nothing.result
    except KeyboardInterrupt as stopped:
        return outside(getattr(stopped, "number", signal.SIGINT))
    path = result.run.path
    if result.signal is not None:
        found = _stopped(result.signal, path)
        return found if cluster.is_first() else found._replace(error="")
    if not result.summary:  # of several processes the first one tells
        return Outcome(NOTHING_LEARNED if error else 0, {"run_dir": path}, error=error)
    verdict = verdicts.of_run(path, result.summary)
    found = {"run_dir": path, "summary": result.summary, "files": written(result.run)}
    if error:
        return Outcome(NOTHING_LEARNED, found, error=error)
    return Outcome(0, found, *verdict)


def _made(run_dir: Path | None) -> tuple[int, int] | None:
    """Tells the run that is in a directory from another that takes its place; None if none is."""
    from outer_train.run import RunDirectory

    try:
        found = RunDirectory(run_dir).config.stat() if run_dir is not None else None
    except OSError:
        return None
    return found and (found.st_ino, found.st_mtime_ns)


def _stopped(number: int, path: Path | None) -> Outcome:
    """What a signal came to; the path is of the run that goes on, None where there is none yet."""
    from learned_opt_lab.cli import verdicts

    if path is None:
        said = "stopped before the run began; the same command starts it"
        return Outcome(128 + number, error=said)
    going_on = verdicts.command("resume", path)
    said = f"stopped; go on with `{going_on}`"
    return Outcome(128 + number, {"run_dir": path}, "", going_on, said)


def written(run: "RunDirectory") -> list[Path]:
    """The results that are there of a run."""
    curves = (run.curves_of(name) for name in ("heldout", "training_family"))
    return [each for each in (run.theta, run.summary, run.metrics, *curves) if each.exists()]
