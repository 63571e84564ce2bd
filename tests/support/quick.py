"""Tables of which some rows are quick tests and the others slow."""

from collections.abc import Collection, Iterable

import pytest


def by_name(names: Iterable[str], quick: Collection[str]) -> pytest.MarkDecorator:
    """Parametrizes a test by `name`; those not in `quick` are slow,
    since each compiles programs of its own.
    """
    return pytest.mark.parametrize(
        "name",
        [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names],
    )
