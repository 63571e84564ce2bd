"""resume RUN: go on with a run that was stopped or killed, from its last whole checkpoint."""

import dataclasses
import json
from pathlib import Path

import tyro


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

    from cli import session

    session.start(args.num_devices, args.compilation_cache)
    built = session.build(config, args.num_devices, args.tensorboard)
    return session.train_and_score(config, built, directory, args.tensorboard)
