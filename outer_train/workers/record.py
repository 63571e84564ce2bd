"""What the asynchronous loop writes: a row an outer step, and a log of who came, left and died."""

import contextlib
import json
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from learned_opt.disk import files
from outer_train.run import metrics as metrics_lib
from outer_train.run import trackers
from outer_train.run.directory import RunDirectory
from outer_train.run.loop import SMOOTHING_WINDOW, LoopSettings
from outer_train.run.progress import Show
from outer_train.workers.learner import ACCEPTED, DUPLICATE, REFUSED, STALE
from outer_train.workers.merge import Merged
from outer_train.workers.messages import Gradient


class Recorder:
    """Rows have what those of the in-step loop have, and what only this loop knows.

    `num_gradients`, `num_stale`, `num_refused`, `num_duplicates` and `num_deaths` since the row
    before; `gradients`, those that were counted, as `life:sequence`; `staleness` and
    `staleness_max`, outer steps by which theta was behind; `learner_idle` and `worker_idle`, shares
    of their time that the learner and the batch's workers waited; `bytes_sent` and `bytes_received`
    by the learner.
    """

    def __init__(
        self,
        run: RunDirectory,
        rows: list[dict[str, Any]],
        step: int,
        settings: LoopSettings,
        parts: Sequence[str],
        show: Show,
    ):
        """Goes on after `rows`, those of the first `step` outer steps.

        `parts` are the names of a merge's parts.
        """
        self._writer = metrics_lib.MetricsWriter(
            run.path, trackers.open_all(settings.trackers, run, show.warn)
        )
        self._events = files.open_to_append(run.worker_log)
        self._progress = show.progress(settings.num_outer_steps, step)
        self._recent = deque(rows[-SMOOTHING_WINDOW:], maxlen=SMOOTHING_WINDOW)
        self._inner_steps = rows[-1]["inner_steps"] if rows else 0
        self._parts = tuple(parts)
        self._step = step
        self._last_time: float | None = None
        self._sums: Counter = Counter()
        self.totals: dict[str, Any] = Counter()

    @property
    def smoothed_loss(self) -> float | None:
        """Mean outer loss of the last rows."""
        return metrics_lib.mean_loss(list(self._recent))

    def waited(self, seconds: float) -> None:
        """The learner had nothing to do."""
        self._sums["learner_waited"] += seconds

    def sent(self, num_bytes: int) -> None:
        """Theta went to a worker."""
        self._sums["bytes_sent"] += num_bytes

    def heard(self, verdict: str, num_bytes: int) -> None:
        """A gradient came."""
        self._sums["bytes_received"] += num_bytes
        self._sums[verdict] += 1

    def event(self, kind: str, worker: str, reason: str | None = None) -> None:
        """Notes an arrival, departure, death or refusal in `workers.jsonl`."""
        self._sums["num_deaths"] += kind == "died"
        row = {"outer_step": self._step, "time": time.time(), "event": kind, "worker": worker}
        with metrics_lib.naming(self._events.name):
            self._events.write(json.dumps(row | ({"reason": reason} if reason else {})) + "\n")
            self._events.flush()

    def write(self, step: int, batch: Sequence[Gradient], merged: Merged, num_workers: int) -> None:
        """Writes the row of outer step `step`, made of `batch`."""
        now = time.perf_counter()
        seconds = None if self._last_time is None else now - self._last_time
        live = sum(g.num_live_steps for g in batch)
        self._inner_steps += live
        staleness = [step - g.version for g in batch]
        waited, worked = (
            sum(g.seconds_waiting for g in batch),
            sum(g.seconds_working for g in batch),
        )
        counts = self._counts()
        row = {
            "outer_step": step,
            **_losses(batch),
            "truncation_length": round(float(np.mean([g.num_steps for g in batch]))),
            "grad_norm": float(np.linalg.norm(merged.grad.astype(np.float64)))
            if merged.known
            else float("nan"),
            "num_non_finite": max(sum(g.num_non_finite for g in batch), int(not merged.taken)),
            "num_steps_not_taken": int(not merged.taken),
            "num_resets": sum(g.num_resets for g in batch),
            "num_live_inner_steps": live,
            **_by_part(self._parts, merged),
            **counts,
            "num_workers": num_workers,
            "staleness": float(np.mean(staleness)),
            "staleness_max": max(staleness),
            "learner_idle": min(self._sums["learner_waited"] / seconds, 1.0) if seconds else None,
            "worker_idle": waited / (waited + worked),
            "gradients": [f"{g.life}:{g.sequence}" for g in batch],
            "inner_steps": self._inner_steps,
            "seconds": seconds,
        }
        self._last_time, self._step = now, step + 1
        self.totals.update(counts)
        self.totals.update({"seconds_waiting": waited, "seconds_working": worked})
        self._sums.clear()
        self._writer.write(row)
        self._recent.append(row)
        self._progress.update(row, self.smoothed_loss)

    def _counts(self) -> dict[str, int]:
        """What was counted since the last row, for the row and the totals."""
        return {
            "num_gradients": self._sums[ACCEPTED],
            "num_stale": self._sums[STALE],
            "num_duplicates": self._sums[DUPLICATE],
            "num_refused": self._sums[REFUSED],
            "num_deaths": self._sums["num_deaths"],
            "bytes_sent": self._sums["bytes_sent"],
            "bytes_received": self._sums["bytes_received"],
        }

    def flush(self) -> None:
        """Brings all rows to the disk."""
        self._writer.flush(to_disk=True)

    def close(self, *, quietly: bool = False) -> None:
        """Ends the display and closes the files;
        with `quietly`, what cannot be written is no error.
        """
        self._progress.close()
        with (
            contextlib.suppress(*((OSError,) if quietly else ())),
            metrics_lib.naming(self._events.name),
        ):
            try:
                self._writer.close()
            finally:
                self._events.close()


def _losses(batch: Sequence[Gradient]) -> dict[str, float]:
    """Mean over each family's samples, then over families."""
    families = sorted({g.family for g in batch})
    means = {}
    for family in families:
        known = [
            (g.loss, g.num_samples) for g in batch if g.family == family and np.isfinite(g.loss)
        ]
        losses, counts = zip(*known, strict=True) if known else ((float("nan"),), (1,))
        means[family] = float(np.average(losses, weights=counts))
    rows = (
        {f"outer_loss_{family}": loss for family, loss in means.items()}
        if max(families) > 0
        else {}
    )
    return {"outer_loss": float(np.mean(list(means.values()))), **rows}


def _by_part(parts: Sequence[str], merged: Merged) -> dict[str, float]:
    rows = {f"variance_{name}": float(v) for name, v in zip(parts, merged.variances, strict=True)}
    if len(parts) > 1:
        rows |= {f"weight_{name}": float(w) for name, w in zip(parts, merged.shares, strict=True)}
    return rows
