"""What workers send is checked before anything is made of it."""

import numpy as np
import pytest

from outer_train.workers.crew import checked_answer, foreign
from outer_train.workers.messages import Gradient

HELLO = {"host": "here", "pid": 1, "family": 0, "size": 5, "versions": {"jax": "0.10", "git": None}}
MEANS, VARIANCES = np.ones((1, 5), np.float32), np.ones((1, 1), np.float32)
GRADIENT = Gradient(2, 7, 0, 1, 3, 4, 3, 24, 0, 0, 0.5, 0.1, 0.2, MEANS, VARIANCES)


def test_an_honest_description_is_passed_on():
    answer = checked_answer("handle", True, HELLO)
    assert answer.death is None
    assert answer.description == HELLO
    assert answer.description["versions"]["flax"] == "unknown"


@pytest.mark.parametrize(
    "result",
    [
        None,
        "text",
        {},
        HELLO | {"host": 3},
        HELLO | {"versions": []},
        HELLO | {"family": -1},
        HELLO | {"family": 1.0},
        HELLO | {"family": float("nan")},
        HELLO | {"size": 10**30},
        HELLO | {"size": True},
    ],
)
def test_another_description_is_as_good_as_a_death(result):
    answer = checked_answer("handle", True, result)
    assert (answer.description, answer.death) == (None, "it sent what no worker sends")


def test_text_of_a_worker_is_escaped():
    hostile = {"host": "\x1b[2J\n", "versions": {"jax": "\u202e" * 100, "git": ["\x1b"]}}
    description = checked_answer("handle", True, HELLO | hostile).description
    assert description["host"] == "\\x1b[2J\\n"
    assert description["versions"] == {"jax": "\\u202e" * 12 + "...", "git": None}


def test_a_gradient_is_bytes():
    assert checked_answer("handle", False, b"x").gradient == b"x"
    assert checked_answer("handle", False, [1.0]).death == "it sent what no worker sends"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"worker": 3}, "it names worker 3, life 7 and family 1, and is of 2, 7 and 1"),
        ({"life": 6}, "it names worker 2, life 6 and family 1"),
        ({"family": 0}, "it names worker 2, life 7 and family 0"),
        ({"means": np.ones((0, 5))}, "it has 0 parts, and 1 are merged"),
        ({"means": np.ones((2, 5))}, "it has 2 parts, and 1 are merged"),
        ({"seconds_working": float("nan")}, "its times are no times"),
        ({"seconds_waiting": float("inf")}, "its times are no times"),
        ({"seconds_working": -1.0}, "its times are no times"),
    ],
)
def test_a_gradient_must_be_its_senders(changes, reason):
    found = foreign(GRADIENT._replace(**changes), 2, 7, 1, 1)
    assert found == reason or (reason and found.startswith(reason))
