"""Timings do not depend on what another run has compiled, and many runs are timed at once and one
by one.
"""

import jax

from learned_opt_lab.evaluation.sweep import make_runs
from learned_opt_lab.evaluation.timing import Together, saved_seconds, time_together


def test_what_a_cache_saves_is_told():
    event = "/jax/compilation_cache/compile_time_saved_sec"
    with saved_seconds() as saved:
        jax.monitoring.record_event_duration_secs(event, 3.0)
        jax.monitoring.record_event_duration_secs("another", 4.0)
    jax.monitoring.record_event_duration_secs(event, 5.0)
    assert saved == [3.0]


def test_many_runs_are_timed_in_both_ways(regression_family):
    """Neither configurations nor runs divide over the devices."""
    runs = make_runs(jax.random.key(0), 1, 3)
    found = time_together(regression_family(), 2, runs, min_seconds=1e-3)
    assert found.num_runs == 6
    assert 0 < found.at_once < 10
    assert 0 < found.one_by_one < 10


def test_the_faster_way_is_taken_beyond_noise():
    assert Together(6, at_once=3.0, one_by_one=1.0).is_faster_one_by_one
    assert Together(6, at_once=3.0, one_by_one=1.0).seconds == 1.0
    assert not Together(6, at_once=1.1, one_by_one=1.0).is_faster_one_by_one
    assert Together(6, at_once=1.1, one_by_one=1.0).seconds == 1.1
