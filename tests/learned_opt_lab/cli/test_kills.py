"""Commands that are killed at random moments, again and again,
end with the results of those left alone, to the bit.

`LEARNED_OPT_KILLS` says how many kills there are, 100 if it is not set, spread over the commands,
and `LEARNED_OPT_KILLS_SEED` when they come.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from outer_train.run import metrics

KILLS = int(os.environ.get("LEARNED_OPT_KILLS", "100"))
SEED = int(os.environ.get("LEARNED_OPT_KILLS_SEED", "0"))
KILLS_IN_A_ROW = 4
"""Of one piece of work, before it is left to end."""
TIMINGS = {
    "seconds",
    "inner_steps_per_second",
    "made",
    "minutes",
    "ended",
    "cached",
    "tuning_source",
    "timing",
    "created",
    "date",
    "started",
    "cache",
    "sha256",
    "arrays_sha256",
    "memory",
}
"""Fields that hold times, digests of these, where a result came from, or what memory a step took,
which is unknown where only the scoring was left."""
TRAIN = [
    "quadratic", "--family.dim", "2", "--estimator.num-pairs", "2", "--problem.num-steps", "8",
    "--truncation.num-steps", "2", "--optimizer.hidden-sizes", "2", "--num-outer-steps", "40",
    "--checkpoint-every", "6", "--held-out.num-tasks", "2", "--held-out.num-steps", "5",
    "--num-devices", "1",
]  # fmt: skip
ABLATE = [
    "quadratic", "--family.dim", "2", "--estimator.num-pairs", "2", "--problem.num-steps", "8",
    "--truncation.num-steps", "4", "--lengths", "2,4", "--num-inner-steps", "200", "--num-tasks",
    "2", "--num-points", "2", "--optimizer.hidden-sizes", "2", "--variants",
    "persistent_es,evolution_strategies", "--num-seeds", "2", "--seeds-at-once", "1",
    "--outer-rates", "0.001", "0.01", "--num-devices", "1",
]  # fmt: skip


class Server:
    """Runs commands, one at a time."""

    def __init__(self, directory: Path):
        environment = os.environ | {
            "XDG_CACHE_HOME": str(directory / "cache"),
            "JAX_PLATFORMS": "cpu",
        }
        environment.pop("XLA_FLAGS", None)
        self.log = directory / "log.txt"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.lab.kill_server"],
            cwd=Path(__file__).parents[3],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, argv: list[str], kill_after: float | None = None) -> tuple[int, float]:
        """Returns exit status and seconds."""
        order = {"argv": argv, "log": str(self.log), "kill_after": kill_after}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return answer["status"], answer["seconds"]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(timeout=60)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.close()


def train(out: Path) -> list[str]:
    return (
        resume(out) if (out / "config.json").exists() else ["train", *TRAIN, "--run-dir", str(out)]
    )


def resume(out: Path) -> list[str]:
    return ["resume", str(out), "--num-devices", "1"]


def evaluate(out: Path) -> list[str]:
    few = ["--num-seeds", "2", "--num-tuning-seeds", "1", "--num-devices", "1"]
    return [
        "evaluate",
        "sgd",
        "general",
        "--suite",
        "tiny",
        "--out",
        str(out),
        "--cache-dir",
        f"{out}_cache",
        *few,
    ]


def tune(out: Path) -> list[str]:
    few = ["--num-tuning-seeds", "1", "--num-devices", "1"]
    return ["tune", "sgd", "momentum", "--suite", "tiny", "--cache-dir", str(out), *few]


def ablate(out: Path) -> list[str]:
    return ["ablate", *ABLATE, "--out", str(out)]


COMMANDS = {"train": train, "resume": resume, "evaluate": evaluate, "tune": tune, "ablate": ablate}


def without_timings(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            k: without_timings(v)
            for k, v in value.items()
            if k not in TIMINGS and "second" not in k
        }
    return [without_timings(each) for each in value] if isinstance(value, list) else value


def results(out: Path) -> dict[str, Any]:
    """Every result that the command has left: arrays to the bit, JSON with its timings left out."""
    found = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if (
            name.startswith(("checkpoints", "newest_checkpoint", "versions.json"))
            or not path.is_file()
        ):
            continue
        if path.name == "metrics.jsonl":
            found[name] = [without_timings(row) for row in metrics.read_rows(path)]
        elif path.suffix == ".json":
            found[name] = without_timings(json.loads(path.read_text()))
        elif path.suffix == ".npz":
            with np.load(path) as arrays:
                kept = [
                    each for each in arrays.files if each not in TIMINGS and "second" not in each
                ]
                found[name] = {each: (arrays[each].shape, arrays[each].tobytes()) for each in kept}
        else:
            found[name] = path.suffix
    return found


def prepare(command: str, out: Path, whole_run: Path) -> None:
    """What is there before the command is first called."""
    if command == "resume":
        shutil.copytree(whole_run, out)
        for name in ("summary.json", "theta.npz", "theta.json", "heldout_curves.npz"):
            (out / name).unlink()
        for path in (out / "checkpoints").iterdir():
            if path.name.isdigit() and int(path.name) != min_checkpoint(whole_run):
                shutil.rmtree(path)


def min_checkpoint(run: Path) -> int:
    return min(int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdigit())


@pytest.fixture(scope="module")
def whole(server, tmp_path_factory) -> dict[str, Path]:
    """Each command's results when it is left alone.

    The second time, programs come from the cache, and are timed.
    """
    directory = tmp_path_factory.mktemp("whole")
    server.run(train(directory / "first"))
    done, seconds = {}, {}
    for command, argv in COMMANDS.items():
        for turn in ("warm", "whole"):
            out = directory / f"{command}_{turn}"
            prepare(command, out, directory / "first")
            status, seconds[command] = server.run(argv(out))
            assert status == 0, server.log.read_text()[-2000:]
        done[command] = out
        assert results(directory / f"{command}_warm") == results(out), (
            "two runs left alone must agree"
        )
    return done | {"seconds": seconds, "run": directory / "first"}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_killed_at_random_moments_it_ends_as_if_left_alone(command, whole, server, tmp_path, tell):
    rng = random.Random(f"{SEED} {command}")
    wanted = KILLS // len(COMMANDS) + (list(COMMANDS).index(command) < KILLS % len(COMMANDS))
    expected, kills, endings = results(whole[command]), 0, 0
    while kills < wanted:
        out = tmp_path / f"{endings}"
        prepare(command, out, whole["run"])
        status = None
        for _ in range(min(KILLS_IN_A_ROW, wanted - kills)):
            status, _ = server.run(
                COMMANDS[command](out), kill_after=rng.uniform(0, whole["seconds"][command])
            )
            assert status in (0, -signal.SIGKILL), server.log.read_text()[-2000:]
            kills += status == -signal.SIGKILL
            if status == 0:
                break
        if status != 0:
            status, _ = server.run(COMMANDS[command](out))
        assert status == 0, server.log.read_text()[-2000:]
        assert results(out) == expected
        endings += 1
    tell(f"{command}: {kills} kills, {endings} pieces of work, all as if left alone")
