"""The page of the benchmarks follows from its JSON alone, and keeps what was not measured again."""

import json

import pytest

from benchmarks import bench_page
from learned_opt_lab.bench import update_cost

MADE = {
    "version": "0.1.0",
    "commit": "0123456789ab",
    "machine": "a processor, 2 cores",
    "ended": "2026-11-28T12:00:00+00:00",
}
FIGURES = ("inner_steps_per_second", "at_reference_rate", "share_of_matmul_rate")
W1 = {f"{name}_{figure}": 0.5 for name in bench_page._W1 for figure in FIGURES} | {
    "forward_inner_steps_per_second": 34567.8,
    "forward_share_of_matmul_rate": 0.523,
    "matmul_gflops": 212.5,
    "reference_matmul_gflops": 217.0,
    "num_devices": 2,
}
TRAIN_STEP = {
    "num_parameters": 9_600_000,
    "seconds": {"adamw": 0.742, "load()": 0.801},
    "ratio_to_adamw": {"adamw": 1.0, "load()": 1.0795},
}
HOST = {
    "steps_per_second": {"device": 12.0, "host": 11.5},
    "host_over_device": 1.043,
    "windows_per_second": 31.25,
}


def written(folder, name, content):
    path = folder / name
    path.write_text(json.dumps(content | {"made": MADE}))
    return str(path)


def test_each_measurement_has_its_section_and_the_rest_is_kept(tmp_path, capsys):
    rows = update_cost.run((100,), 1, ("mlp()",))
    startup = {"cold_seconds": 8.0, "warm_seconds": 4.0, "import_seconds": 1.5}
    tuning = {"batch_size": 32, "sweep_inner_steps_per_second": 1e5}
    tuning |= {"speedup_over_scans": 3.0, "speedup_over_plain_loops": 18.0}
    cnn = {"estimator": "merged", "hidden_sizes": [32, 32]}
    cnn |= {"inner_steps_per_second": 92.0, "share_of_matmul_rate": 0.15}
    bench = W1 | {"update_cost": rows, "startup": startup, "tuning": [tuning], "cnn": [cnn]}
    files = [written(tmp_path, "bench.json", bench), written(tmp_path, "step.json", TRAIN_STEP)]
    assert bench_page.main([*files, "--results", str(tmp_path)]) == 0
    again = [written(tmp_path, "host.json", HOST), "--results", str(tmp_path)]
    assert bench_page.main(again) == 0
    page = (tmp_path / "benchmarks.md").read_text()
    content = json.loads((tmp_path / "benchmarks.json").read_text())
    assert page == bench_page.markdown(content)
    assert [line[3:] for line in page.splitlines() if line.startswith("## ")] == [
        title for title, _, _ in bench_page.SECTIONS.values()
    ]
    for row in (
        "| forward, one hidden layer | 34,568 | 0 | 52 |",
        "| `load()` | 0.801 | 1.08 |",
        "| `merged` | 2 | 92 | 15 |",
        "| second, with the cache | 4 |",
        "| host | 11.5 |",
    ):
        assert row in page
    assert f"| `mlp()` | {bench_page.show(rows[-1]['ratio_to_adam'])} |" in page
    assert page.count("a processor, 2 cores; commit `0123456789ab`, 2026-11-28.") == 7


@pytest.mark.parametrize("content", ["[1]", '{"made": {}}', "no JSON", None])
def test_what_is_no_measurement_is_refused(tmp_path, content, capsys):
    path = tmp_path / "file.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SystemExit) as ended:
        bench_page.main([str(path), "--results", str(tmp_path)])
    assert ended.value.code == 2
    assert not (tmp_path / "benchmarks.md").exists()
