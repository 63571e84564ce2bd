"""Tables: R^2 is that of the split, splits share no row, sets that are not there are told."""

import sys

import jax
import numpy as np
import pytest

from tasks.base import SPLITS
from tasks.tabular import TABLES, regression_family, tabular_family
from tests.support.training import adam_losses, at_start

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(200, 3)) * [1.0, 50.0, 0.0] + 7
TARGETS = 1000 * INPUTS[:, 0] + 3 * INPUTS[:, 1]


@pytest.mark.parametrize("table", TABLES)
def test_every_table_starts_near_the_known_loss(table):
    family = tabular_family(table, width=8, depth=1, batch_size=10)
    _, _, _, loss, metrics, _ = at_start(family)
    classes = getattr(family.data, "num_classes", None)
    if TABLES[table] == "regression":
        assert 0.3 < float(loss) < 4
        assert set(metrics) == {"r_squared"}
    else:
        assert abs(float(loss) - np.log(classes)) < 1
        assert set(metrics) == {"accuracy"}


def test_r_squared_of_a_whole_split_is_numpy_s():
    family = regression_family(INPUTS, TARGETS, (4,), batch_size=30)
    task = family.task(())
    params = at_start(family)[0]
    data = jax.tree.map(np.asarray, family.data)
    rows = slice(120, 140)  # inner_valid: the second tenth after 60 %
    batch = {"inputs": data.inputs[rows], "targets": data.targets[rows]}
    batch["variance"] = data.variances[1]
    loss, metrics = task.loss(params, jax.random.key(0), batch)
    first, second = params["Dense_0"], params["Dense_1"]
    hidden = np.maximum(batch["inputs"] @ first["kernel"] + first["bias"], 0)
    predicted = (hidden @ second["kernel"] + second["bias"])[:, 0]
    residual = ((predicted - batch["targets"]) ** 2).sum()
    total = ((batch["targets"] - batch["targets"].mean()) ** 2).sum()
    np.testing.assert_allclose(float(metrics["r_squared"]), 1 - residual / total, rtol=1e-4)
    np.testing.assert_allclose(float(loss), residual / 20, rtol=1e-5)


def test_rows_are_standardized_by_train_and_in_one_split_only():
    family = regression_family(INPUTS, TARGETS, (4,), batch_size=200)
    inputs, targets, variances = jax.tree.map(np.asarray, family.data)
    np.testing.assert_allclose(inputs[:120].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(inputs[:120].std(0), [1, 1, 0], atol=1e-5)
    np.testing.assert_allclose([targets[:120].mean(), targets[:120].std()], [0, 1], atol=1e-5)
    np.testing.assert_allclose(variances[0], 1, rtol=1e-5)
    assert len(np.unique(targets)) == 200
    seen = []
    for split in SPLITS:
        batch = family.task(()).sample_batch(family.data, jax.random.key(0), split)
        seen.append(set(np.asarray(batch["targets"]).tolist()))
    assert sum(map(len, seen)) == len(set.union(*seen))


def test_it_learns():
    losses = adam_losses(regression_family(INPUTS, TARGETS, (16,)), 100, 1e-2)
    assert losses[-10:].mean() < 0.2 * losses[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tabular_family("titanic"), "unknown table 'titanic'; tables are breast_cancer"),
        (lambda: tabular_family(depth=0), "depth must be 1 or more"),
        (lambda: tabular_family(width=0), "layer widths must be 1 or more"),
        (lambda: tabular_family("iris", batch_size=100), "larger than"),
        (lambda: regression_family(INPUTS, TARGETS[:5]), "targets \\[n\\]; got"),
        (lambda: regression_family(INPUTS * np.nan, TARGETS), "must be finite"),
        (lambda: regression_family(INPUTS, np.ones(200)), "two different targets"),
        (lambda: regression_family(INPUTS, TARGETS, fractions=(1, 0, 0, 0)), "fractions must be"),
        (lambda: regression_family(INPUTS, TARGETS, batch_size=0), "batch_size must be"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "learned-opt\[train\]"'):
        tabular_family()
