"""What `train` and `resume` share on the command line about running on several processes or workers."""

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

if TYPE_CHECKING:
    from outer_train.processes import Cluster


@dataclasses.dataclass(frozen=True)
class Engine:
    """Where the outer gradient is computed; see docs/scaling.md."""

    engine: Literal["in-step", "ray"] | None = None
    """in-step: all devices of all processes make one outer step together. ray: workers of a Ray cluster send gradients
    when they have them, and may fail, join and leave. If not given: in-step, or as the run was started."""
    distributed: bool = False
    """in-step: connect the processes that SLURM, Open MPI, Kubernetes or a TPU pod started, as JAX detects them."""
    coordinator: str | None = None
    """in-step: HOST:PORT of process 0, where nothing is detected; then --num-processes and --process-id too."""
    num_processes: int | None = None
    """in-step: processes of the run."""
    process_id: int | None = None
    """in-step: which of them this is; process 0 writes the logs. All must see the run directory."""
    token_file: Path | None = None
    """in-step: a file that only you can read, with the token by which the processes know each other; or the token is in
    LEARNED_OPT_TOKEN. Needed where the coordinator's address is not of this machine alone."""
    ray_address: str | None = None
    """ray: HOST:PORT of a running cluster, or auto. If not given, Ray is started on this machine."""
    num_workers: int | None = None
    """ray: workers at a time; 0 for one for each free CPU of the cluster as nodes come and go. 2 if not given."""
    gradients_per_step: int | None = None
    """ray: gradients that make one outer step; they share out the estimator's particles. If not given, the number of
    workers at the start."""
    max_staleness: int | None = None
    """ray: outer steps by which a gradient's theta may be behind; older ones are dropped and counted. 4 by default."""
    gpus_per_worker: float | None = None
    """ray: GPUs, or a share of one, that each worker is given. 0 if not given."""
    connect_timeout: float = 60.0
    """Seconds in which all processes, the Ray cluster or the first worker must be there; exit status 2 after it."""

    def cluster(self) -> "Cluster | None":
        """The processes of the run, or None for a process on its own.

        Raises:
          ValueError: for flags that do not fit together, or nothing detected.
        """
        from outer_train.processes import cluster as distributed
        from outer_train.processes import secret

        mine = ("ray_address", "num_workers", "gradients_per_step", "max_staleness", "gpus_per_worker")
        if given := [f"--{name.replace('_', '-')}" for name in mine if getattr(self, name) is not None]:
            raise ValueError(f"{given[0]} is for --engine ray")
        if not self.connect_timeout > 0:
            raise ValueError(f"--connect-timeout must be above 0, got {self.connect_timeout}")
        if self.token_file is not None:
            os.environ[secret.FILE_VARIABLE] = str(self.token_file.absolute())
            secret.given()  # a file that is of no use is told before anyone waits
        explicit = (self.coordinator, self.num_processes, self.process_id)
        if any(value is not None for value in explicit):
            if self.distributed:
                raise ValueError("give --distributed or --coordinator, --num-processes and --process-id, not both")
            return distributed.explicit(*explicit)
        return distributed.detect(self.connect_timeout) if self.distributed else None

    def settings(self, stored: dict[str, Any] | None = None) -> dict[str, Any]:
        """The settings of the Ray engine that are given here, else those the run was started with.

        Raises:
          ValueError: for flags of the other engine.
        """
        if self.distributed or any(v is not None for v in (self.coordinator, self.num_processes, self.process_id)):
            raise ValueError("--engine ray takes no --distributed, --coordinator, --num-processes or --process-id")
        if self.token_file is not None:
            raise ValueError("--engine ray takes no --token-file: Ray has a token of its own (RAY_AUTH_TOKEN_PATH)")
        if not self.connect_timeout > 0:
            raise ValueError(f"--connect-timeout must be above 0, got {self.connect_timeout}")
        names = ("num_workers", "gradients_per_step", "max_staleness", "gpus_per_worker")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        return {**(stored or {}), **given}


EngineFlags = Annotated[Engine, tyro.conf.arg(name="")]
"""A field of this type puts the flags at the top level: `--engine`, `--coordinator`."""
