"""resume RUN: go on with a run that was stopped or killed, from its last whole checkpoint."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from cli.engine import Engine, EngineFlags

if TYPE_CHECKING:
    from configs.base import TrainConfig
    from outer_train.run_dir import RunDirectory


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
    engine: EngineFlags = dataclasses.field(default_factory=Engine)
    """Where the outer gradient is computed; processes and workers may be more or fewer than before."""


def run(args: Args) -> int:
    """Trains on, scores, writes the results; 130 or 143 if SIGINT or SIGTERM ended it."""
    from configs import registry
    from configs.base import TrainConfig
    from configs.serialize import from_json
    from outer_train import run_dir

    directory, stored = run_dir.open_run(args.run)
    config = from_json(stored)
    if not isinstance(config, TrainConfig):
        raise ValueError(f"{directory.config} holds no TrainConfig")
    source = json.loads(directory.versions.read_text()).get("config_file") if directory.versions.exists() else None
    if source:
        registry.add_to_path(Path(source).parent)

    if args.engine.engine == "ray" or directory.engine.exists():
        return _run_with_ray(args, config, directory)

    from cli import session

    cluster = args.engine.cluster()
    session.start(args.num_devices, args.compilation_cache, cluster)
    if cluster is not None:
        session.connect(cluster, config, args.num_devices, args.engine.connect_timeout, directory)
    built = session.build(config, args.num_devices, args.tensorboard)
    return session.train_and_score(config, built, directory, args.tensorboard)


def _run_with_ray(args: Args, config: "TrainConfig", directory: "RunDirectory") -> int:
    from cli import asynchronous, session
    from outer_train.workers import ray_crew

    stored = asynchronous.stored(directory)
    if stored is None or args.engine.engine == "in-step":
        started = "in step" if stored is None else "with --engine ray"
        raise ValueError(f"{directory.path} was started {started}; its checkpoints go on with that engine only")
    settings = asynchronous.checked(args.engine.settings(stored))
    session.start(args.num_devices, args.compilation_cache)
    ray_crew.connect(args.engine.ray_address, args.engine.connect_timeout, settings["num_workers"])
    try:
        built = session.build(config, args.num_devices, args.tensorboard)
        return asynchronous.train_and_score(config, built, directory, args.engine, settings, args.tensorboard)
    finally:
        ray_crew.disconnect()
