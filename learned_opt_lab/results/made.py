"""How a result was made, in `made.json` beside it: command, machine, code and minutes."""

import contextlib
import datetime
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from learned_opt import __version__
from learned_opt.disk import files, reading

NAME = "made.json"
_ROOT = Path(__file__).parents[2]


class Work:
    """A piece of work whose time is taken.

    Attributes:
      finished: whether it is done where its block ends; a block that only comes part of the way
        sets it to False.
      anew: whether something was made; a block that found all of it there sets it to False, and
        what was written when it was made stays.
    """

    def __init__(self, path: Path, about: dict[str, Any], earlier: float):
        self.finished = self.anew = True
        self._path, self._about = path, about
        self._earlier, self._start = earlier, time.monotonic()

    def note(self, finished: bool = False) -> None:
        """Writes how far it is, so that its time counts even if the process is killed."""
        minutes = self._earlier + (time.monotonic() - self._start) / 60
        about = {"finished": finished, "minutes": round(minutes, 2), "ended": _now()}
        files.write_json(self._path, self._about | about | {"machine": machine()})


@contextlib.contextmanager
def timed(
    out: Path, experiment: str, scale: Any, settings: dict[str, Any], *, adds_up: bool = False
) -> Iterator[Work]:
    """Writes `made.json` to a folder with the time that its block took.

    Time of a block that was interrupted counts too where the same work goes on in the folder: what
    is written says `finished` false until a block ends.

    Args:
      out: the folder.
      experiment: what makes the result.
      scale: of it.
      settings: field -> value, of those that are not at their default.
      adds_up: whether time of the same work counts after its end too, since what it made is kept.
    """
    made = {"experiment": experiment, "scale": scale, "settings": settings}
    made = json.loads(json.dumps(made, default=str))  # as it will be read again
    made |= {"version": __version__, "commit": commit()}  # a checkout may change meanwhile
    work = Work(out / NAME, made, _earlier_minutes(out / NAME, made, adds_up))
    try:
        yield work
    except ValueError:  # bad input leaves nothing behind
        raise
    except BaseException:
        # On a full disk the time is lost, and what ended the work is what is told.
        with contextlib.suppress(OSError):
            work.note()
        raise
    if work.anew or not _found(out / NAME, made).get("finished"):
        work.note(work.finished)


def _earlier_minutes(path: Path, made: dict[str, Any], adds_up: bool) -> float:
    """Of the same work, as far as it came in the folder; 0 where nothing is known of it."""
    found = _found(path, made)
    if not found or (found["finished"] and not adds_up):
        return 0.0
    return float(found["minutes"])


def _found(path: Path, made: dict[str, Any]) -> dict[str, Any]:
    """What is written of the same work; empty where nothing is."""
    try:
        found = reading.read_json(path)
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict) or "finished" not in found:
        return {}
    if not isinstance(found.get("minutes"), int | float):
        return {}
    same = all(found.get(key) == made[key] for key in ("experiment", "scale", "settings"))
    return found if same else {}


def made_by() -> dict[str, Any]:
    """What makes results here: version, commit and machine."""
    return {"version": __version__, "commit": commit(), "machine": machine()}


def here_and_now() -> dict[str, Any]:
    """The same of a measurement that has just ended, and when."""
    return made_by() | {"ended": _now()}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def machine() -> str:
    """The accelerator and how many, or the processor and how many cores this process may use."""
    import jax

    devices = jax.devices()
    if devices[0].platform != "cpu":
        return f"{len(devices)} x {devices[0].device_kind}"
    return f"{_processor()}, {len(os.sched_getaffinity(0))} cores"


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def commit() -> str | None:
    """Of the checkout that this code lies in, with `-dirty` where files differ from it;
    None where it is installed.
    """
    if not (_ROOT / ".git").exists():
        return None
    command = ["git", "-C", str(_ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", check=True, timeout=60
        )
        return done.stdout.strip()
    return None
