"""Who works: places, the worker process in each, and what happened to it."""

import dataclasses
from typing import Any

MAX_FAILED_STARTS = 3
"""Times in a row that no worker in a place lives to say hello before the run is given up."""
MAX_REFUSALS = 10
"""Gradients in a row refused from one place before nobody is let work there."""


@dataclasses.dataclass
class Member:
    """A worker process.

    Attributes:
      place: from 0; decides over the task family.
      life: unique in the run.
      handle: by which the crew knows it.
      host: where it runs; known once it has said hello.
      family: of its tasks; known likewise.
      num_delivered: gradients it has sent.
      num_refusals: of those, refused in a row.
    """

    place: int
    life: int
    handle: Any
    host: str | None = None
    family: int | None = None
    num_delivered: int = 0
    num_refusals: int = 0

    @property
    def name(self) -> str:
        """As the log says it."""
        where = f" on {self.host}" if self.host else ""
        return f"worker {self.place} (life {self.life}{where})"


class Roster:
    """The members by place. It decides; the loop acts."""

    def __init__(self, num_lives: int):
        """Nobody works yet.

        Args:
          num_lives: worker processes that earlier parts of the run have started.
        """
        self.num_lives = num_lives
        self.members: dict[int, Member] = {}
        self.banned: set[int] = set()
        self._failed_starts: dict[int, int] = {}

    def vacancies(self, num_workers: int) -> list[int]:
        """Places to fill for `num_workers` to be at work."""
        places = (place for place in range(num_workers) if place not in self.banned)
        return [place for place in places if place not in self.members]

    def superfluous(self, num_workers: int) -> list[Member]:
        """Members beyond `num_workers`, last places first."""
        return [
            self.members[place]
            for place in sorted(self.members, reverse=True)
            if place >= num_workers
        ]

    def next_life(self) -> int:
        """A life number that was never given out."""
        self.num_lives += 1
        return self.num_lives - 1

    def enter(self, place: int, life: int, handle: Any) -> Member:
        """Notes who was started."""
        member = self.members[place] = Member(place, life, handle)
        return member

    def hello(self, member: Member, description: dict[str, Any]) -> None:
        """Notes what it says of itself: from now on it works."""
        member.host, member.family = description["host"], description["family"]
        self._failed_starts[member.place] = 0

    def remove(self, member: Member) -> None:
        """Frees the place.

        Raises:
          ValueError: nobody in this place has come as far as to say hello, several times in a row.
        """
        del self.members[member.place]
        if member.host is None:
            failed = self._failed_starts[member.place] = (
                self._failed_starts.get(member.place, 0) + 1
            )
            if failed >= MAX_FAILED_STARTS:
                raise ValueError(f"worker {member.place} died {failed} times before it could start")

    def refuse(self, member: Member) -> bool:
        """Counts a refusal; true if the place is now banned.

        Raises:
          ValueError: there is no place left to work in.
        """
        member.num_refusals += 1
        if member.num_refusals < MAX_REFUSALS:
            return False
        self.banned.add(member.place)
        if set(self.members) <= self.banned:
            raise ValueError("every worker's gradients were refused: see the warnings above")
        return True

    @property
    def families(self) -> set[int]:
        """Those that are surely worked on: a member has sent a gradient of them."""
        return {member.family for member in self.members.values() if member.num_delivered}
