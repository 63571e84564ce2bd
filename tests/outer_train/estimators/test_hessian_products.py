"""The gradient of a learned step in closed form, a sum of products of Hessians (Metz et al. 2019,
arXiv 1810.10180, appendix A), as an oracle for everything that unrolls.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt.hand_designed import hyperparameters
from outer_train import estimators, inner_problem
from tasks import TaskFamily
from tasks.analytic import surfaces

START, RATE, NUM_STEPS = (1.0, 1.0), 3e-3, 60
TERMS = tuple(zip((1, 2, 3), (1.5, 2.25, 2.625), strict=True))


def derivatives(w):
    """Gradient and Hessian of Beale's function, a polynomial of degree eight, by hand."""
    x, y = w
    grad, hessian = np.zeros(2), np.zeros((2, 2))
    for power, constant in TERMS:
        residual = constant - x + x * y**power
        slope = np.array([y**power - 1, power * x * y ** (power - 1)])
        twist = power * y ** (power - 1)
        bend = power * (power - 1) * x * y ** max(power - 2, 0)
        grad += 2 * residual * slope
        hessian += 2 * np.outer(slope, slope)
        hessian += 2 * residual * np.array([[0, twist], [twist, bend]])
    return grad, hessian


def closed_form(rate, num_steps):
    """`<g_T, -sum_i prod_{j > i} (I - rate H_j) g_i>`, each product written out."""
    w, grads, factors = np.array(START), [], []
    for _ in range(num_steps):
        grad, hessian = derivatives(w)
        grads.append(grad)
        factors.append(np.eye(2) - rate * hessian)
        w = w - rate * grad
    total = np.zeros(2)
    for i, grad in enumerate(grads):
        product = np.eye(2)
        for factor in factors[i + 1 :]:
            product = factor @ product
        total -= product @ grad
    return derivatives(w)[0] @ total


def make_problem():
    """Its loss starts at 14: no clipping."""
    family = TaskFamily(lambda key: (), lambda task_params: surfaces.beale(START))
    sgd = hyperparameters.sgd(RATE)
    return inner_problem(family, sgd, NUM_STEPS, "train", "final", loss_clip=1e3)


def test_the_closed_form_is_the_slope_of_the_final_loss():
    def final_loss(rate):
        w = np.array(START)
        for _ in range(NUM_STEPS):
            w = w - rate * derivatives(w)[0]
        return sum((c - w[0] + w[0] * w[1] ** p) ** 2 for p, c in TERMS)

    difference = (final_loss(RATE + 1e-7) - final_loss(RATE - 1e-7)) / 2e-7
    assert closed_form(RATE, NUM_STEPS) == pytest.approx(difference, rel=1e-6)
    # The Hessians differ along the way: this is no matrix polynomial in one of them.
    first, last = (derivatives(np.array(w))[1] for w in (START, (2.0, 0.3)))
    assert np.abs(first - last).max() > 1


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("truncated_backprop", {"chunk_size": 7}),
        ("reparameterization", {"std": 1e-5}),
    ],
)
def test_the_gradient_of_an_unroll_is_the_product_of_hessians(name, kwargs):
    problem = make_problem()
    estimator = getattr(estimators, name)(problem, 2, **kwargs)
    theta = hyperparameters.sgd(RATE).init(jax.random.key(0))
    state = estimator.init(theta, jax.random.key(1))
    result, _ = jax.jit(estimator.estimate)(
        theta, state, jax.random.key(2), jnp.int32(NUM_STEPS), problem.data
    )
    # Theta is the rate's logarithm.
    expected = RATE * closed_form(RATE, NUM_STEPS)
    assert float(result.grad["log_learning_rate"]) == pytest.approx(expected, rel=1e-3)


def test_tangents_kept_over_truncations_reach_the_same_product():
    problem = make_problem()
    estimator = estimators.forward_mode(problem, 1)
    theta = hyperparameters.sgd(RATE).init(jax.random.key(0))
    state, estimate = estimator.init(theta, jax.random.key(1)), jax.jit(estimator.estimate)
    total = 0.0
    for i in range(NUM_STEPS // 20):
        result, state = estimate(theta, state, jax.random.key(i), jnp.int32(20), problem.data)
        total += float(result.grad["log_learning_rate"]) * 20 / NUM_STEPS
    assert total == pytest.approx(RATE * closed_form(RATE, NUM_STEPS), rel=1e-3)
