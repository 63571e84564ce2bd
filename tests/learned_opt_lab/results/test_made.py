"""A result says how it was made, and time adds up over interruptions of the same work."""

import json

import pytest

from learned_opt_lab.results import made


def read(folder):
    return json.loads((folder / made.NAME).read_text(encoding="utf-8"))


def test_what_made_a_result_is_written_beside_it(tmp_path):
    with made.timed(tmp_path, "nqm_schedules", "default", {"dim": 10, "horizons": (1, 2)}):
        pass
    found = read(tmp_path)
    assert found["experiment"] == "nqm_schedules"
    assert found["settings"] == {"dim": 10, "horizons": [1, 2]}
    assert found["finished"]
    assert found["minutes"] == pytest.approx(0, abs=0.1)
    assert {"machine", "version", "commit", "scale"} <= found.keys()


def interrupt(folder, clock, monkeypatch, settings):
    times = iter([0.0, clock])
    monkeypatch.setattr(made.time, "monotonic", lambda: next(times))
    with pytest.raises(KeyboardInterrupt), made.timed(folder, "a", "default", settings):
        raise KeyboardInterrupt


def test_time_before_an_interruption_counts(tmp_path, monkeypatch):
    interrupt(tmp_path, 120.0, monkeypatch, {})
    assert not read(tmp_path)["finished"]
    monkeypatch.setattr(made.time, "monotonic", iter([0.0, 60.0]).__next__)
    with made.timed(tmp_path, "a", "default", {}):
        pass
    assert read(tmp_path)["minutes"] == 3
    monkeypatch.setattr(made.time, "monotonic", iter([0.0, 60.0]).__next__)
    with made.timed(tmp_path, "a", "default", {}):  # again from the start
        pass
    assert read(tmp_path)["minutes"] == 1


def test_what_finds_all_of_it_there_changes_nothing(tmp_path, monkeypatch):
    for minutes, anew in ((2, True), (1, False)):
        monkeypatch.setattr(made.time, "monotonic", iter([0.0, 60.0 * minutes]).__next__)
        with made.timed(tmp_path, "a", "default", {}) as work:
            work.anew = anew
    assert read(tmp_path)["minutes"] == 2
    monkeypatch.setattr(made.time, "monotonic", iter([0.0, 60.0]).__next__)
    with made.timed(tmp_path, "b", "default", {}) as work:  # of what is there nothing is known
        work.anew = False
    assert (read(tmp_path)["experiment"], read(tmp_path)["minutes"]) == ("b", 1)


def test_time_after_the_end_counts_where_what_was_made_is_kept(tmp_path, monkeypatch):
    for minutes in (2, 3):
        monkeypatch.setattr(made.time, "monotonic", iter([0.0, 60.0 * minutes]).__next__)
        with made.timed(tmp_path, "a", "default", {}, adds_up=True):
            pass
    assert read(tmp_path)["minutes"] == 5


def test_time_of_other_work_does_not_count(tmp_path, monkeypatch):
    interrupt(tmp_path, 120.0, monkeypatch, {"dim": 3})
    monkeypatch.setattr(made.time, "monotonic", iter([0.0, 60.0]).__next__)
    with made.timed(tmp_path, "a", "default", {}):
        pass
    assert read(tmp_path)["minutes"] == 1


def test_bad_input_leaves_nothing_behind(tmp_path):
    with pytest.raises(ValueError, match="bad"), made.timed(tmp_path, "a", "default", {}):
        raise ValueError("bad")
    assert not list(tmp_path.iterdir())


def test_code_that_is_installed_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(made, "_ROOT", tmp_path)
    assert made.commit() is None
