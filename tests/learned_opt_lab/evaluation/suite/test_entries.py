"""Who takes part: labels, digests, and the choice among seeds by outer-training loss alone."""

import json
import os

import jax
import pytest

from learned_opt import mlp, save
from learned_opt_lab.evaluation.suite.entries import Entry, parse_entries, pick_by_outer_loss

KWARGS = {"hidden_sizes": [4]}


def write_run(path, outer_loss, held_out, seed=0):
    """A finished run directory, as outer-training leaves it."""
    path.mkdir(parents=True)
    save(path / "theta.npz", "mlp", KWARGS, mlp(**KWARGS).init(jax.random.key(seed)))
    summary = {"outer_loss_last": outer_loss, "heldout": {"learned": held_out}}
    (path / "summary.json").write_text(json.dumps(summary))
    return path


@pytest.fixture
def runs(tmp_path):
    """The run with the best held-out loss has not the best outer-training loss."""
    return [
        write_run(tmp_path / f"seed{i}", *losses, seed=i)
        for i, losses in enumerate([(0.5, 0.1), (0.3, 0.9), (0.4, 0.5)])
    ]


@pytest.mark.parametrize("form", ["glob", "commas"])
def test_of_several_seeds_the_one_with_the_lowest_outer_loss_is_shown(form, runs, tmp_path):
    spec = f"{tmp_path}/seed*" if form == "glob" else ",".join(map(str, runs))
    (entry,) = parse_entries([f"mine={spec}"])
    assert entry.label == "mine"
    assert entry.details["path"] == str(runs[1])
    assert entry.details["picked_by"] == "outer_loss_last"
    assert [c["outer_loss_last"] for c in entry.details["candidates"]] == [0.5, 0.3, 0.4]
    (alone,) = parse_entries([str(runs[1])])
    assert entry.fingerprint == alone.fingerprint
    assert alone.label == "seed1"


def test_a_run_whose_outer_loss_is_nan_is_never_picked(runs, tmp_path):
    broken = write_run(tmp_path / "broken", float("nan"), 0.0)
    path, details = pick_by_outer_loss([broken, runs[0]])
    assert path == runs[0]
    assert details["candidates"][0]["outer_loss_last"] is None
    json.dumps(details, allow_nan=False)


def test_labels_and_specs(runs):
    entries = parse_entries(
        ["adam", "again=adam", f"x={runs[0]}/theta.npz", str(runs[1] / "theta.npz")]
    )
    assert [entry.label for entry in entries] == ["adam", "again", "x", "seed1"]
    assert [entry.baseline for entry in entries] == ["adam", "adam", None, None]
    assert len({entry.fingerprint for entry in entries}) == 3


def test_digest_follows_the_weights(runs):
    entries = parse_entries([str(run) for run in runs])
    assert len({entry.fingerprint for entry in entries}) == 3
    same = Entry("other", "other", optimizer=entries[0].optimizer, theta=entries[0].theta)
    assert same.fingerprint == entries[0].fingerprint


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ([], "no optimizer given"),
        (["=adam"], "expected SPEC or label=SPEC"),
        (["x="], "expected SPEC or label=SPEC"),
        (["x=adam", "x=sgd"], "label 'x' is given to several"),
        ([" =adam"], "expected SPEC or label=SPEC"),
        (["adam=general"], "'adam' is the name of another optimizer than 'general'"),
        (["a\nb=adam"], "characters that cannot be shown"),
        (["\x1b[31mred=adam"], "characters that cannot be shown"),
        (["adan"], "did you mean adam"),
        (["genral"], r"neither path nor name; did you mean general or [a-z_]+\?$"),
        (["zzzzzz"], r"neither path nor name; known are: [^;]*$"),
        (["nowhere/*"], "is no run directory"),
    ],
)
def test_bad_specs(specs, message):
    with pytest.raises(ValueError, match=message):
        parse_entries(specs)


@pytest.mark.parametrize("text", [None, "1" * 400, "[" * 100_000, "7", "pipe"])
def test_a_run_without_a_summary_cannot_be_picked(text, runs, tmp_path):
    summary = runs[2] / "summary.json"
    summary.unlink()
    if text == "pipe":
        os.mkfifo(summary)
    elif text is not None:
        summary.write_text(f'{{"outer_loss_last": {text}}}' if text[:2] == "11" else text)
    with pytest.raises(ValueError, match="no outer_loss_last"):
        parse_entries([f"{tmp_path}/seed*"])


def test_a_variant_may_have_the_name_of_what_it_is_of():
    (entry,) = parse_entries(["adam=adam@cosine"])
    assert (entry.label, entry.kind) == ("adam", "baseline")
