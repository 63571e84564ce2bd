"""Numbers that tasks need: random words, rotations, numbers of twice the precision."""

from tasks.numerics import threefry

__all__ = [
    "threefry",
]
