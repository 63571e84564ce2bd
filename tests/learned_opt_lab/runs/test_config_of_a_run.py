"""`train` takes the `config.json` of a run."""

import dataclasses
import json

import pytest

from learned_opt_lab.cli.commands.train import Args
from learned_opt_lab.cli.main import main
from learned_opt_lab.cli.parsing import parse_with_config
from learned_opt_lab.runs import catalog
from learned_opt_lab.runs.config_json import to_json
from learned_opt_lab.runs.families import build_family, check_trusted
from tests.support.lab.strangers import CONFIG, NAMING


def test_a_run_s_config_is_a_config_without_its_author_s_code(stranger, tmp_path, capsys):
    config = dataclasses.replace(CONFIG, **NAMING["family"])
    path = tmp_path / "made" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(to_json(config)))
    read, file = catalog.load(str(path))
    assert (read, file, catalog.name_of(str(path))) == (config, None, "made")
    argv = ["train", str(path), "--run-dir", str(tmp_path / "run"), "--no-compilation-cache"]
    assert main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "'stranger' would be imported and run" in line
    assert not stranger.exists()
    assert parse_with_config(Args, argv[1:], "train").config == config
    trusted = parse_with_config(Args, [*argv[1:], "--trust", "--seed", "3"], "train").config
    assert trusted == dataclasses.replace(config, seed=3)
    assert not stranger.exists()
    check_trusted(trusted)
    build_family(trusted.family)
    assert stranger.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no valid JSON"),
        ("[1]", "must hold a JSON object, got a list"),
        ('{"type": "Merged"}', "holds no config of a run"),
        ('{"type": "TrainConfig", "sead": 1}', "has no field 'sead'; did you mean seed"),
    ],
)
def test_a_json_file_that_is_no_config(text, message, tmp_path, capsys):
    path = tmp_path / "config.json"
    path.write_text(text)
    assert main(["train", str(path), "--run-dir", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line
    assert message in line
