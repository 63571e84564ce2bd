"""Forty mistakes on the command line, each answered by exit status 2 and one line that says what
is wrong, and by nothing else.
"""

import pytest

from learned_opt_lab.cli.main import main

MISTAKES = {
    "evalute adam": "unknown command 'evalute'; did you mean evaluate",
    "qqq": "unknown command 'qqq'; known are train, resume",
    "--show-completion fish": "completion is for bash or zsh, got fish",
    "train": "learned-opt train needs a config first",
    "train --seed 3": "learned-opt train needs a config first",
    "train quikstart": "unknown config 'quikstart'; did you mean quickstart",
    "train zzz": "unknown config 'zzz'; known are quickstart",
    "train mine.py": "there is no config file mine.py",
    "train mine.json": "there is no config file mine.json",
    "train quadratic 3": "learned-opt train quadratic does not take '3'",
    "train quadratic --sead 3": "unknown option --sead; did you mean --seed",
    "train quadratic --seed": "--seed needs INT, got nothing",
    "train quadratic --seeds": "--seeds needs INT ..., got nothing",
    "train quadratic --sweep --seed 3": "--sweep needs TEXT ..., got nothing",
    "train quadratic --tracker": "--tracker needs tensorboard|wandb|mlflow|trackio ..., got",
    "evaluate adam --out x --budgets": "--budgets needs INT ..., got nothing",
    "train quadratic --run-dir=": "--run-dir must be a path, got nothing",
    "train quadratic --seed 1.5": "--seed must be a whole number, got '1.5'",
    "train quadratic --seed 3 4": "learned-opt train quadratic does not take '4'",
    "train quadratic --estimator.std big": "--estimator.std must be a number, got 'big'",
    "train quadratic --problem.objective test": "--problem.objective must be one of valid, train",
    "train quadratic --truncation.low 3": "an option of truncation:log-uniform; choose it first",
    "train quadratic estimator:es": "unknown choice 'estimator:es'; did you mean estimator:",
    "train quadratic --family.kwargs a": "--family.kwargs is an option of family:custom",
    "train quadratic family:custom --family.kwargs a": "--family.kwargs takes pairs",
    "train quadratic --sweep seed": "--sweep takes FIELD=VALUE,VALUE",
    "train quadratic --sweep sead=1,2": "unknown option --sead; did you mean --seed",
    "train quadratic --seeds 1 1": "values of seed must differ, got 1, 1",
    "train quadratic --seeds 1 --sweep seed=2": "each field is swept once, got seed, seed",
    "train quadratic --gpus-per-worker 1": "--gpus-per-worker is for --engine ray",
    "resume": "learned-opt resume needs RUN",
    "resume nowhere": "nowhere holds no run",
    "resume nowhere --alow-restart": "unknown option --alow-restart; did you mean --allow-restart",
    "search quadratic": "quadratic has no search",
    "search general --generations 0": "--generations must be at least 1, got 0",
    "list optimisers": "WHAT must be one of all, configs",
    "list tasks suites": "learned-opt list does not take 'suites'",
    "evaluate --out x": "learned-opt evaluate needs OPTIMIZERS ...",
    "evaluate adam": "learned-opt evaluate needs --out PATH",
    "evaluate adam --out x --leagues untund": "--leagues must be one of untuned, equal_budgets",
    "evaluate adam --out x --suite quik": "unknown suite 'quik'; did you mean quick",
    "evaluate adam --out x --max-minutes soon": "--max-minutes must be a number, got 'soon'",
    "tune adamm": "unknown baseline 'adamm'; did you mean adam",
    "tune adam --budget 0": "budget and num_tuning_seeds must be at least 1, got 0, 3",
    "tune adam --over quadratic --num-runs 0": "num_runs must be at least 1, got 0",
    "tune adam --over quadratic --objective test": "--objective must be one of valid, train",
    "tune adam --task x": "unknown task 'x'; suite 'quick' has quick_digits_mlp",
    "ablate quadratic --variants megred": "unknown variant 'megred'; did you mean merged",
    "ablate quadratic --lengths 10,x": "lengths must be whole numbers",
    "ablate quadratic --num-seeds 0": "num_seeds must be at least 1, got 0",
    "ablate quadratic --lengths 10,x%": "or shares such as 10%",
    "ablate quadratic --num-other-seeds 4": "num_other_seeds must be at most num_seeds, 3, got 4",
    "ablate quadratic --outer-rates 0.1 0": "outer_rates must be above 0",
    "ablate quadratic --variant fast": "--variant takes NAME:FIELD=VALUE",
    "ablate quadratic --variant fast:outer-optimizer.rate=1": "unknown option",
    "ablate quadratic --variant fast:seed=1": "'fast' changes seed, which all variants share",
    "ablate quadratic --variants no_tim": "unknown variant 'no_tim'; did you mean no_time",
    "reproduce": "learned-opt reproduce needs an experiment first",
    "reproduce outer_landscpe --out x": "unknown experiment 'outer_landscpe'; did you mean outer_",
    "variance quadratic --estimators megred": "unknown estimator 'megred'; did you mean merged",
    "variance quadratic --lengths 0": "lengths must lie in [1, 100]",
    "bench --parts gpu": "--parts must be one of outer_training, cnn",
    "bench --num-repeats 0": "num_repeats must be at least 1, got 0",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_answered_by_a_line(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    status = main(line.split())
    shown = capsys.readouterr()
    (told,) = shown.err.splitlines()
    assert (status, shown.out) == (2, "")
    assert MISTAKES[line] in told
    assert len(told) <= 400
    assert {path.name for path in tmp_path.iterdir()} <= {"cache"}
