"""The shape of a claim, a paper, and what a number is read from."""

from collections.abc import Callable
from typing import Any, NamedTuple

from learned_opt_lab.papers.claims.measured import Measured
from learned_opt_lab.papers.claims.rules import Rule


class Claim(NamedTuple):
    """One number of a paper, and how ours comes from a result.

    Attributes:
      where: the paper has it, as "Figure 3a". With `says` it names the row.
      says: what the paper claims, with the quantity that the numbers are.
      printed: the paper's number as it prints it, or what its figure shows.
      source: a key of `SOURCES`, or the name of an experiment.
      ours: result -> our number.
      rule: how the word follows.
    """

    where: str
    says: str
    printed: str
    source: str
    ours: Callable[[dict[str, Any]], Measured]
    rule: Rule


class Paper(NamedTuple):
    """A paper and its claims, in the order of its figures.

    Attributes:
      title: of the paper.
      about: authors, year, number on arXiv.
      claims: one a row.
    """

    title: str
    about: str
    claims: tuple[Claim, ...]


class Source(NamedTuple):
    """What a number is read from.

    Attributes:
      command: that makes it, after `learned-opt`.
      file: in its folder.
    """

    command: str
    file: str = "result.json"


SOURCES = {"explosion": Source("ablate explosion", "ablation.json")}
"""Name of a folder -> what lies there; all others are experiments of `learned-opt reproduce`."""


def source_of(claim: Claim) -> Source:
    """Where a claim's number is read from."""
    return SOURCES.get(claim.source, Source(f"reproduce {claim.source}"))
