"""`TrainConfig` to and from JSON with type tags, exactly."""

import dataclasses
import difflib
from typing import Any

from configs import base

TYPES = {
    cls.__name__: cls
    for cls in (
        base.TrainConfig,
        base.ClassSubset,
        base.RandomQuadratic,
        base.CustomFamily,
        base.Mlp,
        base.NamedOptimizer,
        base.InnerProblem,
        base.EvolutionStrategies,
        base.Reparameterization,
        base.Merged,
        base.PersistentES,
        base.NoiseReuseES,
        base.TruncatedBackprop,
        base.ForwardMode,
        base.FullES,
        base.Constant,
        base.Linear,
        base.LogUniform,
        base.OuterOptimizer,
        base.HeldOut,
    )
}


def to_json(value: Any) -> Any:
    """Plain JSON values; a dataclass becomes an object whose `type` names its class, a tuple a list."""
    if dataclasses.is_dataclass(value):
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, tuple):
        return [to_json(v) for v in value]
    if isinstance(value, dict):
        return {k: to_json(v) for k, v in value.items()}
    return value


def from_json(value: Any) -> Any:
    """The inverse of `to_json`.

    Raises:
      ValueError: for a type or a field that does not exist, naming the nearest ones.
    """
    if isinstance(value, list):
        return tuple(from_json(v) for v in value)
    if not isinstance(value, dict):
        return value
    if "type" not in value:
        return {k: from_json(v) for k, v in value.items()}
    if value["type"] not in TYPES:
        raise ValueError(f"unknown config type {value['type']!r}{near(value['type'], TYPES)}")
    cls = TYPES[value["type"]]
    names = [f.name for f in dataclasses.fields(cls)]
    for name in value:
        if name not in (*names, "type"):
            raise ValueError(f"{value['type']} has no field {name!r}{near(name, names)}")
    return cls(**{k: from_json(v) for k, v in value.items() if k != "type"})


def near(name: str, names) -> str:
    """A hint at the names closest to a mistyped one, or nothing."""
    matches = difflib.get_close_matches(name, list(names), n=3, cutoff=0.5)
    return f"; did you mean {', '.join(matches)}?" if matches else ""
