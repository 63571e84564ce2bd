"""Traced parameters lie on one device, as most users' do, although tests have eight;
what is spread over them is tried in the tests of `SPREAD` and in test_large.py.
"""

import pytest

from learned_opt.trees import spread

SPREAD = (
    "test_sharding.py",
    "test_sharded_layers.py",
    "test_spread.py",
    "over_eight_devices",
    "on_other_devices",
)


@pytest.fixture(autouse=True)
def one_device(request, monkeypatch):
    if not any(name in request.node.nodeid for name in SPREAD):
        monkeypatch.setattr(spread, "num_devices", lambda: 1)
