"""The scaling model in the limits that are known."""

import pytest

from benchmarks.scaling_model import HOST_JITTER, Costs, Lengths, asynchronous, fit, in_step

CONSTANT = Lengths(20, 20)
FREE = Costs(0.0, 1e-3, 0.0, 0.0, 0.0, 0.0, 8)
MEAN_SLOWNESS = 1 + HOST_JITTER * (2 / 3.14159265) ** 0.5
"""Mean of 1 + jitter * |n|."""


@pytest.mark.parametrize("num_workers", [1, 16])
def test_without_costs_nothing_is_lost(num_workers):
    ideal = num_workers * 16 / 1e-3 / MEAN_SLOWNESS
    found = asynchronous(FREE, CONSTANT, num_workers, num_workers, 10**6, num_gradients=4000)
    assert found.inner_steps == pytest.approx(ideal, rel=0.01)
    assert found.worker_idle == pytest.approx(0, abs=0.01)


def test_a_busy_learner_is_the_limit():
    costs = FREE._replace(per_gradient=1e-3, per_step=4e-3)
    found = asynchronous(costs, CONSTANT, 200, 4, 10**6, num_gradients=8000)
    assert found.inner_steps == pytest.approx(16 * 20 / (1e-3 + 4e-3 / 4), rel=0.01)
    assert found.learner_idle == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(("num_workers", "batch"), [(8, 1), (64, 16)])
def test_staleness_is_workers_over_batch(num_workers, batch):
    """While a worker works, the others send one gradient each."""
    found = asynchronous(FREE, CONSTANT, num_workers, batch, 10**6, num_gradients=8000)
    assert found.staleness == pytest.approx((num_workers - 1) / batch, rel=0.05)


def test_the_bound_holds_and_spread_makes_more_stale():
    spread = Lengths(20, 2000)
    narrow, wide = (
        asynchronous(FREE, lengths, 32, 4, 9, num_gradients=8000) for lengths in (CONSTANT, spread)
    )
    assert narrow.dropped < 0.1 < wide.dropped
    assert wide.staleness <= 9
    assert asynchronous(FREE, spread, 32, 4, 10**6, num_gradients=8000).dropped == 0


def test_in_step_waits_for_the_slowest():
    assert in_step(FREE, CONSTANT, 1).inner_steps == pytest.approx(
        16 / 1e-3 / MEAN_SLOWNESS, rel=0.01
    )
    few, many = in_step(FREE, CONSTANT, 4), in_step(FREE, CONSTANT, 1024)
    assert few.worker_idle < many.worker_idle == pytest.approx(1 - MEAN_SLOWNESS / 1.33, abs=0.03)


def test_costs_come_from_the_measurements():
    measured = {
        "reduction": 1e-4,
        "ray_gradients_per_second": {"1": 500.0, "4": 1000.0},
        "learner": {"per_gradient": 2e-4, "per_step": 5e-4},
        "worker": {"overhead": 1e-3, "per_inner_step": 2e-3, "num_pairs": 8},
    }
    assert fit(measured) == pytest.approx((1e-3, 2e-3, 1.2e-3, 5e-4, 1e-3, 1e-4, 8))
