"""Where two JSON values differ."""

from typing import Any

from outer_train.processes._printable import printable


def difference(mine: Any, theirs: Any, path: str = "") -> str | None:
    """The first place at which two JSON values differ,
    as `path: mine here, theirs there`, or None.
    """
    if isinstance(mine, dict) and isinstance(theirs, dict):
        for name in [*mine, *(name for name in theirs if name not in mine)]:
            below = f"{path}.{name}" if path else str(name)
            if found := difference(mine.get(name), theirs.get(name), below):
                return found
        return None
    if mine == theirs or (mine != mine and theirs != theirs):  # nan is nan
        return None
    return f"{printable(path, 120) or 'it'} is {_shown(mine)} in process 0 and {_shown(theirs)}"


def _shown(value: Any) -> str:
    return f"'{printable(value)}'" if isinstance(value, str) else printable(value)
