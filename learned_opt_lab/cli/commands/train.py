"""train CONFIG: outer-train a learned optimizer, then score it on held-out tasks."""

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal

from learned_opt_lab.cli import batches, progress, surroundings
from learned_opt_lab.cli.options.fields import AtTop
from learned_opt_lab.cli.output import Outcome
from learned_opt_lab.cli.parsing import ConfigArgs, parse_with_config
from learned_opt_lab.cli.running import EngineArgs, is_alone, outcome_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args(ConfigArgs):
    """Outer-train a learned optimizer, and score it on held-out tasks.

    CONFIG is a name from `learned-opt list`, the path of your own .py file that defines `config`,
    or the config.json of a run. Choosing a kind, as in `estimator:merged`, starts from that kind's
    own defaults.

    With --seeds or --sweep there are several runs, in folders of one directory. The same command
    goes on with what was cut off, and leaves what is finished.
    """

    usual: ClassVar[tuple[str, ...]] = (
        "run-dir",
        "overwrite",
        "seeds",
        "sweep",
        "num-outer-steps",
        "seed",
        "init-theta",
        "problem.num-steps",
        "estimator.num-pairs",
        "estimator.std",
        "held-out.num-tasks",
        "num-devices",
    )

    run_dir: Path | None = None
    """Where everything is written; runs/CONFIG if not given."""
    overwrite: bool = False
    """Move a run that is there to a folder beside it, DIR.old-1, and start a new one."""
    seeds: tuple[int, ...] = ()
    """Runs of these seeds, in DIR/seed-0, DIR/seed-1."""
    sweep: tuple[str, ...] = ()
    """FIELD=VALUE,VALUE: a run of each value, of several fields their product.
    As in --sweep estimator.std=0.01,0.03 estimator=merged,full-es; folders are named after the
    values."""
    tensorboard: bool = False
    """Also write TensorBoard scalars, as --tracker tensorboard."""
    tracker: tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...] = ()
    """Also tell these the numbers of each outer step; each needs its extra of the package."""
    trust: bool = False
    """Import and run the code that the file init_theta, or CONFIG if it is a config.json, names.
    What you name yourself needs no such flag."""
    engine: AtTop[EngineArgs] = dataclasses.field(default_factory=EngineArgs)
    """Where the outer gradient is computed."""


def parse(argv: list[str], prog: str) -> Args:
    """Reads `CONFIG [--field value ...]`."""
    return parse_with_config(Args, argv, prog)


def run(args: Args) -> Outcome:
    """Trains, scores, writes the results;
    status 130, 143 or 129 if SIGINT, SIGTERM or SIGHUP ended it.

    Raises:
      ValueError: for seeds or values that are no runs of their own, and as `runs.train`.
    """
    run_dir = args.run_dir or Path("runs") / args.config_name
    members = batches.members(args.config, run_dir, args.seeds, args.sweep)
    progress.load("learned_opt_lab.runs.course")
    from learned_opt_lab import runs

    engine = args.engine.settings(args.num_devices)
    surroundings.prepare_jax(args.compilation_cache)
    shared = {
        "engine": engine,
        "trackers": args.tracker + ("tensorboard",) * args.tensorboard,
        "trust": args.trust,
        "show": progress.of_runs(),
    }
    created = {"overwrite": args.overwrite, "config_file": args.config_file}
    if args.seeds or args.sweep:
        return batches.run(members, run_dir, shared, created)
    start = lambda: runs.train(args.config, run_dir, **created, **shared)
    return outcome_of(start, run_dir, replaces=args.overwrite, alone=is_alone(engine))
