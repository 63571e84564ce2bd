"""Bad input on the command line:
exit status 2, a first line that says what is wrong, nothing written.
"""

import pytest

import tasks
from learned_opt_lab.cli.commands import evaluate
from learned_opt_lab.cli.main import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "adam", "--suite", "quik"], "unknown suite 'quik'; did you mean quick?"),
        (["evaluate", "adam", "--suite", "reall"], "unknown suite 'reall'; did you mean real"),
        (["evaluate", "nosuch"], "no learned optimizer 'nosuch'"),
        (["evaluate", "adam", "--num-seeds", "0"], "num_seeds must be at least 1"),
        (["evaluate", "adam", "--max-minutes", "0"], "max_minutes must be above 0, got 0"),
        (["evaluate", "adam", "--max-minutes", "nan"], "max_minutes must be above 0, got nan"),
        (["evaluate", "adam", "--budget", "0"], "budget must be at least 1"),
        (["evaluate", "adam", "--reference", "x"], "unknown reference 'x'"),
        (["evaluate"], "learned-opt evaluate needs OPTIMIZERS ..."),
    ],
)
def test_bad_input_to_evaluate(arguments, message, tmp_path, capsys):
    status = main([*arguments, "--out", str(tmp_path / "out"), "--no-compilation-cache"])
    lines = capsys.readouterr().err.splitlines()
    assert status == 2
    assert message in lines[0]
    assert len(lines) <= 5
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "adma"], "did you mean adam"),
        (["evaluate", "moun", "adam"], "did you mean muon"),
        (["evaluate", "math:sqrt"], "math:sqrt is no factory of an optimizer"),
        (["evaluate", "optax:adma"], "did you mean adam"),
        (["evaluate", "adam@linaer"], "did you mean linear"),
        (["evaluate", "adam", "--leagues", "equal_budgets", "--budgets", "5", "0"], "got 0"),
        (["evaluate", "adam", "--leagues", "equal_budgets", "--budgets"], "--budgets needs INT"),
        (["evaluate", "rtho", "--leagues", "untuned"], "rtho has no published default"),
        (["evaluate", "rtho", "--suite", "real_quick"], "(--leagues none runs none)"),
        (["evaluate", "adam", "--leagues", "none", "untuned"], "none or others, not both"),
        (["evaluate", "adam", "--suite", "real", "--budget", "8"], "add --leagues none"),
        (["evaluate", "adam", "--budgets", "1", "5"], "add --leagues equal_budgets"),
        (["evaluate", "adam", "--leagues", "untuned", "--budgets", "5"], "--leagues equal_budgets"),
    ],
)
def test_bad_rivals_are_one_line(arguments, message, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    status = main([arguments[0], *out, "--no-compilation-cache", *arguments[1:]])
    (line,) = capsys.readouterr().err.splitlines()
    assert status == 2
    assert message in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("said", "leagues", "budgets", "num_seeds"),
    [
        ({}, ("untuned", "equal_budgets"), (1, 5), 3),
        ({"leagues": ("untuned",)}, ("untuned",), (1, 5), 3),
        ({"leagues": ("none",), "budget": 8}, (), (1, 5), 3),
        ({"budgets": (1, 11), "num_seeds": 5}, ("untuned", "equal_budgets"), (1, 11), 5),
    ],
)
def test_real_is_judged_in_leagues_unless_told_otherwise(said, leagues, budgets, num_seeds):
    args = evaluate.Args(("adam",), out="out", suite="real", **said)
    settings = evaluate.settings_of(args, tasks.suite("real"))
    assert (settings.leagues, settings.budgets) == (leagues, budgets)
    assert (settings.num_seeds, settings.num_tuning_seeds) == (num_seeds, 1)
    assert settings.budget == said.get("budget", 64)


def test_baselines_are_listed(capsys):
    assert main(["list", "baselines"]) == 0
    out = capsys.readouterr().out
    for name in ("muon", "schedule_free", "sophia", "adam8", "marthe"):
        assert f"\n  {name} " in out
    assert main(["list", "rivals"]) == 0
    assert "untuned at rate 0.001 (arXiv 1412.6980" in capsys.readouterr().out


def test_a_damaged_theta_and_a_foreign_folder(tmp_path, capsys):
    (tmp_path / "theta.npz").write_bytes(b"PK cut short")
    (tmp_path / "theta.json").write_text(
        '{"format_version": 1, "optimizer": "mlp", "kwargs": {}, "shapes": {}}'
    )
    out = str(tmp_path / "out")
    assert (
        main(["evaluate", str(tmp_path / "theta.npz"), "--out", out, "--no-compilation-cache"]) == 2
    )
    assert "theta.npz" in capsys.readouterr().err
    assert main(["evaluate", "adam", "--out", str(tmp_path), "--no-compilation-cache"]) == 2
    assert "choose another folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tune", "adamm"], "did you mean"),
        (["tune", "adam", "--task", "x"], "suite 'quick' has quick_digits_mlp"),
        (["tune", "adam8", "--budget", "0"], "budget"),
    ],
)
def test_bad_input_to_tune(arguments, message, capsys):
    assert main([*arguments, "--no-compilation-cache"]) == 2
    assert message in capsys.readouterr().err
