"""train CONFIG: outer-train a learned optimizer, then score it on held-out tasks."""

import dataclasses
from pathlib import Path

import tyro

from cli.parsing import ConfigFields, parse_with_config


@dataclasses.dataclass(frozen=True)
class Args:
    """Outer-train a learned optimizer.

    CONFIG is a name from `learned-opt list` or the path of your own .py file that defines `config`. Choosing a kind, as
    in `estimator:merged`, starts from that kind's own defaults.
    """

    config: ConfigFields
    """The run."""
    config_name: tyro.conf.Suppress[str]
    """CONFIG's name."""
    config_file: tyro.conf.Suppress[Path | None]
    """The user's own file."""
    run_dir: Path | None = None
    """Where everything is written; runs/CONFIG if not given."""
    overwrite: bool = False
    """Remove a run that is in the run directory."""
    num_devices: int | None = None
    """Devices the particles are spread over; must divide their number. If not given: the most that do, on CPU one a
    core."""
    tensorboard: bool = False
    """Also write TensorBoard scalars."""
    compilation_cache: bool = True
    """Keep compiled programs under the user's cache directory, so that the next start is quicker."""


def parse(argv: list[str], prog: str) -> Args:
    """Reads `CONFIG [--field value ...]`."""
    return parse_with_config(Args, argv, prog)


def run(args: Args) -> int:
    """Trains, scores, writes the results; 130 or 143 if SIGINT or SIGTERM ended it."""
    from outer_train import run_dir

    path = args.run_dir or Path("runs") / args.config_name
    run_dir.check_free(path, args.overwrite)

    from cli import session
    from configs.serialize import to_json

    session.start(args.num_devices, args.compilation_cache)
    built = session.build(args.config, args.num_devices, args.tensorboard)
    directory = run_dir.create(
        path, to_json(args.config), config_file=args.config_file, overwrite=args.overwrite
    )  # fmt: skip
    return session.train_and_score(args.config, built, directory, args.tensorboard)
