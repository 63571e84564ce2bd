"""A folder that holds one resumable piece of work, and says which;
and what all results that are written share.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from learned_opt.disk import files, reading
from learned_opt_lab.drawing.text import plain
from outer_train.run import lock

MAX_BYTES = 1 << 24
"""Of the file that says what a folder holds."""


def prepare_folder(
    out: Path,
    settings_name: str,
    wanted: dict[str, Any],
    what: str,
    advice: str,
    beside: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Makes the folder, or checks that it holds this very piece of work.

    Args:
      out: the folder.
      settings_name: file in it that says what it holds.
      wanted: content of that file; the folder's may hold more.
      what: of an "evaluation", in messages, as is `advice`: "choose another folder".
      advice: how a message ends.
      beside: what else a new file holds, and is not compared.

    Returns:
      The content of the file.

    Raises:
      ValueError: where it holds another one, or other files, or the file cannot be understood.
      OSError: where it cannot be written.
    """
    path = out / settings_name
    if path.exists():
        found = _read(path, what, advice)
        if different := [key for key in wanted if found.get(key) != wanted[key]]:
            name, got, needed = _difference(found, wanted, different[0])
            raise ValueError(f"{out} holds another {what}: {name} is {got}, not {needed}; {advice}")
        return found
    # What a process that was killed leaves is no file of anybody's.
    left = (files.pending_path(path), out / lock.NAME)
    if out.exists() and (not out.is_dir() or any(each not in left for each in out.iterdir())):
        raise ValueError(f"{out} exists and is no {what}; {advice}")
    out.mkdir(parents=True, exist_ok=True)
    content = wanted | (beside or {})
    files.write_json(path, content)
    return content


def _read(path: Path, what: str, advice: str) -> dict[str, Any]:
    try:
        found = reading.read_json(path, MAX_BYTES)
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged, so what {what} the folder holds is unknown: {error}; {advice}"
        ) from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} says nothing of an {what}; {advice}")
    return found


def _difference(found: dict, wanted: dict, key: str) -> tuple[str, str, str]:
    """Where two settings differ, as deep as both are tables of the same names."""
    name = key
    got, needed = found.get(key), wanted[key]
    while isinstance(got, dict) and isinstance(needed, dict) and got.keys() == needed.keys():
        key = next(each for each in needed if got[each] != needed[each])
        name, got, needed = f"{name}.{key}", got[key], needed[key]
    return name, _short(got), _short(needed)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def finite(value: Any) -> Any:
    """The same tree with plain Python numbers, and null for what is not finite: JSON has no nan."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, np.ndarray):
        return finite(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def write_result(path: Path, result: Any) -> None:
    """Writes a result as JSON, whole or not at all, null for what is unknown; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, finite(result))


def show(value: float | None, digits: int = 4) -> str:
    """A number for tables and lines, `unknown` where there is none."""
    return "unknown" if value is None or not math.isfinite(value) else f"{value:.{digits}g}"


def warn(line: str) -> None:
    """Shows one line of warning beside the results; what it names may be anyone's."""
    print(f"warning: {plain(line)}", file=sys.stderr, flush=True)
