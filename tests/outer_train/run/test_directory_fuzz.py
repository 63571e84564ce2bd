"""A run directory with one file changed at random:
it opens and goes on, or an error names a file; nothing is lost.
"""

import collections
import json
import os
import random
import shutil
import sys
import warnings

import jax
import pytest

import learned_opt
from configs.quadratic import config
from learned_opt_lab.runs.config_json import to_json
from learned_opt_lab.runs.course import read_config
from outer_train.run import directory, metrics
from tests.support.outer_train.runs import new_run, train

MUTATIONS = int(os.environ.get("LEARNED_OPT_MUTATIONS", "300"))
STEPS = {"num_outer_steps": 12, "checkpoint_every": 4, "keep_checkpoints": 10}
HOSTILE = [
    "subprocess:getoutput", "os:system", "../../../etc/passwd", "\u202e\x1b[2J", "", "x" * 10_000,
    None, True, -1, 0, 2**31, 2**63, 10**400, 1e308, -0.5, [], {}, [[]], {"type": "os:system"},
    "module:factory", float("nan"), float("inf"),
]  # fmt: skip
REWRITTEN = ("metrics.jsonl", "newest_checkpoint.json")
started = []
"""Programs that were started, by name of the audit event."""


def watch(event, _args):
    if event in ("subprocess.Popen", "os.system", "os.posix_spawn", "os.exec"):
        started.append(event)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A complete run, with the theta of an optimizer."""
    sys.addaudithook(watch)
    run = new_run(tmp_path_factory.mktemp("whole") / "run", to_json(config))
    train(run, **STEPS)
    kwargs = {"hidden_sizes": [2]}
    theta = learned_opt.mlp(**kwargs).init(jax.random.key(0))
    learned_opt.save(run.theta, "mlp", kwargs, jax.device_get(theta))
    run.summary.write_text(json.dumps({"outer_loss_last": 1.0}))
    return run


def attempt(path, allow_changed_config) -> None:
    """What `resume` and `evaluate` read."""
    run, stored = directory.open_run(path)
    if not allow_changed_config:
        directory.check_config(run, stored)
    read_config(run, stored, trust=False)
    directory.config_file(run)
    train(run, **STEPS)
    metrics.summarize(metrics.read_rows(run.metrics))
    learned_opt.load_theta(run.theta)


def replace_value(rng: random.Random, value, depth=0):
    """The value with a random part of it replaced by a hostile one."""
    if isinstance(value, dict) and value and (depth == 0 or rng.random() < 0.7):
        name = rng.choice(sorted(value))
        if rng.random() < 0.1:
            return {
                **{k: v for k, v in value.items() if k != name},
                rng.choice(["", "x", "type"]): value[name],
            }
        return value | {name: replace_value(rng, value[name], depth + 1)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        index = rng.randrange(len(value))
        return [*value[:index], replace_value(rng, value[index], depth + 1), *value[index + 1 :]]
    return rng.choice(HOSTILE)


def mutate_json(rng, path):
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    index = rng.randrange(len(lines))
    lines[index] = json.dumps(replace_value(rng, json.loads(lines[index])))
    path.write_text("\n".join(lines) + "\n")


def mutate_bytes(rng, path):
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 8])):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(6)
        if kind == 0:
            data = data[:at]
        elif kind == 1 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            data[at:at] = rng.randbytes(rng.choice([1, 64]))
        elif kind == 3:
            data[at:at] = bytes(rng.choice([1, 512]))
        elif kind == 4:
            data[at : at + rng.randrange(1, 64)] = b""
        else:
            data[at:at] = rng.choice([b"\n", b"{", b"[" * 2000, b"\xff\xfe", b"NaN", b"\x80\x04c"])
    path.write_bytes(bytes(data))


def mutate_entry(rng, path):
    kind = rng.randrange(4 if path.name.startswith("theta") else 5)
    path.unlink()
    if kind == 1:
        path.mkdir()
    elif kind == 2:
        path.symlink_to(path.name)
    elif kind == 3:
        path.write_bytes(b"")
    elif kind == 4:
        os.mkfifo(path)


def contents(path) -> collections.Counter:
    found = (each for each in path.rglob("*") if not each.is_symlink() and each.is_file())
    return collections.Counter(each.read_bytes() for each in found if each.name not in REWRITTEN)


@pytest.mark.slow
def test_mutations_of_a_run_directory(whole, tmp_path, tell):
    counts, before_start = collections.Counter(), len(started)
    for number in range(MUTATIONS):
        rng = random.Random(number)
        path = tmp_path / str(number)
        shutil.copytree(whole.path, path)
        files = sorted(each for each in path.rglob("*") if each.is_file())
        small = [each for each in files if each.parent == path]
        target = rng.choice(small if rng.random() < 0.6 else files)
        json_like = target.suffix in (".json", ".jsonl")
        ways = [mutate_bytes, mutate_entry, *([mutate_json] * 2 if json_like else [])]
        mutate = rng.choice(ways)
        mutate(rng, target)
        before = contents(path)
        what = f"mutation {number}: {mutate.__name__} of {target.relative_to(path)}"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                attempt(path, rng.random() < 0.5)
            counts["went on"] += 1
            told = str(path)
        except (ValueError, OSError) as error:
            counts[type(error).__name__] += 1
            told = str(error)
        except BaseException as error:
            raise AssertionError(what) from error
        assert str(path) in told, f"{what}: {told}"
        assert before <= contents(path), what
        assert len(started) == before_start, what
        shutil.rmtree(path)
    tell(f"run directories: {MUTATIONS} mutations, {dict(counts)}, 0 started, 0 lost")
    assert sum(counts.values()) == MUTATIONS
