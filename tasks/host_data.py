"""What families are fed with: data that stay on the device, or windows that come from the host."""

import json
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from tasks.base import Data, TaskFamily, WindowIterator

STATE_BYTES = 1024
"""Of an iterator's state as JSON: a checkpoint's leaves have one shape for the whole of a run."""
Place = Callable[[tuple], tuple]


class Feed(NamedTuple):
    """The data of some families, before anything of the host's is read.

    Attributes:
      datas: one entry a family, on the devices; of one that has windows, one of them.
      windows: of each family, None for one whose data stand still.
      seed: of the order of windows.
      place: puts one entry a family on the devices.
    """

    datas: tuple
    windows: tuple[Callable[[int], WindowIterator] | None, ...] = ()
    seed: int | str = 0
    place: Place = jax.device_put

    @classmethod
    def of(
        cls, families: Sequence[TaskFamily], seed: int | str = 0, place: Place = jax.device_put
    ) -> "Feed":
        """The feed of these families.

        Args:
          families: in the order in which their data are wanted.
          seed: the order of windows is a function of it and of the family's place.
          place: puts one entry a family on the devices; of `OuterStep.place_data`'s kind.
        """
        datas = place(tuple(family.data for family in families))
        return cls(datas, tuple(family.windows for family in families), seed, place)

    @property
    def moves(self) -> bool:
        """Whether any family has windows."""
        return any(self.windows)

    def stream(self) -> "Stream":
        """The data in turn, from the first windows on."""
        return Stream(self)


def as_feed(datas: "tuple | Feed") -> Feed:
    """Data that are on the devices, seen as a feed of them; a feed stays what it is."""
    return datas if isinstance(datas, Feed) else Feed(datas)


class Stream:
    """Gives each family's data for one outer step or interval after the other.

    Use as a context manager: leaving it lets the iterators' threads go.
    """

    def __init__(self, feed: Feed):
        """Starts at the first windows; nothing is read yet."""
        self._feed = feed
        self._iterators = {
            place: make(zlib.crc32(f"{feed.seed}/{place}".encode()))
            for place, make in enumerate(feed.windows)
            if make is not None
        }

    def __enter__(self) -> "Stream":
        """The object itself."""
        return self

    def __exit__(self, *_exc) -> None:
        """Closes the iterators."""
        for iterator in self._iterators.values():
            iterator.close()

    def next(self) -> tuple[Data, ...]:
        """One entry a family, on the devices: its data, or its next window."""
        if not self._iterators:
            return self._feed.datas
        datas = list(self._feed.datas)
        for place, iterator in self._iterators.items():
            datas[place] = next(iterator)
        return self._feed.place(tuple(datas))

    def state(self) -> tuple[np.ndarray, ...]:
        """Where each iterator stands, uint8 `[STATE_BYTES]`: JSON, and blanks behind it.

        Raises:
          ValueError: a state is longer than that.
        """
        return tuple(_packed(iterator.get_state()) for iterator in self._iterators.values())

    def restore(self, state: Sequence[Any]) -> None:
        """Goes on from what `state` gave."""
        for iterator, packed in zip(self._iterators.values(), state, strict=True):
            iterator.set_state(json.loads(np.asarray(packed).tobytes()))


def _packed(state: dict[str, Any]) -> np.ndarray:
    text = json.dumps(state).encode()
    if len(text) > STATE_BYTES:
        raise ValueError(
            f"the state of an iterator of windows must be at most {STATE_BYTES} bytes of JSON, got "
            f"{len(text)}"
        )
    return np.frombuffer(text.ljust(STATE_BYTES), np.uint8)
