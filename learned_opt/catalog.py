"""Names of learned optimizers, and the one way in which a name becomes code.

A name without a colon is of a table here. `"module:name"` is a user's own: the module is imported,
which runs it, and the function called. That is for names that the user gives himself. One that a
file gave is `FromFile`, and is refused wherever it would become code, unless the caller says that
the file is trusted.
"""

import difflib
import functools
import importlib
import inspect
import re
import sys
import typing
from collections.abc import Callable, Mapping
from typing import Any

from learned_opt.base import LearnedOptimizer
from learned_opt.hand_designed import hyperparameters
from learned_opt.hints import near_names
from learned_opt.orthogonal._orthogonal_mlp import orthogonal_mlp
from learned_opt.per_parameter._adafactor_mlp import adafactor_mlp
from learned_opt.per_parameter._mlp import mlp

Factory = Callable[..., LearnedOptimizer]

OPTIMIZERS: dict[str, Factory] = {
    "mlp": mlp,
    "adafactor_mlp": adafactor_mlp,
    "orthogonal_mlp": orthogonal_mlp,
    "sgd": hyperparameters.sgd,
    "momentum": hyperparameters.momentum,
    "adam": hyperparameters.adam,
    "adam8": hyperparameters.adam8,
    "rmsprop8": hyperparameters.rmsprop8,
    "momentum6": hyperparameters.momentum6,
}
_OWN_NAME = re.compile(r"[^:.\s][^:\s]*:[^\W\d]\w*")


class FromFile(str):
    """A name that a file gave.

    It equals the same name typed by the user, and never becomes code.
    """


class NotTrusted(ValueError):
    """A file names code, and nobody said that the file is trusted."""


MAX_ARGUMENTS = 256
"""Numbers and names among the arguments of an optimizer of this library,
for those that a file gives."""
MAX_NUMBER = 2**31 - 1
"""Size of a number among them."""


def is_own(name: str) -> bool:
    """Whether a name is a user's own `"module:name"`, not one of a table."""
    return ":" in name


def resolve(target: str) -> Any:
    """The attribute that `"module:name"` means; imports the module.

    Raises:
      NotTrusted: the name is from a file.
      ValueError: there is no such module or attribute, with near names, or the import fails.
    """
    if isinstance(target, FromFile):
        raise NotTrusted(
            f"{target[:100]!r} is not of this library: the module "
            f"{target.partition(':')[0][:80]!r} would be imported "
            "and run; if you trust who wrote it, say so with --trust (trust=True in Python)"
        )
    if not _OWN_NAME.fullmatch(target):
        raise ValueError(f'{target[:200]!r} cannot be found: it is no "module:name"')
    module_name, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except AttributeError as error:
        known = [name for name in vars(sys.modules.get(module_name, object)) if name[0] != "_"]
        near = difflib.get_close_matches(attribute, known, n=3)
        hint = f"; {near_names(attribute, known)}" if near else ""
        raise ValueError(f"{target!r} cannot be found: {error}{hint}") from error
    except Exception as error:  # whatever the module's code raises
        raise ValueError(f"{target!r} cannot be found: {type(error).__name__}: {error}") from error


def check_call(factory: Any, kwargs: Mapping[str, Any]) -> None:
    """Raises `TypeError` for what cannot be called with these arguments; nothing is called."""
    if not callable(factory):
        raise TypeError(f"a {type(factory).__name__} cannot be called")
    try:
        signature = inspect.signature(factory)
    except ValueError:  # some of those written in C have none
        return
    signature.bind(**kwargs)


def check_gives(factory: Any, kind: type) -> None:
    """Raises `TypeError` for a function that is not made to return a `kind`; nothing is called.

    Refused are functions of Python itself and of its standard library, classes other than `kind`,
    and functions whose return annotation is another class. A function without one is judged by what
    it returns.
    """
    inner = factory
    while isinstance(inner, functools.partial) or hasattr(inner, "__wrapped__"):
        inner = inner.func if isinstance(inner, functools.partial) else inner.__wrapped__
    if inspect.isclass(inner):
        if not issubclass(inner, kind):
            raise TypeError(f"got {inner.__name__}, a class of another kind")
        return
    module = getattr(inner, "__module__", None) or type(inner).__module__
    if inspect.isbuiltin(inner) or module.partition(".")[0] in sys.stdlib_module_names:
        raise TypeError(
            f"got {getattr(inner, '__qualname__', type(inner).__name__)} of Python's own module "
            f"{module}"
        )
    try:
        gives = typing.get_type_hints(inner).get("return", kind)
    except Exception:  # annotations may be anything
        return
    if inspect.isclass(gives) and not issubclass(gives, kind) and not issubclass(kind, gives):
        raise TypeError(f"it is annotated to return {gives.__name__}")


def optimizer_factory(name: str) -> Factory:
    """The factory of a name in `OPTIMIZERS`, or of the user's own `"module:name"`.

    Raises:
      ValueError: if there is no such optimizer, or the name is `FromFile` and not in the table.
    """
    if not is_own(name):
        if name not in OPTIMIZERS:
            raise ValueError(
                f"unknown optimizer {name[:200]!r}; {near_names(name, list(OPTIMIZERS))}"
            )
        return OPTIMIZERS[name]
    try:
        return resolve(name)
    except NotTrusted as error:
        raise NotTrusted(f"optimizer {error}") from None
    except ValueError as error:
        raise ValueError(f"unknown optimizer {name[:200]!r}: {error}") from error


def make_optimizer(
    name: str, kwargs: Mapping[str, Any], factory: Factory | None = None
) -> LearnedOptimizer:
    """Builds an optimizer by name.

    Args:
      name: as in `optimizer_factory`.
      kwargs: of the factory; checked against its signature before it is called.
      factory: takes the place of what a `"module:name"` means, which is then not imported.

    Raises:
      ValueError: if there is no such optimizer, it does not take these arguments, or what the name
        means raises, or does not return a `LearnedOptimizer`.
    """
    known = optimizer_factory(name) if factory is None or not is_own(name) else None
    factory = factory or known
    try:
        check_call(factory, kwargs)
    except TypeError as error:
        raise ValueError(
            f"optimizer {name[:200]!r} does not take these arguments: {error}"
        ) from error
    try:
        check_gives(factory, LearnedOptimizer)
    except TypeError as error:
        raise ValueError(f"{name} must return a LearnedOptimizer: {error}") from error
    try:
        optimizer = factory(**kwargs)
    except TypeError as error:
        raise ValueError(
            f"optimizer {name[:200]!r} does not take these arguments: {error}"
        ) from error
    except (Exception, SystemExit) as error:  # whatever a user's code raises
        if not is_own(name):
            raise
        first = next(iter(str(error).splitlines()), "")
        raise ValueError(
            f"optimizer {name[:200]!r} cannot be made: {type(error).__name__}: {first}"
        ) from error
    if not isinstance(optimizer, LearnedOptimizer):
        raise ValueError(f"{name} must return a LearnedOptimizer, got {type(optimizer).__name__}")
    return optimizer


def check_arguments(what: str, kwargs: dict[str, Any]) -> None:
    """Raises `ValueError` for more than an optimizer is made of:
    a thousand layers take minutes to be told apart.
    """
    waiting, count = [kwargs], 0
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict | list):
            waiting += value.values() if isinstance(value, dict) else value
        count += 1
        if count > MAX_ARGUMENTS:
            raise ValueError(f"{what}: more than {MAX_ARGUMENTS} arguments")
        if isinstance(value, int | float) and not abs(value) <= MAX_NUMBER:
            raise ValueError(f"{what}: the argument {value!r} is out of range")
