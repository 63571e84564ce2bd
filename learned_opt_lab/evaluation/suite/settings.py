"""What an evaluation does besides its suite and its optimizers, and the folder it is kept in."""

from pathlib import Path
from typing import Any, NamedTuple

from learned_opt_lab.evaluation.suite.entries import Entry
from learned_opt_lab.evaluation.tuning import TUNING_VERSION, now
from learned_opt_lab.results import folder
from tasks import Suite

FORMAT_VERSION = 3
LEAGUES = ("untuned", "equal_budgets")
"""Nobody tunes; everybody tries as many configurations. They are never mixed."""
DEFAULT_REFERENCE = "adam"
"""Outside of leagues, and in them where nothing else is hand-designed."""


class Settings(NamedTuple):
    """What an evaluation does besides the suite and the optimizers.

    Attributes:
      num_seeds: runs of each task that are reported.
      num_tuning_seeds: runs of each configuration in a baseline's search, other runs than those
        reported.
      budget: configurations of a random search.
      seed: of runs and searches.
      reference: label of the baseline everything is measured against; None is Adam, and in leagues
        the best tuned hand-designed optimizer.
      cache_dir: of tuning results; None is the default.
      leagues: of `LEAGUES`; with any, they are run in place of each baseline's own search.
      budgets: configurations an optimizer tries in the league of equal budgets.
    """

    num_seeds: int = Suite.num_seeds
    num_tuning_seeds: int = Suite.num_tuning_seeds
    budget: int = 64
    seed: int = 0
    reference: str | None = None
    cache_dir: Path | None = None
    leagues: tuple[str, ...] = ()
    budgets: tuple[int, ...] = Suite.budgets


def settings_of(suite: Suite) -> Settings:
    """The settings of a suite where nothing else is said."""
    return Settings(
        suite.num_seeds,
        suite.num_tuning_seeds,
        leagues=tuple(suite.leagues),
        budgets=suite.budgets,
    )


_OF_LEAGUES = ("leagues", "budgets")


def prepare_folder(out: Path, suite: Suite, entries: list[Entry], settings: Settings) -> str:
    """Makes the folder, or checks that it holds this very evaluation; returns when it was made.

    Raises:
      ValueError: where it holds another one, or other files.
    """
    wanted = describe(suite, entries, settings)
    started = {"started": now()}
    found = folder.prepare_folder(
        out, "evaluation.json", wanted, "evaluation", "choose another folder", beside=started
    )  # fmt: skip
    return found.get("started", "")


def describe(suite: Suite, entries: list[Entry], settings: Settings) -> dict[str, Any]:
    """What makes two evaluations the same one."""
    named = settings._asdict() | {
        "leagues": sorted(set(settings.leagues)),
        "budgets": sorted(set(settings.budgets)),
        "reference": settings.reference or (None if settings.leagues else DEFAULT_REFERENCE),
    }
    left_out = {"cache_dir", *(() if settings.leagues else _OF_LEAGUES)}
    return {
        "format_version": FORMAT_VERSION,
        "tuning_version": TUNING_VERSION,
        "suite": suite.name,
        "suite_version": suite.version,
        "optimizers": {entry.label: entry.fingerprint for entry in entries},
        **{name: value for name, value in named.items() if name not in left_out},
    }
