"""How one word follows from a number of ours, its interval and what the paper says.

| word | where the paper says that a number lies to one side of a value of no effect |
|---|---|
| shown | the interval lies on that side, and reaches the paper's number where it prints one |
| direction | the interval lies on that side, short of the paper's number; or one run does |
| not shown | the interval holds the value of no effect; or one run lies on the other side |
| reversed | the interval lies on the other side |

Where the paper prints a number that is to be met (`Near`), or says that nothing differs (`Same`),
*shown* is an interval inside the margin, and *direction* one that reaches into it, or one run.
"""

from typing import NamedTuple

from learned_opt_lab.papers.claims.measured import Measured

SHOWN, DIRECTION, NOT_SHOWN, REVERSED = WORDS = ("shown", "direction", "not shown", "reversed")


class More(NamedTuple):
    """The number is larger.

    Attributes:
      than: the value of no effect.
      printed: the paper's number, if it prints one.
    """

    than: float
    printed: float | None = None

    def word(self, ours: Measured) -> str:
        """What follows."""
        if ours.low is None or ours.high is None:
            return DIRECTION if ours.value > self.than else NOT_SHOWN
        if ours.low > self.than:
            return SHOWN if self.printed is None or ours.high >= self.printed else DIRECTION
        return REVERSED if ours.high < self.than else NOT_SHOWN


class Less(NamedTuple):
    """The number is smaller; fields as those of `More`."""

    than: float
    printed: float | None = None

    def word(self, ours: Measured) -> str:
        """What follows."""
        low, high = (None if end is None else -end for end in (ours.high, ours.low))
        mirrored = Measured(-ours.value, low, high, ours.over)
        return More(-self.than, None if self.printed is None else -self.printed).word(mirrored)


class Near(NamedTuple):
    """The number is the paper's.

    Attributes:
      printed: the paper's.
      within: share of it that ours may be off.
    """

    printed: float
    within: float

    def word(self, ours: Measured) -> str:
        """What follows."""
        return Same(abs(self.within * self.printed), self.printed).word(ours)


class Same(NamedTuple):
    """A difference is as good as none.

    Attributes:
      margin: largest difference that counts as none.
      around: of this value.
    """

    margin: float
    around: float = 0.0

    def word(self, ours: Measured) -> str:
        """What follows."""
        first, last = self.around - self.margin, self.around + self.margin
        if ours.low is None or ours.high is None:
            return DIRECTION if first <= ours.value <= last else NOT_SHOWN
        if first <= ours.low and ours.high <= last:
            return SHOWN
        return DIRECTION if ours.low <= last and first <= ours.high else NOT_SHOWN


Rule = More | Less | Near | Same
