"""How long what was planned still takes: planned seconds, re-scaled by those of what is done."""

import math
import time
from collections.abc import Callable, Sequence

ERROR = 0.3
"""What plans are taken to err by: the standard deviation of the logarithm of a group's real seconds
over its planned ones, on a machine that is as fast as when the plan was made."""


def shared(ratio: float, number: float) -> float:
    """What of a ratio of real to planned seconds those to come will have too.

    A part of it is the error of the plans of what is done. A ratio within that error says nothing
    of others; a large one, which a busy machine makes, is nearly all theirs (James and Stein).

    Args:
      ratio: of all that is done.
      number: of groups that it is the mean of, each with an error of its own.
    """
    if ratio <= 0 or number <= 0:
        return 1.0
    found = math.log(ratio)
    error = ERROR**2 / number
    return math.exp(found * (1 - error / found**2)) if found**2 > error else 1.0


class Countdown:
    """Seconds left of cells that are done one after another.

    Args:
      seconds: planned, of each cell; 0 for one that is there, whose real seconds do not count.
      clock: gives seconds.
      max_seconds: when all ends, from now.
      group: so many cells in a row, those of one task, are planned wrongly by one factor.
    """

    def __init__(
        self,
        seconds: Sequence[float],
        clock: Callable[[], float] = time.monotonic,
        max_seconds: float | None = None,
        group: int = 1,
    ):
        self._seconds, self._clock, self._group = seconds, clock, group
        self._begun = clock()
        self._end = None if max_seconds is None else self._begun + max_seconds
        self._done = 0
        self._spent = [0.0] * -(-len(seconds) // group)

    def begins(self, number: int) -> None:
        """All cells before this one are done; it begins now."""
        now = self._clock()
        if any(self._seconds[self._done : number]):
            self._spent[self._done // self._group] += now - self._begun
        self._begun, self._done = now, number

    def of_next(self) -> float:
        """Real seconds that the cell that begins now will take."""
        return self._of(self._done) * self._own(0.0, 0.0)

    def left(self) -> float:
        """Real seconds until all is done, or the end is reached."""
        now, present = self._clock(), self._of(self._done)
        since = now - self._begun
        end_of_group = (self._done // self._group + 1) * self._group
        own, common = self._own(present, since), self._common(present, since)
        left = max(own * present - since, 0.0)
        left += own * sum(self._seconds[self._done + 1 : end_of_group])
        left += common * sum(self._seconds[end_of_group:])
        return left if self._end is None else max(min(left, self._end - now), 0.0)

    def _own(self, present: float, since: float) -> float:
        """Real seconds of a planned one, of the cells of the present group: what is known of other
        groups weighs as much as one of its cells.
        """
        number = self._done // self._group
        group = self._seconds[number * self._group : (number + 1) * self._group]
        done, spent = sum(group[: self._done % self._group]), 0.0
        found = self._common(0.0, 0.0)
        if done:
            spent, one = self._spent[number], sum(group) / len(group)
            found = (spent + found * one) / (done + one)
        # What takes longer than it should tells before it ends.
        return max(found, (spent + since) / (done + present)) if present else found

    def _common(self, present: float, since: float) -> float:
        """Real seconds of a planned one, of the groups to come."""
        starts = range(0, self._done, self._group)
        done = [sum(self._seconds[i : min(i + self._group, self._done)]) for i in starts]
        spent = sum(self._spent)
        found = shared(spent / sum(done), _effective(done)) if any(done) else 1.0
        if not present:
            return found
        number = self._done // self._group
        done += [0.0] * (number + 1 - len(done))
        done[number] += present
        return max(found, shared((spent + since) / sum(done), _effective(done)))

    def _of(self, number: int) -> float:
        return self._seconds[number] if number < len(self._seconds) else 0.0


def _effective(sizes: Sequence[float]) -> float:
    """Of how many equal ones a sum of independent errors of such sizes has the relative error."""
    return sum(sizes) ** 2 / sum(size**2 for size in sizes)
