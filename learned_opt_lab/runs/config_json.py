"""`TrainConfig` to and from JSON with type tags, exactly."""

import dataclasses
import difflib
import functools
import math
import types
import typing
from typing import Any

from configs import base
from learned_opt_lab.runs.moved_names import current_name

MAX_DEPTH = 32
LARGEST_INT32 = 2**31 - 1
MAX_WHOLE_NUMBER = 2**63 - 1


def to_json(value: Any) -> Any:
    """Plain JSON values; a dataclass becomes an object whose `type` names its class,
    a tuple a list.
    """
    if dataclasses.is_dataclass(value):
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, tuple):
        return [to_json(v) for v in value]
    if isinstance(value, dict):
        return {k: to_json(v) for k, v in value.items()}
    return value


def from_json(value: Any, *, trust: bool = False) -> Any:
    """The inverse of `to_json`. Runs nothing that the JSON names.

    Args:
      value: plain JSON values.
      trust: names of code in it may be imported and run when the config is built. Without it they
        are `FromFile`, equal to what they were, and building refuses those that are not of this
        project.

    Raises:
      ValueError: for a type or a field that does not exist, naming the nearest ones, or a value
        that is not of its field's type.
    """
    return _from_json(value, trust, 0)


def _from_json(value: Any, trust: bool, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ValueError(f"the config is nested too deeply: more than {MAX_DEPTH} levels")
    if isinstance(value, list):
        return tuple(_from_json(v, trust, depth + 1) for v in value)
    if not isinstance(value, dict):
        return value
    if "type" not in value:
        return {k: _from_json(v, trust, depth + 1) for k, v in value.items()}
    kind = value["type"]
    known = types_in_json()
    if not isinstance(kind, str) or kind not in known:
        raise ValueError(f"unknown config type {kind!r:.80}{near(str(kind), known)}")
    value = _with_start(value) if kind == "Mlp" else value
    cls, hints, found = known[kind], _hints(known[kind]), {}
    for name, field in value.items():
        if name == "type":
            continue
        if name not in hints:
            raise ValueError(f"{kind} has no field {name!r:.80}{near(name, list(hints))}")
        is_dict = typing.get_origin(hints[name]) is dict and isinstance(field, dict)
        # Arguments are anyone's: one may be called "type".
        found[name] = (
            {k: _from_json(v, trust, depth + 1) for k, v in field.items()}
            if is_dict
            else _from_json(field, trust, depth + 1)
        )
        found[name] = _floating(found[name], hints[name])
        if not _fits(found[name], hints[name]):
            raise ValueError(f"{kind}.{name} cannot be {field!r:.80}")
    names = {k: current_name(found[k]) for k in getattr(cls, "code_fields", ()) if k in found}
    if not trust:
        from learned_opt import catalog

        names = {k: catalog.FromFile(v) for k, v in names.items()}
    return cls(**found | names)


def types_in_json() -> dict[str, type]:
    """The classes that a config may be made of, by name:
    `TrainConfig`, all kinds, and what their fields hold.
    """
    found: dict[str, type] = {}
    waiting = [base.TrainConfig, *base.registered().values()]
    while waiting:
        cls = waiting.pop(0)
        if cls.__name__ not in found:
            found[cls.__name__] = cls
            waiting += [
                part
                for hint in _hints(cls).values()
                for part in (hint, *typing.get_args(hint))
                if _is_own(part)
            ]
    return found


def _is_own(hint: Any) -> bool:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def _with_start(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of an `Mlp`, the start's in one of their own whatever the file calls them."""
    from learned_opt.disk import theta_file

    try:
        fields = theta_file.with_start(fields)
    except ValueError as error:
        raise ValueError(f"Mlp: {error}") from error
    start = fields.get("start")
    is_untyped = isinstance(start, dict) and "type" not in start
    return fields | {"start": {"type": "StartAsAdam", **start}} if is_untyped else fields


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    """Field -> its type, in the order of the fields."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a field's type.

    A whole number is a float too, and a dict holds anything.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, arg) for arg in args)
    if origin is typing.Literal:
        return any(type(value) is type(arg) and value == arg for arg in args)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = args[:1] * len(value) if args[-1] is Ellipsis else args
        return len(value) == len(kinds) and all(map(_fits, value, kinds))
    if origin is dict:
        return isinstance(value, dict)
    if hint is float:
        return (type(value) is float and math.isfinite(value)) or (
            type(value) is int and abs(value) <= MAX_WHOLE_NUMBER
        )
    if hint is int:
        return type(value) is int and abs(value) <= MAX_WHOLE_NUMBER
    return isinstance(value, hint)


def _floating(value: Any, hint: Any) -> Any:
    """A whole number that JAX has no integer for, as the float that its field holds."""
    if isinstance(value, tuple):
        args = typing.get_args(hint)
        kinds = args[:1] * len(value) if Ellipsis in args else args
        return tuple(map(_floating, value, kinds)) if len(kinds) == len(value) else value
    allowed = {hint, *typing.get_args(hint)}
    is_large = type(value) is int and LARGEST_INT32 < abs(value) <= MAX_WHOLE_NUMBER
    return float(value) if is_large and float in allowed and int not in allowed else value


def near(name: str, names) -> str:
    """A hint at the names closest to a mistyped one, or nothing."""
    matches = difflib.get_close_matches(name[:200], list(names), n=3, cutoff=0.5)
    return f"; did you mean {', '.join(matches)}?" if matches else ""
