"""Sizes of an experiment that its scale decides unless they are given."""

import dataclasses
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


def at_scale(config: T, sizes: Mapping[str, T]) -> T:
    """The config with every field that is None taken from `sizes[config.scale]`."""
    own = sizes[config.scale]
    missing = [f.name for f in dataclasses.fields(config) if getattr(config, f.name) is None]
    return dataclasses.replace(config, **{name: getattr(own, name) for name in missing})
