"""From a kind of a config to the function that builds it:
the one place where `builds` becomes code.
"""

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

from configs import base
from learned_opt_lab.runs.user_path import OWN


def builder_of(kind: type[base.Kind]) -> Callable[..., Any]:
    """The function that a kind's `builds` is, or names.

    Raises:
      ValueError: it names code of another project; a kind of your own gives the function itself.
    """
    if not isinstance(kind.builds, str):
        return kind.builds
    module, _, name = kind.builds.partition(":")
    if module.partition(".")[0] not in OWN:
        raise ValueError(
            f"{kind.__name__}.builds names {kind.builds!r}; a kind of your own gives the function "
            "itself"
        )
    return getattr(importlib.import_module(module), name)


def fields_of(config: Any) -> dict[str, Any]:
    """The fields of a dataclass, by name."""
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
