"""An optimizer outer-trained on training or on validation losses, over outer seeds."""

import json

import numpy as np
import pytest

from learned_opt_lab.papers.wang2021 import optimizer_generalization


def test_optimizer_generalization_small(tmp_path):
    config = optimizer_generalization.Config(
        dataset="digits", network="mlp_32", batch_size=8, cells=((200, 0.2),), num_steps=20,
        truncation=10, num_pairs=2, num_outer_steps=4, num_outer_seeds=2, num_runs=3,
        num_records=2,
    )  # fmt: skip
    result = optimizer_generalization.run(config, tmp_path)
    assert json.loads((tmp_path / "result.json").read_text()) == result
    (cell,) = result["cells"]
    means = [cell[name]["test_loss"]["mean"] for name in optimizer_generalization.OBJECTIVES]
    np.testing.assert_allclose(
        cell["test_difference"]["mean"], means[0] - means[1], rtol=1e-4, atol=1e-6
    )
    assert all(0.5 < mean < 5 for mean in means)
    of_seeds = cell["test_difference"]["of_outer_seeds"]
    np.testing.assert_allclose(cell["test_difference"]["mean"], np.mean(of_seeds), rtol=1e-6)
    # Other outer-trainings, other optimizers; for two values the error is half their distance.
    assert of_seeds[0] != of_seeds[1]
    error = cell["test_difference"]["standard_error"]
    np.testing.assert_allclose(error, abs(of_seeds[0] - of_seeds[1]) / 2, rtol=1e-6)


@pytest.mark.parametrize("wrong", [{"num_steps": 99}, {"num_outer_seeds": 0}])
def test_bad_config(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        optimizer_generalization.resolve(optimizer_generalization.Config(**wrong))
