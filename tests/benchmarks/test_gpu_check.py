"""The check of an accelerator: its parts, its JSON and its page, small on the CPU."""

import json
import subprocess
import sys

import jax
import pytest

from benchmarks import gpu_check, gpu_page
from learned_opt_lab.bench import peaks, update_cost
from tests.support.rules import ROOT


def test_a_known_device_has_its_datasheet_and_another_is_measured():
    found = peaks.peaks_of(jax.devices()[0], 1, 64)
    assert found.source == "measured"
    assert min(found[:3]) > 0
    h100 = peaks.KNOWN["NVIDIA H100 80GB HBM3"]
    assert h100[:3] == pytest.approx((66.9e12, 989.4e12, 3350e9))
    assert h100.source == "NVIDIA H100 datasheet"
    assert peaks.shares_of_flops(133.8e12, h100, 2)["share_of_float32_peak"] == pytest.approx(1.0)
    assert peaks.share_of_bandwidth(335e9, h100) == {"share_of_bandwidth": pytest.approx(0.1)}
    assert all(p.float32_flops < p.bfloat16_flops for p in peaks.KNOWN.values())


def test_updates_have_shares_and_sizes_that_do_not_fit_are_named(monkeypatch):
    row = {"optimizer": "adam", "parameters": 1000, "ns_per_parameter": 2.0}
    row |= {"state_bytes_per_parameter": 8.0, "flop_per_parameter": 10.0}
    monkeypatch.setattr(update_cost, "run", lambda sizes, repeats, names: [row])
    monkeypatch.setattr("outer_train.memory.available_bytes", lambda devices: 10**5)
    limits = peaks.Peaks(1e10, 2e10, 28e9, "measured")
    monkeypatch.setattr(peaks, "peaks_of", lambda device, repeats, size: limits)
    found = gpu_check.update(small=True)
    assert found["left_out"] == [{"parameters": 10**4, "needed_bytes": 480_000}]
    (shown,) = found["rows"]
    assert shown["bytes_moved_per_parameter"] == 28
    assert shown["share_of_bandwidth"] == pytest.approx(0.5)
    assert shown["share_of_float32_peak"] == pytest.approx(0.5)
    assert shown["share_of_bfloat16_peak"] == pytest.approx(0.25)


FAKE = {
    "machine": {
        "device": "Some GPU", "platform": "gpu", "num_devices": 2, "memory_bytes": 60 * 10**9,
        "peaks": peaks.KNOWN["NVIDIA L4"]._asdict(),
        "measured_peaks": peaks.Peaks(2e13, 9e13, 2.5e11, "measured")._asdict(),
        "versions": {"jax": "0.10.2", "git": None},
    },
    "tests": {"printed": "...\n3 passed in 9.00s\n"},
    "bench": {
        "device": "Some GPU", "images": "random images",
        "rows": [{"estimator": "merged", "num_pairs": 16, "share_of_float32_peak": 0.1234}],
    },
    "quickstart": {"summary": {"outer_loss_last": 0.5, "heldout": {"learned": 0.044}}},
    "update": {
        "rows": [{"optimizer": "adam", "parameters": 10**6, "share_of_bandwidth": 0.9}],
        "left_out": [{"parameters": 10**9, "needed_bytes": 72 * 10**9}],
    },
    "sharding": {"printed": "Killed"},
}  # fmt: skip


def _faked(monkeypatch, **changed):
    about = {"status": 0, "seconds": 1.0, "printed": ""}
    results = {name: {**about, **part, **changed.get(name, {})} for name, part in FAKE.items()}
    monkeypatch.setattr(gpu_check, "check", lambda name, small, out: results[name])


def test_one_json_and_one_page(monkeypatch, tmp_path):
    _faked(monkeypatch)
    assert gpu_check.main(["--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    assert list(found["parts"]) == [*gpu_check.PARTS]
    page = (tmp_path / "gpu_check.md").read_text()
    assert page == gpu_page.page(found)
    for line in (
        "## 2 x Some GPU",
        "Memory of a device for JAX: 60.0 GB.",
        "| 30.3 | 121 | 300 | NVIDIA L4 datasheet |",
        "| 20 | 90 | 250 | measured |",
        "    3 passed in 9.00s",
        "| merged | 16 |  |  | 0.123 |  |  |  |",
        "| adam | 1,000,000 |  |  | 0.9 |  |  |  |  |",
        "Left out: 1,000,000,000 parameters, which need 72 GB.",
        "| held-out test loss, learned | 0.044 |",
    ):
        assert line in page.splitlines()


def test_a_part_that_fails_leaves_the_others(monkeypatch, tmp_path):
    _faked(monkeypatch, update={"status": -9, "printed": "out of memory"})
    assert gpu_check.main(["--out", str(tmp_path), "--parts", "update", "tests"]) == 1
    page = (tmp_path / "gpu_check.md").read_text()
    assert "| update | failed (-9) | 1 |" in page
    assert "## update: failed\n\n```\nout of memory\n```" in page
    assert "3 passed" in page


def test_without_an_accelerator_it_says_so(monkeypatch, tmp_path, capsys):
    _faked(monkeypatch, machine={"platform": "cpu"})
    assert gpu_check.main(["--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == ("error: JAX has no accelerator here; --small runs without\n")
    assert not list(tmp_path.iterdir())


def test_the_target_of_the_makefile():
    found = subprocess.run(
        ["make", "-n", "--no-print-directory", "gpu-check", "VENV=/v", "ARGS=--parts update"],
        cwd=ROOT, capture_output=True, encoding="utf-8", check=True,
    )  # fmt: skip
    assert ".[cuda,test]" in found.stdout
    last = found.stdout.strip().splitlines()[-1]
    assert last == "/v/bin/python -m benchmarks.gpu_check --out build/gpu_check --parts update"


def test_all_parts_small_on_the_cpu(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu_check", "--small", "--out", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    parts = json.loads((tmp_path / "gpu_check.json").read_text())["parts"]
    assert list(parts) == [*gpu_check.PARTS]
    assert {row["optimizer"] for row in parts["update"]["rows"]} == {*gpu_check.OPTIMIZERS}
    for row in (*parts["update"]["rows"], *parts["bench"]["rows"]):
        assert 0 < row["share_of_bfloat16_peak"] < 1
    assert parts["quickstart"]["summary"]["num_outer_steps"] == 2
    assert "1 passed" in parts["tests"]["printed"]
    assert "passed" in parts["sharding"]["printed"]
