"""What an outer step takes is told before anything is written; what does not fit is refused with
what would; `chunk_size` is chosen for a limit, and changes nothing but memory.
"""

import dataclasses
import json

import jax
import numpy as np
import pytest

from configs import base, quadratic
from learned_opt_lab import runs
from learned_opt_lab.cli.main import main
from learned_opt_lab.runs import build, fitting
from outer_train import memory
from outer_train.step import OuterStep

STEPS = 300


def config(**fields) -> base.TrainConfig:
    """Four pairs of quadratics that are differentiated over a whole episode."""
    return dataclasses.replace(
        quadratic.config,
        family=base.RandomQuadratic(dim=10),
        optimizer=base.NamedOptimizer("adam"),
        problem=base.InnerProblem(num_steps=STEPS),
        estimator=base.Merged(num_pairs=4, chunk_size=STEPS),
        truncation=base.Constant(STEPS),
        held_out=base.HeldOut(num_tasks=0),
        num_outer_steps=2,
        **fields,
    )


@pytest.fixture(scope="module")
def unlimited() -> tuple[build.Built, str]:
    """With the chunk size of the config, and the line that is told."""
    told = []
    return fitting.fit(config(), build.build(config(), 2), told.append), told[0]


@pytest.fixture(scope="module")
def limited(unlimited) -> build.Built:
    """With two thirds of that memory."""
    limit = 2 / 3 * unlimited[0].memory["outer_step_bytes"] / 1e9
    tight = config(memory_limit_gb=limit)
    return fitting.fit(tight, build.build(tight, 2))


def test_kept_states_are_counted():
    assert memory.num_kept_states(200, 50) == 4 + 50
    assert memory.num_kept_states(200, 14) == 15 + 14
    assert memory.num_kept_states(200, 1000) == memory.num_kept_states(200, 200) == 200


def test_bytes_as_a_person_reads_them():
    sizes = (45.3e9, 40e9, 1.738e9, 12.3e6, 129e3)
    assert [*map(memory.shown, sizes)] == ["45.3 GB", "40 GB", "1,738 MB", "12.3 MB", "0.129 MB"]


def test_the_line_says_what_the_compiler_says(unlimited):
    built, line = unlimited
    found = built.step.step.memory_analysis()
    each = found.argument_size_in_bytes + found.output_size_in_bytes
    each += found.temp_size_in_bytes - found.alias_size_in_bytes
    host = memory.host_bytes()
    assert built.memory == {
        "outer_step_bytes": 2 * each,  # both CPU devices lie in the host's memory
        "available_bytes": host,
        "allowed_bytes": host,
        "chunk_size": STEPS,
    }
    assert line == (
        f"an outer step takes {memory.shown(2 * each)} of memory; {memory.shown(host)} are there"
    )


def test_a_limit_chooses_a_chunk_size_that_keeps_to_it(unlimited, limited):
    whole = unlimited[0].memory["outer_step_bytes"]
    assert limited.memory["outer_step_bytes"] <= limited.memory["allowed_bytes"] < whole
    assert 1 < limited.memory["chunk_size"] < STEPS


def test_the_kept_states_are_what_the_chunk_size_saves(unlimited, limited):
    """The prediction of other chunk sizes, which the refusal tells, against the compiler's."""
    sizes = fitting._sizes(config(), unlimited[0])
    chunk_size = limited.memory["chunk_size"]
    saved = (STEPS - memory.num_kept_states(STEPS, chunk_size)) * sizes.kept
    whole = unlimited[0].memory["outer_step_bytes"]
    assert whole - limited.memory["outer_step_bytes"] == pytest.approx(saved, rel=0.1)


def test_the_result_is_the_same_up_to_rounding(unlimited, limited):
    def last(built):
        state = built.step.init(built.theta, built.key)
        key = jax.device_put(built.key, state.step.sharding)
        for _ in range(2):
            state, metrics = built.step.step(state, key, built.datas)
        return jax.device_get((state.theta, metrics["outer_loss"], metrics["grad_norm"]))

    one, other = last(unlimited[0]), last(limited)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), one, other)


def _refused(monkeypatch, needed: int, available: int, **fields) -> str:
    """The message, with a compiler that says `needed`."""
    monkeypatch.setattr(memory, "program_bytes", lambda program, devices: needed)
    monkeypatch.setattr(memory, "host_bytes", lambda: available)
    monkeypatch.setattr(fitting, "_compiled", lambda config, built, size: built.step)
    chosen = dataclasses.replace(config(), **fields)
    with pytest.raises(ValueError, match=r"^an outer step needs") as refusal:
        fitting.fit(chosen, build.build(chosen, 2))
    return str(refusal.value)


def test_what_does_not_fit_is_refused_with_the_chunk_size_that_does(monkeypatch):
    # Four pairs, both sides: parameters, two moments, Adam's count and the step counter.
    kept = 8 * 4 * (10 + 2 * 10 + 1 + 1)
    needed = 10**5 * kept  # of which 300 are kept states
    available = needed - 130 * kept
    monkeypatch.setattr(memory, "shown", str)
    assert _refused(monkeypatch, needed, available).splitlines() == [
        f"an outer step needs {needed} of memory, {available} are there",
        # 170 states: 168 in a chunk, and the starts of two.
        f"--estimator.chunk-size 168 needs about {available}",
    ]


def test_or_with_fewer_particles(monkeypatch):
    estimator = base.PersistentES(num_pairs=16)
    line = _refused(monkeypatch, 45 * 10**9, 30 * 10**9, estimator=estimator)
    assert line.splitlines() == [
        "an outer step needs 45 GB of memory, 30 GB are there",
        "--estimator.num-pairs 10 needs about 28.1 GB",
    ]


def test_or_with_nothing_where_nothing_does(monkeypatch):
    estimator = base.PersistentES(num_pairs=2)
    line = _refused(monkeypatch, 45 * 10**9, 30 * 10**9, estimator=estimator, memory_limit_gb=20.0)
    assert line == "an outer step needs 45 GB of memory, 20 GB are allowed by memory_limit_gb"


def test_the_program_that_is_analysed_runs_and_no_other(monkeypatch, tmp_path, capsys):
    """One run of the command: its line, its JSON, and no second compilation."""
    jitted = []

    compiled_ahead = fitting.compiled_ahead

    def spied(run: OuterStep, *args):
        jitted.append(run.step)
        return compiled_ahead(run, *args)

    monkeypatch.setattr(fitting, "compiled_ahead", spied)
    argv = (
        "train quadratic --family.dim 2 --optimizer.hidden-sizes 2 --problem.num-steps 8 "
        "--estimator.num-pairs 2 --truncation.num-steps 2 --held-out.num-tasks 0 "
        f"--num-outer-steps 2 --no-compilation-cache --run-dir {tmp_path / 'run'}"
    )
    assert main(argv.split()) == 0
    (step,) = jitted
    assert step._cache_size() == 0  # never called by itself
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("an outer step takes ") for line in lines)
    about = json.loads((tmp_path / "run" / "summary.json").read_text())["memory"]
    assert about["outer_step_bytes"] < 10**7 < about["available_bytes"]
    assert about["chunk_size"] is None


def test_the_command_refuses_with_status_2_and_writes_nothing(tmp_path, capsys):
    argv = (
        "train quadratic --family.dim 2 --optimizer.hidden-sizes 2 --problem.num-steps 8 "
        "--estimator.num-pairs 2 --truncation.num-steps 2 --memory-limit-gb 1e-6 "
        f"--no-compilation-cache --run-dir {tmp_path / 'run'}"
    )
    assert main(argv.split()) == 2
    error = capsys.readouterr().err
    assert "0.001 MB are allowed by memory_limit_gb" in error
    assert len(error.splitlines()) <= 2
    assert not (tmp_path / "run").exists()


def test_a_limit_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"memory_limit_gb must be above 0 and finite.*got 0"):
        runs.train(config(memory_limit_gb=0.0), tmp_path)
    with pytest.raises(ValueError, match="memory_limit_gb is for runs in step"):
        runs.train(config(memory_limit_gb=1.0), tmp_path, engine=runs.Ray())
