"""Counted flop, rows of the update benchmark, chosen parts, and refused arguments."""

import json

import pytest

from learned_opt_lab.bench import outer_training, scaling, update_cost
from learned_opt_lab.cli.commands import bench


def test_flop_of_w1_are_counted_by_hand():
    family, _ = outer_training.w1_family(num_images=2000)
    parameters = 64 * 32 + 32 + 32 * 10 + 10
    one = 2 * (7 * 32 + 32 * 2) * parameters + 6 * 128 * parameters
    two = 2 * (7 * 32 + 32 * 32 + 32 * 2) * parameters + 6 * 128 * parameters
    assert outer_training.counted_flop(family, 128, (32,), differentiated=False) == one
    assert outer_training.counted_flop(family, 128, (32, 32), differentiated=True) == 3 * two


def test_rows_of_optax_updates():
    rows = {row["optimizer"]: row for row in update_cost.run((1000,), 1, ("sgd",))}
    assert set(rows) == {"sgd", "adam"}
    assert rows["adam"]["ratio_to_adam"] == 1.0
    assert rows["sgd"]["state_bytes_per_parameter"] == 0.0
    assert rows["adam"]["state_bytes_per_parameter"] == pytest.approx(8.0, abs=0.01)
    assert 900 <= rows["adam"]["parameters"] <= 1100


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="counts must be at least 1, got 0 repeats"):
        update_cost.run((1000,), 0)
    with pytest.raises(ValueError, match="axis must be one of pairs"):
        scaling.measure("depth", (1,))


def test_bench_measures_the_chosen_parts_and_the_peak_of_memory(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(
        update_cost, "run", lambda sizes, num_repeats, names: [{"sizes": sizes, "names": names}]
    )
    monkeypatch.setattr(scaling, "run", lambda axes, quick, figures, num_repeats: [{"axes": axes}])
    args = bench.Args(
        tmp_path / "bench.json",
        parts=("scaling", "update_cost"),
        axes=("devices",),
        compilation_cache=False,
    )
    assert bench.run(args).status == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads(args.out.read_text())
    assert list(found) == ["update_cost", "scaling", "process_peak_megabytes", "made"]
    assert {"machine", "commit", "ended"} <= found["made"].keys()
    assert found["scaling"] == [{"axes": ["devices"]}]
    assert 100 < found["process_peak_megabytes"] < 1e5
