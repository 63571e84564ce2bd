"""How long what was planned still takes: planned seconds, re-scaled by those of what is done."""

import time
from collections.abc import Callable, Sequence


def scale(done: float, spent: float, present: float = 0.0, since: float = 0.0) -> float:
    """Real seconds of a planned one.

    Args:
      done: planned seconds of what is done.
      spent: real seconds of it.
      present: planned seconds of what is being done.
      since: real seconds since that began.
    """
    found = spent / done if done > 0 else 1.0
    # What takes longer than it should tells before it ends.
    return max(found, (spent + since) / (done + present)) if present > 0 else found


class Countdown:
    """Seconds left of cells that are done one after another.

    Args:
      seconds: planned, of each cell; 0 for one that is there, whose real seconds do not count.
      clock: gives seconds.
      max_seconds: when all ends, from now.
    """

    def __init__(
        self,
        seconds: Sequence[float],
        clock: Callable[[], float] = time.monotonic,
        max_seconds: float | None = None,
    ):
        self._seconds, self._clock = seconds, clock
        self._begun = clock()
        self._end = None if max_seconds is None else self._begun + max_seconds
        self._done, self._spent = 0, 0.0

    def begins(self, number: int) -> None:
        """All cells before this one are done; it begins now."""
        now = self._clock()
        if any(self._seconds[self._done : number]):
            self._spent += now - self._begun
        self._begun, self._done = now, number

    def of_next(self) -> float:
        """Real seconds that the cell that begins now will take."""
        return self._of(self._done) * scale(sum(self._seconds[: self._done]), self._spent)

    def left(self) -> float:
        """Real seconds until all is done, or the end is reached."""
        now, present = self._clock(), self._of(self._done)
        since, ahead = now - self._begun, sum(self._seconds[self._done + 1 :])
        by = scale(sum(self._seconds[: self._done]), self._spent, present, since)
        left = by * ahead + max(by * present - since, 0.0)
        return left if self._end is None else max(min(left, self._end - now), 0.0)

    def _of(self, number: int) -> float:
        return self._seconds[number] if number < len(self._seconds) else 0.0
