"""What the asynchronous loop asks of worker processes, wherever they run."""

import collections
import math
from typing import Any, NamedTuple, Protocol

from outer_train.processes._printable import printable
from outer_train.workers.messages import Gradient


class Answer(NamedTuple):
    """What came from a worker: a description, a gradient's bytes, or why nothing comes any more."""

    handle: Any
    description: dict[str, Any] | None = None
    gradient: bytes | None = None
    death: str | None = None


def checked_answer(handle: Any, is_hello: bool, result: Any) -> Answer:
    """What a worker sent, if it has the shape of what it was asked for;
    else the worker counts as dead.
    """
    if not is_hello:
        return (
            Answer(handle, gradient=result)
            if isinstance(result, bytes)
            else Answer(handle, death=_NONSENSE)
        )
    if not isinstance(result, dict) or not isinstance(result.get("versions"), dict):
        return Answer(handle, death=_NONSENSE)
    numbers = {name: result.get(name) for name in ("pid", "family", "size")}
    if not isinstance(result.get("host"), str) or not all(
        _is_count(number) for number in numbers.values()
    ):
        return Answer(handle, death=_NONSENSE)
    versions = collections.defaultdict(lambda: "unknown")  # whatever the learner compares
    versions |= {
        str(name): printable(value) if isinstance(value, str) else None
        for name, value in result["versions"].items()
    }
    return Answer(
        handle, description={**numbers, "host": printable(result["host"]), "versions": versions}
    )


def foreign(
    gradient: Gradient, place: int, life: int, family: int | None, num_parts: int
) -> str | None:
    """Why a gradient is none of the worker that sent it,
    or cannot be merged with the others', or None.
    """
    sent = (gradient.worker, gradient.life, gradient.family)
    if sent != (place, life, family):
        return "it names worker {}, life {} and family {}, and is of {}, {} and {}".format(
            *sent, place, life, family
        )
    if len(gradient.means) != num_parts:
        return f"it has {len(gradient.means)} parts, and {num_parts} are merged"
    seconds = (gradient.seconds_working, gradient.seconds_waiting)
    if not all(math.isfinite(each) and each >= 0 for each in seconds):
        return "its times are no times"
    return None


_NONSENSE = "it sent what no worker sends"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


class Crew(Protocol):
    """Worker processes, wherever they run. Handles may be anything hashable."""

    def start(self, place: int, life: int) -> Any:
        """Starts a process, which describes itself once it is up; returns its handle."""

    def request(self, handle: Any, theta: bytes, version: int) -> None:
        """Asks for a gradient."""

    def wait(self, timeout: float) -> list[Answer]:
        """All answers there are, waiting for the first at most `timeout` seconds."""

    def stop(self, handle: Any) -> None:
        """Ends the process; nothing more is heard of it."""
