"""SIGINT, SIGTERM and SIGHUP let a run's outer step end instead of the process."""

import signal
import threading
import time
from types import FrameType
from typing import Any

import jax

from outer_train.processes import cluster

HANG_UP = getattr(signal, "SIGHUP", None)
"""Comes when the terminal is closed; not every system has it."""
STOP_SIGNALS = tuple(
    number for number in (signal.SIGINT, signal.SIGTERM, HANG_UP) if number is not None
)
MAX_SIGNAL_STEPS = 64
"""Outer steps after which several processes tell each other of signals at the latest;
at a second's pace otherwise."""


class StopSignals:
    """Notes the first SIGINT, SIGTERM or SIGHUP instead of dying of it;
    outside the main thread it does nothing.
    """

    def __init__(self):
        """Notes nothing yet."""
        self.signal: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        """Installs the handlers."""
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                if number == HANG_UP and signal.getsignal(number) == signal.SIG_IGN:
                    continue  # as under nohup
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_exc) -> None:
        """Puts the old handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.signal = number
        for each in self._previous:
            signal.signal(
                each, signal.default_int_handler if each == signal.SIGINT else signal.SIG_DFL
            )


class SharedSignals:
    """The signal that any process noted, seen by all of them at the same step; asking costs little.

    Asking the others waits for the steps in flight, so it is done about once a second, at steps
    that the first process chooses by its clock and tells with the answer.
    """

    def __init__(self, stop: StopSignals, step: int):
        """Starts at outer step `step`."""
        self._stop, self._alone = stop, jax.process_count() == 1
        self._agreed: int | None = None
        self._last, self._next, self._time = step, step + 1, time.monotonic()

    def at(self, step: int) -> int | None:
        """The signal as of outer step `step`, None if there was none;
        every process asks at every step.
        """
        if self._alone:
            return self._stop.signal
        if step >= self._next and self._agreed is None:
            pace = (time.monotonic() - self._time) / max(step - self._last, 1)
            wait = min(max(round(1 / max(pace, 1e-6)), 1), MAX_SIGNAL_STEPS)
            answers = cluster.agree((self._stop.signal or 0, wait))
            self._agreed = max(number for number, _ in answers) or None
            self._last, self._next, self._time = step, step + answers[0][1], time.monotonic()
        return self._agreed
