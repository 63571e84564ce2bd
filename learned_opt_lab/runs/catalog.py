"""The configs that ship, by name, and how a name or the path
of a user's own file becomes a `TrainConfig`.
"""

import importlib
from collections.abc import Iterable
from pathlib import Path

from configs.base import TrainConfig
from learned_opt_lab.runs.config_json import from_json, near
from learned_opt_lab.runs.user_path import run_file

CONFIGS = {
    "quickstart": "configs.quickstart",
    "digits_mlp": "configs.digits_mlp",
    "explosion": "configs.explosion",
    "fashion_mnist_mlp": "configs.fashion_mnist_mlp",
    "general": "configs.general",
    "general_es": "configs.general_es",
    "metz2019_cifar100": "configs.metz2019_cifar100",
    "metz2019_cnn": "configs.metz2019_cnn",
    "metz2019_small": "configs.metz2019_small",
    "orthogonal": "configs.orthogonal",
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

    Args:
      name_or_path: a name of `CONFIGS`, a `.py` file that defines `config`, which is run, or the
        `config.json` of a run, of which nothing is run (`learned_opt.catalog.FromFile`).

    Raises:
      ValueError: there is no such name, the file cannot be run, or it defines no `config`.
      FileNotFoundError: there is no such file.
    """
    if name_or_path in CONFIGS:
        return importlib.import_module(CONFIGS[name_or_path]).config, None
    path = Path(name_or_path)
    if is_json(name_or_path):
        return _from_json_file(path), None
    if path.suffix != ".py":
        raise ValueError(unknown("config", name_or_path, CONFIGS, known()))
    return _from_file(path), path.absolute()


def unknown(what: str, name: str, names: Iterable[str], otherwise: str = "") -> str:
    """A line on a name that does not exist: the near ones, or what is known where none is near.

    Example:
      >>> unknown("estimator", "megred", ("merged", "full_es"))
      "unknown estimator 'megred'; did you mean merged?"
    """
    hint = near(name, names)
    return f"unknown {what} {name!r:.200}{hint or '; ' + (otherwise or _known_are(names))}"


def _known_are(names: Iterable[str]) -> str:
    return f"known are {', '.join(names) or '(none)'}"


def known() -> str:
    """A line on what may stand for a config."""
    files = ("the path of a .py file that defines `config`", "a run's config.json")
    return _known_are((*CONFIGS, *files))


def is_json(name_or_path: str) -> bool:
    """Whether a run's `config.json` is meant."""
    return name_or_path not in CONFIGS and name_or_path.endswith(".json")


def name_of(name_or_path: str) -> str:
    """What a run of the config is called; of a `config.json` the name of its folder."""
    path = Path(name_or_path)
    if is_json(name_or_path):
        return path.absolute().parent.name if path.stem == "config" else path.stem
    return name_or_path if name_or_path in CONFIGS else path.stem


def _from_json_file(path: Path) -> TrainConfig:
    # Here, since it imports JAX, which nothing else of a command line needs.
    from outer_train.run import directory

    if not path.is_file():
        raise FileNotFoundError(f"there is no config file {path}")
    stored = directory.read_object(path)
    try:
        config = from_json(stored)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(config, TrainConfig):
        raise ValueError(f"{path} holds no config of a run")
    return config


def _from_file(path: Path) -> TrainConfig:
    module = run_file(path, "user_config", "config file")
    config = getattr(module, "config", None)
    if not isinstance(config, TrainConfig):
        raise ValueError(
            f"config file {path} must define `config`, a configs.base.TrainConfig; got "
            f"{config!r:.80}"
        )
    return config
