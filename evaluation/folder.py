"""A folder that holds one resumable piece of work, and says which."""

import json
from pathlib import Path
from typing import Any

from outer_train.run_dir import write_json


def prepare_folder(out: Path, settings_name: str, wanted: dict[str, Any], what: str, advice: str) -> None:
    """Makes the folder, or checks that it holds this very piece of work.

    Args:
      out: the folder.
      settings_name: file in it that says what it holds.
      wanted: content of that file; the folder's may hold more.
      what: of an "evaluation", in messages, as is `advice`: "choose another folder".
      advice: how a message ends.

    Raises:
      ValueError: where it holds another one, or other files.
    """
    path = out / settings_name
    if path.exists():
        found = json.loads(path.read_text())
        if different := [key for key in wanted if found.get(key) != wanted[key]]:
            name = different[0]
            raise ValueError(
                f"{out} holds another {what}: {name} is {_short(found.get(name))}, not {_short(wanted[name])}; {advice}"
            )
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists and is no {what}; {advice}")
    out.mkdir(parents=True, exist_ok=True)
    write_json(path, wanted)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
