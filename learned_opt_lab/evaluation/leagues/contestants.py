"""Who plays in a league: what has a published default, or is learned."""

from learned_opt_lab.evaluation.baselines import searched
from learned_opt_lab.evaluation.rivals.rival import Rival, learned_rival
from learned_opt_lab.evaluation.rivals.table import RIVALS
from learned_opt_lab.evaluation.suite.entries import Entry
from learned_opt_lab.evaluation.tuning import Contestant


def league_rival(entry: Entry) -> Rival:
    """The rival that an optimizer of an evaluation is.

    Raises:
      ValueError: for a baseline without a published default.
    """
    if entry.rival is not None:
        return entry.rival
    if entry.baseline is None:
        description = entry.details.get("description", "")
        return learned_rival(entry.optimizer, entry.theta, description, entry.fingerprint)
    if entry.baseline not in RIVALS:
        raise ValueError(
            f"{entry.baseline} has no published default, so it is in no league (--leagues none "
            f"runs none); those that have one are {', '.join(RIVALS)}"
        )
    return RIVALS[entry.baseline]


def league_contestant(entry: Entry) -> Contestant:
    """The same for a search; twins under two labels are one contestant."""
    rival = league_rival(entry)
    name = "learned" if entry.kind == "learned" else entry.spec
    return Contestant(name, searched(rival), rival.fingerprint)
