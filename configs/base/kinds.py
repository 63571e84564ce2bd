"""One table of kinds: what a field of a config may be,
by which word it is chosen, and what it builds.

A kind is a class of a role (`Estimator`, `Truncation`, `Family`, `Optimizer`, `Search`). Command
line, JSON, `learned-opt list`, `variance` and `ablate` ask this table, so that a class that is
registered is known to all of them.
"""

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar


class Kind:
    """What a field of a config may be:
    a frozen dataclass, registered, of a subclass of this that is a role.

    Attributes:
      builds: what the role says, as `"module:name"` of this project, or a function of yours.
      word: that it is chosen by, as in `estimator:WORD`; unless given, the name behind `builds`
        with dashes.
      code_fields: fields whose value may be a `"module:name"`. What a file has there runs no code
        unless it is trusted.
    """

    builds: ClassVar[str | Callable[..., Any]]
    word: ClassVar[str]
    code_fields: ClassVar[tuple[str, ...]] = ()


K = TypeVar("K", bound=Kind)
_KINDS: dict[str, type[Kind]] = {}


def register(kind: type[K]) -> type[K]:
    """Enters a class into the table, as a decorator above `dataclass`
    or from anywhere else before it is used.

    Args:
      kind: a frozen dataclass; its name is its `type` in JSON. It takes the place of one of its own
        name and module.

    Raises:
      ValueError: it is no frozen dataclass or says not what it builds, or its name or word is
        taken.
    """
    params = vars(kind).get("__dataclass_params__")
    builds = getattr(kind, "builds", None)
    if params is None or not params.frozen or builds is None:
        raise ValueError(f"a kind is a frozen dataclass with `builds`, got {kind.__name__}")
    if "word" not in vars(kind):
        name = builds.partition(":")[2] if isinstance(builds, str) else builds.__name__
        kind.word = name.replace("_", "-")
    for other in _KINDS.values():
        same_class = (other.__name__, other.__module__) == (kind.__name__, kind.__module__)
        same_word = _role(other) is _role(kind) and other.word == kind.word
        if not same_class and (same_word or other.__name__ == kind.__name__):
            raise ValueError(
                f"{kind.__name__} ({kind.word}): the name or the word is {other.__name__}'s already"
            )
    _KINDS[kind.__name__] = kind
    return kind


def _role(kind: type[Kind]) -> type[Kind]:
    return next(each for each in kind.__mro__ if Kind in each.__bases__)


def kinds_of(role: type[K]) -> dict[str, type[K]]:
    """The registered kinds of a role, in their order: name in Python (`name_of`) -> class."""
    return {name_of(kind): kind for kind in _KINDS.values() if issubclass(kind, role)}


def registered() -> dict[str, type[Kind]]:
    """All kinds: name of the class, which is the `type` in JSON -> class."""
    return dict(_KINDS)


def name_of(kind: type[Kind]) -> str:
    """A kind's word as a name in Python: `noise_reuse_es`."""
    return kind.word.replace("-", "_")
