"""Signals that come while a run is built or scored; in between its outer loop takes them."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

PATIENCE = 2.0
"""Seconds in which a signal should be noticed; compiling may take minutes."""


class Stopped(KeyboardInterrupt):
    """A signal that ends the work, as Ctrl-C does."""

    def __init__(self, number: int):
        super().__init__(f"signal {number}")
        self.number = number


@contextlib.contextmanager
def stopped_by_signals(tell: Callable[[int], str]) -> Iterator[None]:
    """Within it SIGTERM and SIGHUP do what Ctrl-C does: locks are given back.

    What runs outside of Python cannot be interrupted. Where it takes longer than `PATIENCE`, the
    process ends in the middle of it, by the status of a shell. A signal that is ignored, as SIGHUP
    under nohup, stays so. Outside the main thread it does nothing.

    Args:
      tell: number of the signal -> the line to print then.

    Raises:
      Stopped: one came.
    """
    names = ("SIGTERM", "SIGHUP")
    taken = [number for name in names if (number := getattr(signal, name, None)) is not None]
    taken = [number for number in taken if signal.getsignal(number) == signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread() or not taken:
        yield
        return
    noticed = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        noticed.set()
        raise Stopped(number)

    read, write = os.pipe()
    os.set_blocking(write, False)
    threading.Thread(target=_watch, args=(read, stop, noticed, tell), daemon=True).start()
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in taken:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(before)
        os.close(write)


def _watch(read: int, stop: Any, noticed: threading.Event, tell: Callable[[int], str]) -> None:
    """Ends the process where Python does not come to call `stop`."""
    from outer_train.run import lock

    with open(read, "rb", buffering=0) as stream:
        while number := stream.read(1):
            # Others are Python's own, or taken by the outer loop.
            if signal.getsignal(number[0]) is stop and not noticed.wait(PATIENCE):
                lock.release_all()
                print(tell(number[0]), file=sys.stderr, flush=True)
                os._exit(128 + number[0])
