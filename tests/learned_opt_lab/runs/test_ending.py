"""What the end of a run says: what is held out and what is not,
and that nothing learned is no success.
"""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from configs import base
from learned_opt_lab.runs import ending
from learned_opt_lab.runs.catalog import CONFIGS, load
from learned_opt_lab.runs.engines.base import Trained
from learned_opt_lab.runs.families import scored_on
from outer_train.run import TERMINAL, RunDirectory

OWN = base.CustomFamily(target="tasks.images.autoencoder:tfds_autoencoder_family")
TEXT = "tasks.text:char_family"
CURVES = {
    name: np.full((2, 3), 0.5) for name in ("learned", "untrained", "adam_tuned", "adam_1e-3")
}


def row(step, loss):
    return {
        "outer_step": step,
        "outer_loss": loss,
        "inner_steps": 10 * step,
        "truncation_length": 5,
        "seconds": 1.0,
        "num_live_inner_steps": 10,
        "num_non_finite": int(loss is None),
    }


def finish(losses, tmp_path, monkeypatch, family=None):
    run = RunDirectory(tmp_path)
    run.metrics.write_text(
        "".join(json.dumps(row(i, loss)) + "\n" for i, loss in enumerate(losses))
    )
    config = dataclasses.replace(load("quadratic")[0], family=family or base.RandomQuadratic())
    monkeypatch.setattr(ending.learned_opt, "save", lambda *args: None)
    monkeypatch.setattr(ending, "score", lambda *args: (dict.fromkeys(CURVES, 0.5), CURVES))
    built = SimpleNamespace(optimizer_name="mlp", optimizer_kwargs={})
    return ending.finish(config, built, run, Trained(None, None, {"num_devices": 1}), TERMINAL)


def test_a_run_without_a_finite_loss_is_an_error_and_whole(tmp_path, monkeypatch, capsys):
    with pytest.raises(
        ending.NothingLearned, match="no outer loss of this run was finite"
    ) as caught:
        finish([None] * 12, tmp_path, monkeypatch)
    summary = caught.value.result.summary
    assert summary == json.loads((tmp_path / "summary.json").read_text())
    assert (summary["outer_loss_first"], summary["outer_loss_last"], summary["num_non_finite"]) == (
        None,
        None,
        12,
    )
    assert (tmp_path / "figures" / "outer_loss.png").exists()
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "outer loss unknown -> unknown" in shown.out


def test_an_unknown_end_is_null_and_no_zero(tmp_path, monkeypatch):
    summary = finish([2.0] * 6 + [None] * 6, tmp_path, monkeypatch).summary
    assert summary == json.loads((tmp_path / "summary.json").read_text())
    assert (summary["outer_loss_first"], summary["outer_loss_last"]) == (2.0, None)


def test_nothing_is_called_held_out_without_a_held_out_family(tmp_path, monkeypatch, capsys):
    summary = finish([2.0] * 6, tmp_path, monkeypatch, OWN).summary
    assert summary["training_family"]["learned"] == 0.5
    assert "held" not in json.dumps(summary).replace("held_out", "held")
    names = {path.name for path in tmp_path.rglob("*")}
    assert {"training_family_curves.npz", "training_family.png"} <= names
    assert not [name for name in names if "held" in name]
    assert "held-out" not in capsys.readouterr().out


@pytest.mark.parametrize("name", CONFIGS)
def test_what_shipped_configs_score_is_held_out(name):
    assert scored_on(load(name)[0]) == "heldout"


DIGITS = base.ClassSubset(dataset="digits", num_train_classes=7)


@pytest.mark.parametrize(
    ("family", "extra", "expected"),
    [
        (OWN, (), "training_family"),
        (dataclasses.replace(OWN, held_out_target=OWN.target), (), "training_family"),
        (dataclasses.replace(OWN, held_out_target=TEXT), (), "heldout"),
        (
            dataclasses.replace(OWN, held_out_target=TEXT),
            (base.CustomFamily(target=TEXT),),
            "training_family",
        ),
        (DIGITS, (), "heldout"),
        (DIGITS, (dataclasses.replace(DIGITS, num_classes=2, batch_size=16),), "heldout"),
        (DIGITS, (dataclasses.replace(DIGITS, split_seed=1),), "training_family"),
        (DIGITS, (dataclasses.replace(DIGITS, num_train_classes=8),), "training_family"),
        (DIGITS, (dataclasses.replace(DIGITS, dataset="mnist1d", split_seed=1),), "heldout"),
        (base.RandomQuadratic(), (), "heldout"),
    ],
)
def test_scored_on(family, extra, expected):
    assert scored_on(base.TrainConfig(family=family, extra_families=extra)) == expected
