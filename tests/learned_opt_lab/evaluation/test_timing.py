"""Timings do not depend on what another run has compiled, and many runs at once are timed."""

import jax

from learned_opt_lab.evaluation.sweep import make_runs
from learned_opt_lab.evaluation.timing import saved_seconds, time_together


def test_what_a_cache_saves_is_told():
    event = "/jax/compilation_cache/compile_time_saved_sec"
    with saved_seconds() as saved:
        jax.monitoring.record_event_duration_secs(event, 3.0)
        jax.monitoring.record_event_duration_secs("another", 4.0)
    jax.monitoring.record_event_duration_secs(event, 5.0)
    assert saved == [3.0]


def test_many_runs_at_once_are_timed(regression_family):
    """Neither configurations nor runs divide over the devices."""
    runs = make_runs(jax.random.key(0), 1, 3)
    assert 0 < time_together(regression_family(), 2, runs, min_seconds=1e-3) < 10
