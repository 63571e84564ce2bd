"""train CONFIG: outer-train a learned optimizer, then score it on held-out tasks."""

import dataclasses
from pathlib import Path
from typing import Any

from learned_opt_lab.cli.parsing import ConfigArgs, parse_with_config
from learned_opt_lab.runs.engines.engine import Engine, EngineFlags


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args(ConfigArgs):
    """Outer-train a learned optimizer.

    CONFIG is a name from `learned-opt list` or the path of your own .py file that defines `config`. Choosing a kind, as
    in `estimator:merged`, starts from that kind's own defaults.
    """

    run_dir: Path | None = None
    """Where everything is written; runs/CONFIG if not given."""
    overwrite: bool = False
    """Move a run that is in the run directory to a folder beside it, DIR.old-1, and start a new one."""
    tensorboard: bool = False
    """Also write TensorBoard scalars."""
    trust: bool = False
    """Import and run the code that the file init_theta names. What you name yourself needs no such flag."""
    engine: EngineFlags = dataclasses.field(default_factory=Engine)
    """Where the outer gradient is computed."""


def parse(argv: list[str], prog: str) -> Args:
    """Reads `CONFIG [--field value ...]`."""
    return parse_with_config(Args, argv, prog)


def run(args: Args) -> int:
    """Trains, scores, writes the results; 130, 143 or 129 if SIGINT, SIGTERM or SIGHUP ended it."""
    from outer_train.run import directory as run_dir

    path = args.run_dir or Path("runs") / args.config_name
    if args.engine.engine == "ray":
        return _run_with_ray(args, path)
    cluster = args.engine.cluster()
    if cluster is None:
        run_dir.check_free(path, args.overwrite)

    from learned_opt_lab.runs import session
    from learned_opt_lab.runs.config_json import to_json
    from outer_train.processes import cluster as distributed
    from outer_train.run import lock

    session.start(args.num_devices, args.compilation_cache, cluster)
    if cluster is not None:
        session.connect(cluster, args.config, args.num_devices, args.engine.connect_timeout, run_dir.RunDirectory(path))
        distributed.from_first(lambda: run_dir.check_free(path, args.overwrite))
    built = session.build(args.config, args.num_devices, args.tensorboard, trust=args.trust)
    config = to_json(args.config)
    with lock.hold_by_first(path):
        distributed.from_first(lambda: _create(args, path, config))
        return session.train_and_score(args.config, built, run_dir.RunDirectory(path), args.tensorboard)


def _create(args: Args, path: Path, config: dict[str, Any]) -> None:
    from outer_train.run import directory as run_dir

    run_dir.create(path, config, config_file=args.config_file, overwrite=args.overwrite, tell=print)


def _run_with_ray(args: Args, path: Path) -> int:
    from outer_train.run import directory as run_dir

    run_dir.check_free(path, args.overwrite)

    from learned_opt_lab.runs import session
    from learned_opt_lab.runs.config_json import to_json
    from learned_opt_lab.runs.engines import asynchronous
    from outer_train.run import lock
    from outer_train.workers import ray_crew

    settings = asynchronous.checked(args.engine.settings())
    session.start(args.num_devices, args.compilation_cache)
    ray_crew.connect(args.engine.ray_address, args.engine.connect_timeout, settings["num_workers"])
    try:
        built = session.build(args.config, args.num_devices, args.tensorboard, trust=args.trust)
        asynchronous.workers.make_source(args.config, settings["gradients_per_step"])
        config = to_json(args.config)
        with lock.hold_by_first(path):
            _create(args, path, config)
            directory = run_dir.RunDirectory(path)
            return asynchronous.train_and_score(args.config, built, directory, args.engine, settings, args.tensorboard)
    finally:
        ray_crew.disconnect()
