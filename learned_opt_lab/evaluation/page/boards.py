"""The boards of a report: the whole of an evaluation without leagues, or each of the leagues'."""

from typing import Any, NamedTuple


class Board(NamedTuple):
    """Optimizers that are compared with one another.

    Attributes:
      name: what its charts and tables are called after; "" for the only one.
      path: of its content in `report.json`, with a dot at its end; "" for the whole.
      title: what the page calls it.
      content: optimizers, rows, pairs, profiles.
      budget: configurations that each optimizer tried; 0 where each has a search of its own.
    """

    name: str
    path: str
    title: str
    content: dict[str, Any]
    budget: int

    @property
    def seconds(self) -> str:
        """Which seconds count: those of the search as well, where there was one."""
        return "seconds_with_tuning" if self.budget > 1 else "seconds"


def boards_of(report: dict[str, Any]) -> list[Board]:
    """One for a plain evaluation; "nobody tunes" first, then each budget.

    A budget of one configuration is the default, so it is no board of its own beside that.
    """
    leagues = report.get("leagues")
    if not leagues:
        return [Board("", "", "Who wins", report, 0)]
    found = []
    if leagues["untuned"]:
        found.append(Board("untuned_", "leagues.untuned.", "Nobody tunes", leagues["untuned"], 1))
    for budget, board in leagues["equal_budgets"].items():
        if budget == "1" and leagues["untuned"]:
            continue
        number = "configuration" if int(budget) == 1 else "configurations"
        found.append(
            Board(
                f"equal_{budget}_",
                f"leagues.equal_budgets.{budget}.",
                f"Equal budgets of {budget} {number} for each",
                board,
                int(budget),
            )
        )
    return found
