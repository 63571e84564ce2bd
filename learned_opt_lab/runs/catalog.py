"""The configs that ship, by name, and how a name or the path
of a user's own file becomes a `TrainConfig`.
"""

import importlib
from pathlib import Path

from configs.base import TrainConfig
from learned_opt_lab.runs.config_json import near
from learned_opt_lab.runs.user_path import run_file

CONFIGS = {
    "quickstart": "configs.quickstart",
    "digits_mlp": "configs.digits_mlp",
    "fashion_mnist_mlp": "configs.fashion_mnist_mlp",
    "general": "configs.general",
    "general_es": "configs.general_es",
    "metz2019_cnn": "configs.metz2019_cnn",
    "quadratic": "configs.quadratic",
}
MADE_BY = {"general": "general", "general_es": "general_es", "mlp": "digits_mlp"}
"""Weights that ship with the library -> the config that makes them."""


def recipe_of(name: str) -> str:
    """The command that makes shipped weights:
    their config's search if it has one that makes a theta, or training.
    """
    config, _ = load(MADE_BY[name])
    command = "search" if config.search is not None and config.search.makes_theta else "train"
    return f"learned-opt {command} {MADE_BY[name]}"


def load(name_or_path: str) -> tuple[TrainConfig, Path | None]:
    """The config, and the file it is from if it is the user's own.

    Raises:
      ValueError: there is no such name, the file cannot be run, or it defines no `config`.
      FileNotFoundError: there is no such file.
    """
    if name_or_path in CONFIGS:
        return importlib.import_module(CONFIGS[name_or_path]).config, None
    path = Path(name_or_path)
    if path.suffix != ".py":
        raise ValueError(
            f"unknown config {name_or_path!r}{near(name_or_path, CONFIGS)}\n"
            f"known are {', '.join(CONFIGS)}, and the path of a .py file that defines `config`"
        )
    return _from_file(path), path.absolute()


def _from_file(path: Path) -> TrainConfig:
    module = run_file(path, "user_config", "config file")
    config = getattr(module, "config", None)
    if not isinstance(config, TrainConfig):
        raise ValueError(
            f"config file {path} must define `config`, a configs.base.TrainConfig; got "
            f"{config!r:.80}"
        )
    return config
