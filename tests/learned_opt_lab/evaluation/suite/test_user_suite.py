"""A user's own suite: from a file or a module, and every way to get it wrong in one line."""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import pytest

from learned_opt_lab.cli.main import main
from learned_opt_lab.evaluation.suite.user_suite import checked, find_suite
from tasks import SPLITS, StatefulTask, Suite, SuiteTask, Task, TaskFamily

EXAMPLE = Path(__file__).parents[4] / "examples" / "my_suite.py"
HEAD = "from tasks import Suite, SuiteTask\nfrom tasks.suite_tasks import quadratic\n"
TASK = "SuiteTask('q', lambda: quadratic(2), 20, 10, 'two')"
SUITE = f"Suite('mine', 1, 'one', ({TASK},))"

NAN = """
import jax.numpy as jnp
from tasks import Task, TaskFamily
batch = lambda data, key, split: jnp.ones(2)
task = Task(lambda key: jnp.zeros(2), lambda p, key, b: (p[0] / p[1], {}), batch)
build = lambda: TaskFamily(lambda key: (), lambda drawn: task)
suite = Suite('m', 1, '', (SuiteTask('q', build, 20, 10, ''),))
"""


def family(loss):
    task = Task(lambda key: jnp.zeros(2), loss, lambda data, key, split: jnp.ones(2))
    return TaskFamily(lambda key: (), lambda drawn: task)


def measured(loss):
    """A family that trains well and is measured at that loss."""
    train = lambda p, state, key, batch: (jnp.sum(p**2), (state, {}))
    init = lambda key: (jnp.zeros(2), ())
    batch = lambda data, key, split: jnp.ones(2)
    task = StatefulTask(init, train, lambda *arguments: (loss, {}), batch)
    return TaskFamily(lambda key: (), lambda drawn: task)


def without(split):
    """A family whose data has no such split."""
    batches = {name: jnp.ones(2) for name in SPLITS if name != split}
    task = Task(
        lambda key: jnp.zeros(2),
        lambda p, key, batch: (jnp.sum(p * batch), {}),
        lambda data, key, split: batches[split],
    )
    return TaskFamily(lambda key: (), lambda drawn: task)


def one(build, **options):
    given = {"num_steps": 20, "eval_every": 10, **options}
    return Suite("mine", 1, "one", (SuiteTask("t", build, description="", **given),))


def test_the_example_is_a_suite():
    suite = find_suite(str(EXAMPLE))
    assert [task.name for task in suite.tasks] == ["my_sine", "my_diabetes"]


@pytest.mark.parametrize("text", [f"suite = {SUITE}", f"def suite():\n    return {SUITE}"])
def test_a_file_and_a_module(text, tmp_path, monkeypatch):
    (tmp_path / "mine_of_test.py").write_text(HEAD + text)
    assert find_suite(str(tmp_path / "mine_of_test.py")).name == "mine"
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "mine_of_test", raising=False)
    assert find_suite("mine_of_test:suite").name == "mine"
    with pytest.raises(ValueError, match="did you mean"):
        find_suite("mine_of_test:suit")


def test_a_task_with_model_state():
    def loss(params, state, key, batch):
        return jnp.sum(params**2) + state, (state + 1.0, {})

    def stateful():
        init = lambda key: (jnp.zeros(2), jnp.zeros(()))
        ends = lambda *arguments: (loss(*arguments)[0], {})
        task = StatefulTask(init, loss, ends, lambda data, key, split: jnp.ones(2))
        return TaskFamily(lambda key: (), lambda drawn: task)

    assert checked(one(stateful), "mine").name == "mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nosuch_module", "cannot be run: ModuleNotFoundError: No module named 'nosuch"),
        ("suite = (", "cannot be run: SyntaxError"),
        ("exit(0)", "cannot be run: SystemExit"),
        ("raise ValueError('one\\ntwo\\nthree')", "cannot be run: ValueError: one"),
        (f"suites = {SUITE}", "must define `suite`, a tasks.Suite; did you mean suites"),
        ("suite = 3", "must be a tasks.Suite, got int"),
        ("def suite(name): return name", "a function without arguments"),
        ("def suite(): return 3", "must be a tasks.Suite, got int"),
        ("def suite() -> int: return 3", "annotated to return int"),
        ("def suite(): raise KeyError('x')", "cannot be made: KeyError"),
        ("suite = len", "a tasks.Suite, or a function"),
        ("suite = Suite('mine', 1, 'none', ())", "must have tasks"),
        ("suite = Suite('mine', 1, 'none', ('q',))", "tasks must be tasks.SuiteTask, got str"),
        (f"suite = Suite('mine', 1, 'two', ({TASK}, {TASK}))", "two tasks have the name 'q'"),
        (
            "suite = Suite('m', 1, '', (SuiteTask('q', lambda: 1 / 0, 20, 10, ''),))",
            "task 'q' cannot be built: ZeroDivisionError",
        ),
        (NAN, "task 'q' must start at a finite scalar loss in training, got nan"),
    ],
)
def test_a_file_that_is_wrong_is_told_in_one_line(text, message, tmp_path, capsys):
    path = tmp_path / "my_suite.py"
    path.write_text(HEAD + text)
    out = tmp_path / "out"
    arguments = ["evaluate", "adam", "--suite", str(path), "--out", str(out)]
    assert main([*arguments, "--no-compilation-cache"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not out.exists()


@pytest.mark.parametrize("name", ["nosuch.py", "nosuch:suite", "json:nosuch", "quik"])
def test_what_is_not_there(name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in (["evaluate", "adam", "--out", "out"], ["tune", "adam"]):
        assert main([*command, "--suite", name, "--no-compilation-cache"]) == 2
        assert name in capsys.readouterr().err.splitlines()[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("suite", "message"),
    [
        (one(lambda: 3), "task 't' must build a tasks.TaskFamily, got int"),
        (
            one(lambda: family(lambda p, k, b: (p[0] / p[1], {}))),
            "scalar loss in training, got nan",
        ),
        (
            one(lambda: family(lambda p, k, b: (p, {}))),
            r"loss in training, got shape \[2\]",
        ),
        (one(lambda: family(lambda p, k, b: p[0])), "task 't' has no loss"),
        (one(lambda: family(lambda p, k, b: (jnp.int32(0), {}))), "task 't' has no loss: TypeErr"),
        (one(lambda: family(lambda p, k: (p[0], {}))), "task 't' has no loss: TypeError"),
        (one(None), "build of task 't' must be a function"),
        (one(lambda: 3, num_steps=0), "positive multiple of eval_every, got 0 and 10"),
        (one(lambda: 3, eval_every=3), "positive multiple of eval_every, got 20 and 3"),
        (one(lambda: 3, loss_cap=float("nan")), "loss_cap of task 't' must be positive"),
        (one(lambda: family(lambda p, k, b: (50.0 + p[0], {}))), "loss of 50.*loss_cap of 10"),
        (one(lambda: family(lambda p, k, b: (p[0], [1]))), "task 't' has no loss: AttributeError"),
        (one(lambda: measured(jnp.nan)), "a finite scalar loss on 'outer_valid', got nan"),
        (
            one(lambda: measured(jnp.zeros(2))),
            "eval_loss of a stateful task must return one number",
        ),
        (one(lambda: measured(20.0)), "starts at a loss of 20 on 'outer_valid'"),
        (one(lambda: measured("low")), "task 't' has no loss: TypeError"),
        (one(lambda: without("test")), "task 't' has no loss: KeyError: 'test'"),
        (one(lambda: without("outer_valid")), "task 't' has no loss: KeyError"),
        (dataclasses.replace(one(lambda: 3), num_seeds=0), "num_seeds must be at least 1, got 0"),
        (dataclasses.replace(one(lambda: 3), num_tuning_seeds=1.5), "num_tuning_seeds must be"),
        (dataclasses.replace(one(lambda: 3), budgets=()), "budgets must be counts"),
        (dataclasses.replace(one(lambda: 3), budgets=(1, 0)), "a budget must be at least 1, got 0"),
    ],
)
def test_a_task_that_cannot_be_evaluated(suite, message):
    with pytest.raises(ValueError, match=message):
        checked(suite, "suite x")


def test_data_that_is_not_prepared_is_left_to_the_evaluation():
    from tasks.images import DatasetNotPrepared

    def build():
        raise DatasetNotPrepared("not here")

    assert checked(one(build), "suite x").name == "mine"
