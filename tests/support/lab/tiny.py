"""A suite of two regressions, and optimizers of which two are the same and one ends in nan."""

import jax.numpy as jnp
import optax

from learned_opt.base import LearnedOptimizer
from learned_opt_lab.evaluation.suite.entries import Entry, parse_entries
from tasks.images.datasets import DatasetNotPrepared
from tasks.suite_tasks import Suite, SuiteTask

NAN = LearnedOptimizer(lambda key: jnp.float32(1), lambda theta: optax.scale(jnp.nan * theta))
SGD = LearnedOptimizer(lambda key: jnp.float32(0.05), optax.sgd)


def missing_data():
    raise DatasetNotPrepared("the set is not here\nprepare it")


def make_suite(regression_family):
    def build(num_features):
        return lambda: regression_family(num_features, batch_size=8)

    return Suite(
        "tiny",
        3,
        "two regressions",
        (
            SuiteTask("small", build(2), 20, 2, "two features", loss_cap=1000.0),
            SuiteTask("large", build(6), 20, 2, "six features", loss_cap=1000.0),
            SuiteTask("absent", missing_data, 20, 2, "no data"),
        ),
    )


def entries():
    learned = [
        Entry(name, name, optimizer=SGD, theta=jnp.float32(0.05)) for name in ("one", "two/same")
    ]
    return [
        *parse_entries(["adam"]),
        *learned,
        Entry("nan", "nan", optimizer=NAN, theta=jnp.float32(1)),
    ]
