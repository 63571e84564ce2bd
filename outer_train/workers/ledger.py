"""Which gradients have been counted."""


class Ledger:
    """Each gradient counts once.

    A worker process numbers its gradients upwards and has a life number of its own, so the last
    number of each life tells all that were counted, however long the run. After a crash of the
    learner no worker of before is left.
    """

    def __init__(self):
        """Nothing is counted yet."""
        self._last: dict[int, int] = {}
        self.num_counted = 0

    def count(self, life: int, sequence: int) -> bool:
        """Counts the gradient and returns true, unless it,
        or a later one of its life, was counted before.
        """
        if sequence <= self._last.get(life, -1):
            return False
        self._last[life] = sequence
        self.num_counted += 1
        return True

    def knows(self, life: int, sequence: int) -> bool:
        """Whether the gradient was counted, or came too late to be."""
        return sequence <= self._last.get(life, -1)

    def forget(self, life: int) -> None:
        """Frees the entry of a life that is over and of which nothing more can come."""
        self._last.pop(life, None)
