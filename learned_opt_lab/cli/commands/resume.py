"""resume RUN: go on with a run that was stopped or killed, from its last whole checkpoint."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from learned_opt_lab.runs.engines.engine import Engine, EngineFlags

if TYPE_CHECKING:
    from configs.base import TrainConfig
    from outer_train.run import Allowed, RunDirectory


@dataclasses.dataclass(frozen=True)
class Args:
    """Go on with a run. On the same number of devices it gives bitwise the metrics of a run that was never stopped."""

    run: tyro.conf.Positional[Path]
    """The run directory."""
    num_devices: int | None = None
    """Devices the particles are spread over; it may differ from the count before."""
    tensorboard: bool = False
    """Also write TensorBoard scalars."""
    compilation_cache: bool = True
    """Keep compiled programs under the user's cache directory."""
    allow_restart: bool = False
    """Start again at outer step 0 if the checkpoints are gone or none can be read; the rows so far are kept under
    another name. Without it the command ends with status 2 then."""
    allow_missing_rows: bool = False
    """Go on if rows of metrics.jsonl are missing or broken; they stay missing."""
    allow_changed_config: bool = False
    """Go on if config.json was changed since the run began."""
    trust: bool = False
    """Import and run the code that the run's files name: a family or an optimizer given as "module:name", in modules
    beside the config file it was started from. Only for runs whose author you trust."""
    engine: EngineFlags = dataclasses.field(default_factory=Engine)
    """Where the outer gradient is computed; processes and workers may be more or fewer than before."""


def run(args: Args) -> int:
    """Trains on, scores, writes the results; 130, 143 or 129 if SIGINT, SIGTERM or SIGHUP ended it."""
    from learned_opt_lab.runs import catalog
    from outer_train.run import directory as run_dir
    from outer_train.run import lock

    directory, stored = run_dir.open_run(args.run)
    if not args.allow_changed_config:
        run_dir.check_config(directory, stored)
    if not args.engine.distributed and args.engine.coordinator is None:  # the first of several looks for itself
        lock.check(directory.path)
    config = read_config(directory, stored, args.trust)
    if args.trust and (source := run_dir.config_file(directory)):
        catalog.add_to_path(Path(source).parent)

    if args.engine.engine == "ray" or directory.engine.exists():
        return _run_with_ray(args, config, directory)

    from learned_opt_lab.runs import session

    cluster = args.engine.cluster()
    session.start(args.num_devices, args.compilation_cache, cluster)
    if cluster is not None:
        session.connect(cluster, config, args.num_devices, args.engine.connect_timeout, directory)
    built = session.build(config, args.num_devices, args.tensorboard, trust=args.trust)
    with lock.hold_by_first(directory.path):
        return session.train_and_score(config, built, directory, args.tensorboard, _allowed(args))


def read_config(directory: "RunDirectory", stored: dict[str, Any], trust: bool) -> "TrainConfig":
    """The config of a run; nothing that it names is imported.

    Raises:
      ValueError: it is none, or names code that is not this project's and is not trusted.
    """
    from configs.base import TrainConfig
    from learned_opt_lab.runs.config_json import from_json
    from learned_opt_lab.runs.families import check_trusted

    try:
        config = from_json(stored, trust=trust)
        if not isinstance(config, TrainConfig):
            raise ValueError("it holds no TrainConfig")
        check_trusted(config)
    except ValueError as error:
        raise ValueError(f"{directory.config}: {error}") from error
    return config


def _allowed(args: Args) -> "Allowed":
    from outer_train.run import Allowed

    return Allowed(restart=args.allow_restart, missing_rows=args.allow_missing_rows)


def _run_with_ray(args: Args, config: "TrainConfig", directory: "RunDirectory") -> int:
    from learned_opt_lab.runs import session
    from learned_opt_lab.runs.engines import asynchronous
    from outer_train.run import lock
    from outer_train.workers import ray_crew

    stored = asynchronous.stored(directory)
    if stored is None or args.engine.engine == "in-step":
        started = "in step" if stored is None else "with --engine ray"
        raise ValueError(f"{directory.path} was started {started}; its checkpoints go on with that engine only")
    settings = asynchronous.checked(args.engine.settings(stored))
    session.start(args.num_devices, args.compilation_cache)
    ray_crew.connect(args.engine.ray_address, args.engine.connect_timeout, settings["num_workers"])
    try:
        built = session.build(config, args.num_devices, args.tensorboard, trust=args.trust)
        with lock.hold_by_first(directory.path):
            return asynchronous.train_and_score(
                config, built, directory, args.engine, settings, args.tensorboard, _allowed(args)
            )
    finally:
        ray_crew.disconnect()
