"""Names whose own tables need JAX, with a line on each, as `names.json` keeps them.

A test compares that file with the tables; `python -m tests.support.lab.names` writes it.
"""

import functools
import json
from pathlib import Path

PATH = Path(__file__).with_name("names.json")


@functools.cache
def read() -> dict[str, dict[str, str]]:
    """Section of `learned-opt list` -> name -> one line on it."""
    return json.loads(PATH.read_text(encoding="utf-8"))
