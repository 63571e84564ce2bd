"""The benchmark of data from the host, in small."""

import pytest

from benchmarks import host_data
from tests.support.synthetic import write_synthetic_imagenet

pytest.importorskip("grain", reason="grain is not installed")


@pytest.mark.slow
def test_both_feeds_are_timed(tmp_path, monkeypatch):
    write_synthetic_imagenet(tmp_path, 350, 80, 2)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    found = host_data.run("imagenet_resized/32x32", 40, 1, 2, 2, 1)
    assert set(found["steps_per_second"]) == {"device", "host"}
    assert found["windows_per_second"] > 0


def test_bad_counts_are_refused():
    with pytest.raises(ValueError, match="counts of pairs, steps and repeats must be at least 1"):
        host_data.run(num_pairs=0)
