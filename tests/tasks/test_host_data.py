"""Data that stay and windows that move are given side by side; a stream goes on where it was."""

import json

import jax
import numpy as np
import pytest

from tasks.analytic.random_quadratic import random_quadratic_family
from tasks.host_data import STATE_BYTES, Feed, as_feed
from tests.support.windows import Windows, window, windowed_family


def levels(stream, number):
    return [float(np.mean(stream.next()[1])) for _ in range(number)]


def families():
    return random_quadratic_family(2), windowed_family(), windowed_family()


def test_windows_follow_the_seed_and_the_place_of_the_family():
    feed = Feed.of(families(), 5)
    assert feed.moves
    with feed.stream() as stream, feed.stream() as again, Feed.of(families(), 6).stream() as other:
        one, same, another = stream.next(), again.next(), other.next()
        assert one[0] == ()
        jax.tree.map(np.testing.assert_array_equal, one, same)
        assert not np.array_equal(one[1], one[2])
        assert not np.array_equal(one[1], another[1])


def test_a_stream_goes_on_where_another_was():
    feed = Feed.of(families(), 0)
    with feed.stream() as stream, feed.stream() as resumed:
        whole = levels(stream, 3)
        state = stream.state()
        whole += levels(stream, 2)
        resumed.restore(state)
        assert levels(resumed, 2) == whole[3:]
    np.testing.assert_allclose(np.diff(whole), 1)
    assert [leaf.shape for leaf in state] == [(STATE_BYTES,)] * 2
    assert json.loads(state[0].tobytes()) == {"next_index": 3}


def test_iterators_are_closed_and_a_long_state_is_refused():
    made = []

    def windows(seed):
        made.append(Windows(seed))
        return made[-1]

    with Feed(((),), (windows,)).stream() as stream:
        made[0].get_state = lambda: {"names": "x" * STATE_BYTES}
        with pytest.raises(ValueError, match="at most 1024 bytes of JSON, got 1037"):
            stream.state()
    assert made[0].is_closed


def test_data_that_stay_are_those_that_were_given():
    datas = (window(0), ())
    feed = as_feed(datas)
    assert as_feed(feed) is feed
    assert not feed.moves
    with feed.stream() as stream:
        assert stream.next() is datas
        assert stream.state() == ()
        stream.restore(())
