"""resume RUN: go on with a run that was stopped or killed, from its last whole checkpoint."""

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal

from learned_opt_lab.cli import progress, surroundings
from learned_opt_lab.cli.options.fields import AtTop, Positional
from learned_opt_lab.cli.output import Outcome
from learned_opt_lab.cli.running import EngineArgs, is_alone, outcome_of


@dataclasses.dataclass(frozen=True)
class Args:
    """Go on with a run.

    On the same number of devices it gives bitwise the metrics of a run that was never stopped.
    """

    usual: ClassVar[tuple[str, ...]] = (
        "num-devices",
        "allow-restart",
        "allow-missing-rows",
        "allow-changed-config",
        "engine",
        "trust",
    )

    run: Positional[Path]
    """The run directory."""
    num_devices: int | None = None
    """Devices the particles are spread over; it may differ from the count before."""
    tensorboard: bool = False
    """Also write TensorBoard scalars, as --tracker tensorboard."""
    tracker: tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...] = ()
    """Also tell these the numbers of each outer step; each needs its extra of the package."""
    compilation_cache: bool = True
    """Keep compiled programs under the user's cache directory."""
    allow_restart: bool = False
    """Start again at outer step 0 if the checkpoints are gone or none can be read;
    the rows so far are kept under another name. Without it the command ends with status 2 then."""
    allow_missing_rows: bool = False
    """Go on if rows of metrics.jsonl are missing or broken; they stay missing."""
    allow_changed_config: bool = False
    """Go on if config.json was changed since the run began."""
    trust: bool = False
    """Import and run the code that the run's files name: a family or optimizer "module:name".
    Modules beside the config file it was started from are found, too.
    Only for runs whose author you trust."""
    engine: AtTop[EngineArgs] = dataclasses.field(default_factory=EngineArgs)
    """Where the outer gradient is computed;
    processes and workers may be more or fewer than before."""


def run(args: Args) -> Outcome:
    """Trains on, scores, writes the results;
    status 130, 143 or 129 if SIGINT, SIGTERM or SIGHUP ended it.
    """
    progress.load("learned_opt_lab.runs.course")
    from learned_opt_lab import runs
    from outer_train.run import Allowed, RunDirectory

    with_ray = RunDirectory(args.run).engine.exists()
    engine = args.engine.settings(args.num_devices, started_with_ray=with_ray)
    surroundings.prepare_jax(args.compilation_cache)
    allowed = Allowed(args.allow_restart, args.allow_missing_rows, args.allow_changed_config)
    start = lambda: runs.resume(
        args.run,
        engine=engine,
        allowed=allowed,
        trackers=args.tracker + ("tensorboard",) * args.tensorboard,
        trust=args.trust,
        show=progress.of_runs(),
    )
    return outcome_of(start, args.run, alone=is_alone(engine))
