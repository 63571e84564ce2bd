"""A suite whose tasks are fed from the host: an evaluation that was stopped ends as one that was
not.
"""

import json

import numpy as np
import pytest

from learned_opt_lab.evaluation.suite._evaluate import evaluate
from learned_opt_lab.evaluation.suite.entries import parse_entries
from learned_opt_lab.evaluation.suite.run import Settings
from tasks import Suite, SuiteTask
from tests.support.windows import windowed_family

SUITE = Suite(
    "moving",
    1,
    "a level that moves",
    tuple(
        SuiteTask(name, lambda step=step: windowed_family(step), 6, 3, name)
        for name, step in (("near", 0.1), ("far", 1.0))
    ),
)
SETTINGS = Settings(num_seeds=2, num_tuning_seeds=1)


def curves(folder):
    """All but the times that steps took."""
    with np.load(folder / "curves.npz") as file:
        return {name: file[name] for name in file.files if "seconds" not in name}


def test_an_evaluation_goes_on_where_it_was(tmp_path):
    settings = SETTINGS._replace(cache_dir=tmp_path / "cache")

    def stop(done, total, what):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path / "parts", SUITE, parse_entries(["adam"]), settings, stop)
    evaluate(tmp_path / "parts", SUITE, parse_entries(["adam"]), settings)
    other = SETTINGS._replace(cache_dir=tmp_path / "other")
    evaluate(tmp_path / "whole", SUITE, parse_entries(["adam"]), other)
    parts, whole = curves(tmp_path / "parts"), curves(tmp_path / "whole")
    assert parts.keys() == whole.keys()
    for name, values in whole.items():
        np.testing.assert_array_equal(parts[name], values, err_msg=name)
    report = json.loads((tmp_path / "parts" / "report.json").read_text())
    assert [row["task"] for row in report["rows"]] == ["near", "far"]
