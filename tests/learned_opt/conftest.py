"""Traced parameters lie on one device, as most users' do, although tests have eight;
what is spread over them is tried in test_sharding.py and test_large.py.
"""

import pytest

from learned_opt.trees import spread


@pytest.fixture(autouse=True)
def one_device(request, monkeypatch):
    if "test_sharding" not in request.node.nodeid:
        monkeypatch.setattr(spread, "num_devices", lambda: 1)
