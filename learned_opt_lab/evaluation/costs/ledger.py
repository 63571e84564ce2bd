"""What was measured of the cells of an evaluation before they were made, kept in its folder.

A cell takes its timing from here, so that it is measured once; an evaluation that goes on measures
no cell again.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from learned_opt.disk import files

NAME = "costs.json"


class Ledger:
    """Name -> what was measured, in seconds.

    A file that cannot be read or written costs a further measurement, nothing else.

    Args:
      path: of the file.
    """

    def __init__(self, path: Path):
        self._path = path
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = {}
        self._found: dict[str, Any] = found if isinstance(found, dict) else {}

    def _kept(self, name: str, length: int) -> list[float] | None:
        """As many positive numbers as are asked for, or None."""
        found = self._found.get(name)
        found = found.get("seconds") if isinstance(found, dict) else None
        if not isinstance(found, list) or len(found) != length:
            return None
        good = all(isinstance(number, int | float) and number > 0 for number in found)
        return found if good else None

    def measured(self, name: str, length: int, measure: Callable[[], Any]) -> list[float]:
        """What is kept, or else what is measured now, and kept."""
        found = self._kept(name, length)
        if found is None:
            found = [float(number) for number in measure()]
            self._found[name] = {"seconds": found}
            self._write()
        return found

    def _write(self) -> None:
        try:
            files.write_json(self._path, self._found)
        except OSError:
            return
