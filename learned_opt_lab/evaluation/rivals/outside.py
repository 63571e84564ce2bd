"""Optimizers from outside: any Optax factory `"module:name"`, other people's learned ones too.

The name is typed on the command line, so its module is imported and run. The factory is called with
its hyperparameters by name, which are traced: one program serves all configurations. If it takes
`num_steps`, it is told the length of the run. What its file does not give of `learning_rate` and
`weight_decay`, and the factory does not take, is put around it, as around a learned optimizer.

A file beside a rival of the table is laid over its published default: what it does not name stays.
"""

import functools
import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optax

from learned_opt import catalog
from learned_opt.disk import hub
from learned_opt_lab.evaluation.rivals.rival import (
    COMPLEMENT,
    NO_SCHEDULE,
    RATE_AND_DECAY,
    WITH_SCHEDULE,
    Rival,
    with_rate_and_decay,
)
from learned_opt_lab.evaluation.rivals.schedules import SCHEDULES
from learned_opt_lab.evaluation.rivals.search_file import (
    SearchFile,
    read_search_file,
    search_space,
)
from learned_opt_lab.evaluation.rivals.search_space import LogUniform, SearchSpace
from learned_opt_lab.evaluation.rivals.table import RIVALS
from learned_opt_lab.evaluation.rivals.trial import check_trains
from learned_opt_lab.runs.user_path import add_to_path

_NOTHING = "{} has nothing in [default] or [search]"
EXTRA_ARGS = ("value", "grad", "value_fn", "obj_fn")
"""What the `update` of one from outside is given, if it takes extra arguments."""
_AROUND = ("learning_rate", "weight_decay")


def named_rival(spec: str) -> Rival | None:
    """What `NAME`, `NAME@SCHEDULE`, `NAME@FILE` mean, NAME of the table or a `"module:name"`.

    Returns:
      None where NAME is neither: the spec is something else.

    Raises:
      ValueError: for a schedule, file or factory that is none.
    """
    name, at, variant = spec.partition("@")
    is_known = name in RIVALS
    is_address = spec.startswith(hub.SCHEME)
    if not is_known and (not catalog.is_own(name) or is_address or Path(spec).exists()):
        return None
    if at and not variant:
        raise ValueError(f"{spec!r} names no schedule and no file after the @")
    if variant in SCHEDULES and (is_known or not Path(variant).exists()):
        rival = RIVALS[name] if is_known else outside_rival(name)
        if "schedule" not in rival.space.axes:
            raise ValueError(f"{name} has no schedule to choose, so {spec!r} means nothing")
        return rival.with_schedule(variant)
    path = Path(variant) if at else None
    if path is not None and not path.is_file():
        hint = catalog.near_names(variant, list(SCHEDULES))
        raise ValueError(f"{variant!r} of {spec!r} is neither a file nor a schedule; {hint}")
    if is_known:
        rival = RIVALS[name] if path is None else _over_table(name, path)
        check_trains(spec, rival)
        return rival
    return outside_rival(name, path)


def outside_rival(target: str, path: Path | None = None) -> Rival:
    """The rival that a factory makes.

    Args:
      target: `"module:name"`; the module is looked for in the working directory too.
      path: its search file; without one its rate is searched two decades around its own default,
        or, where it takes none, what is searched of a learned optimizer.

    Raises:
      ValueError: for a factory that is none, that does not take what the file names, or that does
        not give an Optax transformation which trains.
    """
    add_to_path(Path.cwd())
    try:
        factory = catalog.resolve(target)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"unknown optimizer: {reason}") from error
    if not callable(factory):
        raise ValueError(f"{target} is no factory of an optimizer: got {_kind(factory)}")
    try:
        catalog.check_gives(factory, optax.GradientTransformation)
    except TypeError as error:
        raise ValueError(f"{target} is no factory of an optimizer: {error}") from error
    parameters = _parameters(target, factory)
    rival = Rival(
        _checked(factory),
        SearchSpace({}, {}),
        target if path is None else str(path),
        f"{target}, of the user's own",
        extra_args=EXTRA_ARGS,
        takes_num_steps="num_steps" in parameters,
    )
    if path is not None:
        rival = _from_file(rival, read_search_file(path), path)
    elif "learning_rate" not in parameters:
        rival = _surrounded(rival._replace(space=RATE_AND_DECAY), set(_AROUND))
    else:
        rival = rival._replace(space=_around_its_rate(target, parameters))
    check_trains(target, rival)
    return rival


def _over_table(name: str, path: Path) -> Rival:
    """A rival of the table, with a file laid over its published default."""
    rival, file = RIVALS[name], read_search_file(path)
    if not (file.default or file.axes):
        raise ValueError(_NOTHING.format(path))
    published = rival.space.default
    named = {_plain(each) for each in (*file.given, *file.default)}
    kept = {each: value for each, value in published.items() if _plain(each) not in named}
    for each in file.axes:
        if _plain(each) in named:
            continue
        # The table may search one minus what the file searches, or the other way round.
        for of_table in [other for other in kept if _plain(other) == _plain(each)]:
            value = kept.pop(of_table)
            kept[each] = value if of_table == each else 1.0 - value
    laid = _from_file(rival, file._replace(default={**kept, **file.default}), path)
    return laid._replace(source=f"{path}, over: {rival.source}")


def _plain(name: str) -> str:
    """Of a hyperparameter, however it is searched."""
    return name.removeprefix(COMPLEMENT)


def _from_file(rival: Rival, file: SearchFile, path: Path) -> Rival:
    """The rival with the space of a file."""
    parameters = _parameters(str(path), rival.factory)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    around = {} if takes_any else {n: RATE_AND_DECAY.default[n] for n in _AROUND}
    own = {*parameters, *around}
    for name in [*file.given, *file.default, *file.axes]:
        plain = _plain(name)
        if plain not in own and name not in NO_SCHEDULE and not takes_any:
            hint = catalog.near_names(plain, sorted(own))
            raise ValueError(f"{path}: the factory takes no {plain!r}; {hint}")
    around = {name: value for name, value in around.items() if name not in parameters}
    defaults = around | dict(_numbers(parameters))
    space = search_space(_with_rate(file, defaults, path), defaults, path)
    if not space.axes:
        raise ValueError(_NOTHING.format(path))
    given = rival._replace(
        factory=_bound(rival.factory, file.given), space=space, fingerprint=_digest(file.given)
    )
    return _surrounded(given, set(around) & set(space.axes))


def _with_rate(file: SearchFile, defaults: dict[str, float], path: Path) -> SearchFile:
    """A schedule needs a rate: one that is neither given nor searched is the factory's own, or a
    factor of one.
    """
    scheduled = any(name in file.axes or name in file.default for name in NO_SCHEDULE)
    if not scheduled or "learning_rate" in {**file.axes, **file.default}:
        return file
    if "learning_rate" not in defaults or "learning_rate" in file.given:
        raise ValueError(f"{path}: a schedule needs a learning_rate in [default] or [search]")
    return file._replace(default={"learning_rate": defaults["learning_rate"], **file.default})


def _bound(factory: Callable, given: dict[str, Any]) -> Callable:
    return (lambda **hyperparameters: factory(**given, **hyperparameters)) if given else factory


def _digest(given: dict[str, Any]) -> str:
    """Of the files that arguments name: other weights under the same name are another optimizer."""
    paths = [Path(value) for value in given.values() if isinstance(value, str)]
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.is_file()]
    return " ".join(digest[:16] for digest in digests)


def _surrounded(rival: Rival, around: set[str]) -> Rival:
    """The rival with what its factory does not take put around its optimizer."""
    if not around:
        return rival
    inner = rival.factory

    def factory(**hyperparameters):
        outer = {name: hyperparameters.pop(name) for name in around}
        return with_rate_and_decay(inner(**hyperparameters), **outer)

    return rival._replace(factory=factory)


def _around_its_rate(target: str, parameters: dict[str, inspect.Parameter]) -> SearchSpace:
    rate = dict(_numbers(parameters)).get("learning_rate", 0.0)
    if rate <= 0:
        raise ValueError(
            f"{target} has no default learning_rate: give one, and what is searched, in a file: "
            f"{target}@FILE.toml"
        )
    return SearchSpace(
        {"learning_rate": rate, **NO_SCHEDULE},
        {"learning_rate": LogUniform(rate / 100, rate * 100), **WITH_SCHEDULE},
    )


def _parameters(target: str, factory: Callable) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(factory).parameters)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{target} is no factory of an optimizer: {error}") from error


def _numbers(parameters: dict[str, inspect.Parameter]):
    """Names and defaults of the parameters whose default is a number."""
    for name, parameter in parameters.items():
        default = parameter.default
        if isinstance(default, int | float) and not isinstance(default, bool):
            yield name, float(default)


def _checked(factory: Callable) -> Callable[..., optax.GradientTransformation]:
    """The factory, with a `TypeError` in place of what is no Optax transformation."""

    @functools.wraps(factory)
    def checked(**hyperparameters):
        optimizer = factory(**hyperparameters)
        if not all(callable(getattr(optimizer, name, None)) for name in ("init", "update")):
            raise TypeError(
                f"it must return an optax.GradientTransformation, got {_kind(optimizer)}"
            )
        return optimizer

    return checked


def _kind(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else type(value).__name__
