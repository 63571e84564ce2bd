"""train CONFIG: outer-train a learned optimizer, then score it on held-out tasks."""

import dataclasses
from pathlib import Path
from typing import Literal

from learned_opt_lab.cli import surroundings
from learned_opt_lab.cli.parsing import ConfigArgs, parse_with_config
from learned_opt_lab.cli.running import EngineArgs, EngineFlags, exit_status


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args(ConfigArgs):
    """Outer-train a learned optimizer.

    CONFIG is a name from `learned-opt list` or the path of your own .py file that defines `config`.
    Choosing a kind, as in `estimator:merged`, starts from that kind's own defaults.
    """

    run_dir: Path | None = None
    """Where everything is written; runs/CONFIG if not given."""
    overwrite: bool = False
    """Move a run that is there to a folder beside it, DIR.old-1, and start a new one."""
    tensorboard: bool = False
    """Also write TensorBoard scalars, as --tracker tensorboard."""
    tracker: tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...] = ()
    """Also tell these the numbers of each outer step; each needs its extra of the package."""
    trust: bool = False
    """Import and run the code that the file init_theta names.
    What you name yourself needs no such flag."""
    engine: EngineFlags = dataclasses.field(default_factory=EngineArgs)
    """Where the outer gradient is computed."""


def parse(argv: list[str], prog: str) -> Args:
    """Reads `CONFIG [--field value ...]`."""
    return parse_with_config(Args, argv, prog)


def run(args: Args) -> int:
    """Trains, scores, writes the results; 130, 143 or 129 if SIGINT, SIGTERM or SIGHUP ended it."""
    from learned_opt_lab import runs

    engine = args.engine.settings(args.num_devices)
    surroundings.prepare_jax(args.compilation_cache)
    return exit_status(
        lambda: runs.train(
            args.config,
            args.run_dir or Path("runs") / args.config_name,
            engine=engine,
            overwrite=args.overwrite,
            config_file=args.config_file,
            trackers=args.tracker + ("tensorboard",) * args.tensorboard,
            trust=args.trust,
            show=runs.TERMINAL,
        )
    )
