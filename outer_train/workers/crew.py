"""What the asynchronous loop asks of worker processes, wherever they run."""

from typing import Any, NamedTuple, Protocol


class Answer(NamedTuple):
    """What came from a worker: a description, a gradient's bytes, or why nothing comes any more."""

    handle: Any
    description: dict[str, Any] | None = None
    gradient: bytes | None = None
    death: str | None = None


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
