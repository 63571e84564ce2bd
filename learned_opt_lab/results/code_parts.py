"""What a callable consists of, as bytes that are the same in every process.

Its bytecode, what it closes over, the arguments bound to it, the values of the globals it names,
also as `module.name`, and of the attributes of classes; and so on for each of these, as far as
they are the user's.
"""

import dataclasses
import functools
import types
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from learned_opt_lab.results.digest import array_parts, hexdigest
from learned_opt_lab.results.origin import Found, installed_package, is_users

_PLAIN = bool | int | float | complex | str | bytes | np.dtype | range | None
_DICTS = dict | types.MappingProxyType


def code_parts(value: Any, seen: dict[int, Any], found: Found) -> Iterator[bytes]:
    """A value's bytes, those of what it holds and closes over among them.

    Args:
      value: anything.
      seen: id -> value, of what need not be looked at again. It is held, since some of it is made
        on the way, and another object would get its id.
      found: is told the modules on the way.
    """
    waiting = [iter((value,))]
    while waiting:
        for each in waiting[-1]:
            yield type(each).__qualname__.encode()
            if isinstance(each, _PLAIN):
                yield repr(each).encode()
            elif _is_array(each):
                yield from array_parts(each)
            elif id(each) in seen:
                yield b"again"
            else:
                seen[id(each)] = each
                waiting.append(_children(each, found))
                break
        else:
            waiting.pop()


def _is_array(value: Any) -> bool:
    # Of objects it is a list: their texts may hold an address.
    is_numbers = isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject
    return is_numbers or isinstance(value, jax.Array)


def _children(value: Any, found: Found) -> Iterator[Any]:
    """What a value that is no number, text or array consists of."""
    if isinstance(value, functools.partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, types.MethodType):
        yield from (value.__func__, value.__self__)
    elif isinstance(value, types.FunctionType):
        yield from _of_function(value, found)
    elif isinstance(value, types.CodeType):
        yield from (
            value.co_code,
            value.co_names,
            value.co_varnames[: value.co_argcount],
            list(value.co_consts),
        )
    elif isinstance(value, types.ModuleType):
        found.note(value.__name__)
        yield value.__name__
    elif isinstance(value, type):
        yield from _of_class(value, found)
    elif isinstance(value, property):
        yield from (value.fget, value.fset, value.fdel)
    elif isinstance(value, np.ndarray):
        yield from (str(value.dtype), value.shape, value.tolist())
    elif isinstance(value, _DICTS | list | tuple | set | frozenset):
        yield from _of_container(value)
    elif dataclasses.is_dataclass(value):
        yield type(value)
        yield from (getattr(value, field.name, None) for field in dataclasses.fields(value))
    else:
        yield from _of_object(value)


def _of_function(function: types.FunctionType, found: Found) -> Iterator[Any]:
    """A decorator gives its own function the module's name of the decorated one."""
    own = function.__globals__.get("__name__", function.__module__)
    found.note(function.__module__)
    found.note(own)
    yield from (function.__code__, function.__defaults__, function.__kwdefaults__)
    yield from (cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell))
    if is_users(own):
        # A constant of its module may be set from outside, or read from a file.
        names = sorted(_names(function.__code__))
        yield from _named(function.__globals__, names, set())
    yield getattr(function, "__wrapped__", None)


def _named(space: dict[str, Any], names: list[str], modules: set[str]) -> Iterator[Any]:
    """Names and values of what code that has these names may use of a module,
    and of the modules in it, as in `module.name`, but for those of libraries.
    """
    for name in names:
        if name not in space:
            continue
        value = space[name]
        yield from (name, value)
        if isinstance(value, types.ModuleType) and value.__name__ not in modules:
            modules.add(value.__name__)
            if is_users(value.__name__) or installed_package(value.__name__):
                yield from _named(vars(value), names, modules)


def _names(compiled: types.CodeType) -> set[str]:
    inner = (const for const in compiled.co_consts if isinstance(const, types.CodeType))
    return set(compiled.co_names).union(*map(_names, inner))


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018  Empty while the function it belongs to is being defined.
    except ValueError:
        return False
    return True


def _of_class(kind: type, found: Found) -> Iterator[Any]:
    """Its name, and of a user's its bases, methods and attributes, but what Python adds."""
    found.note(kind.__module__)
    yield f"{kind.__module__}.{kind.__qualname__}"
    if not is_users(kind.__module__):
        return
    yield kind.__bases__
    for name, value in sorted(vars(kind).items()):
        is_special = name.startswith("__") and name.endswith("__")
        if not is_special or isinstance(value, types.FunctionType | classmethod | staticmethod):
            yield from (name, value)


def _of_container(value: Any) -> Iterator[Any]:
    if is_users(type(value).__module__):
        yield type(value)
    if isinstance(value, _DICTS):
        for key in sorted(value, key=_order):
            yield from (key, value[key])
    else:
        yield from sorted(value, key=_order) if isinstance(value, set | frozenset) else value


def _order(value: Any) -> str:
    """By which what has no order is sorted: not by a text that may hold an address."""
    return repr(value) if isinstance(value, _PLAIN) else hexdigest(code_parts(value, {}, Found()))


def _of_object(value: Any) -> Iterator[Any]:
    yield type(value)
    # What `jax.jit` and its like hold.
    if callable(wrapped := getattr(value, "__wrapped__", None)):
        yield wrapped
    elif isinstance(attributes := getattr(value, "__dict__", None), dict):
        yield attributes
    if is_users(type(value).__module__):
        for kind in type(value).__mro__:
            for name in sorted(n for n, x in vars(kind).items() if _is_slot(x)):
                yield from (name, getattr(value, name, None))


def _is_slot(attribute: Any) -> bool:
    return isinstance(attribute, types.MemberDescriptorType)
