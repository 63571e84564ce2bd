"""Who plays in a league is told apart by what it is, not by its label."""

import jax.numpy as jnp
import optax

from learned_opt.base import LearnedOptimizer
from learned_opt_lab.evaluation.leagues.contestants import league_contestant
from learned_opt_lab.evaluation.suite.entries import Entry
from learned_opt_lab.evaluation.tuning import baseline_content
from tests.support.lab.tiny import SGD


def content(label, optimizer=SGD, theta=0.05):
    entry = Entry(label, label, optimizer=optimizer, theta=jnp.float32(theta))
    return baseline_content(league_contestant(entry).baseline)


def test_learned_twins_are_one_contestant():
    other = LearnedOptimizer(SGD.init, lambda theta: optax.chain(optax.sgd(theta)))
    assert content("one") == content("two/same")
    assert content("one") != content("one", theta=0.1)
    assert content("one") != content("one", optimizer=other)
