"""The search space of a user's own optimizer, from a small TOML file.

    [given]      # passed as they are
    weights = "weights.npz"

    [default]    # without tuning, and the first run of every search
    learning_rate = 1e-3
    b1 = 0.9

    [search]     # what is not named here is the same in every run
    learning_rate = { low = 1e-5, high = 1e-1 }
    b1 = { values = [0.8, 0.9, 0.95] }
    schedule = { values = ["constant", "cosine"] }
    warmup = { low = 0.0, high = 0.1, scale = "linear" }

A range is logarithmic unless its scale is "linear". `schedule` and `warmup` make `learning_rate` an
Optax schedule over the run (`learned_opt_lab.evaluation.rivals.schedules`).
"""

import math
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from learned_opt import catalog
from learned_opt.disk import reading
from learned_opt_lab.evaluation.rivals.rival import NO_SCHEDULE
from learned_opt_lab.evaluation.rivals.schedules import SCHEDULES
from learned_opt_lab.evaluation.rivals.search_space import (
    Axis,
    Choice,
    LogUniform,
    SearchSpace,
    Uniform,
)

_TABLES = ("given", "default", "search")
_SCALES = ("log", "linear")


class SearchFile(NamedTuple):
    """What a file holds: arguments, defaults, and axes."""

    given: dict[str, Any]
    default: dict[str, Any]
    axes: dict[str, Axis]


def read_search_file(path: Path) -> SearchFile:
    """Reads and checks a file.

    Raises:
      ValueError: naming the file and the entry that is wrong.
      OSError: it cannot be read.
    """
    try:
        content = tomllib.loads(reading.read_bytes(path, reading.MAX_JSON_BYTES).decode())
    except RecursionError as error:
        raise ValueError(f"{path} is no TOML of a search: it is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"{path} is no TOML: {error}") from error
    for name in content:
        if name not in _TABLES or not isinstance(content[name], dict):
            raise ValueError(f"{path} has {name!r}; it has the tables {', '.join(_TABLES)}")
    given, default, search = (content.get(name, {}) for name in _TABLES)
    for name, value in default.items():
        if name == "schedule":
            _require_schedules(path, [value])
        elif not _is_number(value):
            raise ValueError(
                f"{path}: the default of {name} must be a finite number, got {value!r}"
            )
    if twice := sorted(given.keys() & (default.keys() | search.keys())):
        raise ValueError(f"{path} has {twice[0]} in [given] and elsewhere")
    if isinstance(default.get("warmup"), int | float) and not 0 <= default["warmup"] < 1:
        raise ValueError(f"{path}: warmup is a share of the steps below 1, got {default['warmup']}")
    return SearchFile(given, default, {name: _axis(path, name, search[name]) for name in search})


def _axis(path: Path, name: str, entry: Any) -> Axis:
    keys = set(entry) if isinstance(entry, dict) else set()
    if keys == {"values"}:
        axis = _choice(path, name, entry["values"])
    elif {"low", "high"} <= keys <= {"low", "high", "scale"}:
        axis = _range(path, name, entry)
    else:
        raise ValueError(
            f"{path}: {name} of [search] is {{ low = ..., high = ... }} or {{ values = [...] }}, "
            f"got {entry!r}"
        )
    ends = axis.values if isinstance(axis, Choice) else axis
    if name == "warmup" and not all(0 <= value < 1 for value in ends):
        raise ValueError(f"{path}: warmup is a share of the steps below 1, got {entry!r}")
    return axis


def _choice(path: Path, name: str, values: Any) -> Choice:
    if not isinstance(values, list) or not values:
        raise ValueError(f"{path}: the values of {name} must be a list, got {values!r}")
    if name == "schedule":
        return Choice(_require_schedules(path, values))
    if not all(_is_number(value) for value in values):
        raise ValueError(f"{path}: the values of {name} must be finite numbers, got {values!r}")
    return Choice(tuple(float(value) for value in values))


def _range(path: Path, name: str, entry: dict[str, Any]) -> LogUniform | Uniform:
    low, high, scale = entry["low"], entry["high"], entry.get("scale", _SCALES[0])
    if scale not in _SCALES:
        hint = catalog.near_names(str(scale), list(_SCALES))
        raise ValueError(f"{path}: unknown scale {scale!r} of {name}; {hint}")
    logarithmic = scale == _SCALES[0]
    if not _is_number(low) or not _is_number(high) or low > high or (logarithmic and low <= 0):
        needed = "0 < low <= high" if logarithmic else "low <= high"
        raise ValueError(f"{path}: {name} needs {needed}, got {low!r} and {high!r}")
    return (LogUniform if logarithmic else Uniform)(float(low), float(high))


def _require_schedules(path: Path, values: list[Any]) -> tuple[str, ...]:
    for value in values:
        if value not in SCHEDULES:
            hint = catalog.near_names(str(value), list(SCHEDULES))
            raise ValueError(f"{path}: unknown schedule {value!r}; {hint}")
    return tuple(values)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # of a whole number that no float holds
        return False


def search_space(file: SearchFile, defaults: dict[str, float], path: Path) -> SearchSpace:
    """The space of a file; what has a default and is not searched is the same in every draw.

    Args:
      file: of `read_search_file`.
      defaults: a factory's own, for what the file searches and gives no default of.
      path: for messages.

    Raises:
      ValueError: where a default is known of neither.
    """
    known = {**NO_SCHEDULE, **defaults, **file.default}
    for name in file.axes:
        if name not in known:
            raise ValueError(f"{path}: {name} is searched and has no default; give it in [default]")
    fixed = {name: Choice((value,)) for name, value in file.default.items()}
    axes = {**fixed, **file.axes}
    return SearchSpace({name: known[name] for name in axes}, axes)
