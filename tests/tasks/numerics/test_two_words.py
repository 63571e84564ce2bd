import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.numerics import two_words as tw


def pairs(size=500, seed=0):
    """Float32 numbers of two words, and what they stand for."""
    rng = np.random.default_rng(seed)
    exact = rng.standard_normal(size) * 2.0 ** rng.integers(-20, 20, size)
    high = exact.astype(np.float32)
    low = (exact - high).astype(np.float32)
    return tw.TwoWords(jnp.asarray(high), jnp.asarray(low)), high.astype(np.longdouble) + low


def value(x):
    return np.asarray(x.high, np.longdouble) + np.asarray(x.low, np.longdouble)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_arithmetic_has_48_bits(transform):
    (a, exact_a), (b, exact_b) = pairs(seed=0), pairs(seed=1)
    floats = tuple(np.asarray(x.high, np.longdouble) for x in (a, b))
    cases = (
        (tw.exact_sum, (a.high, b.high), floats[0] + floats[1], 0.0),
        (tw.exact_product, (a.high, b.high), floats[0] * floats[1], 2.0**-46),
        (tw.multiply, (a, b), exact_a * exact_b, 2.0**-44),
    )
    for function, arguments, expected, tolerance in cases:
        assert np.max(np.abs(value(transform(function)(*arguments)) / expected - 1)) <= tolerance
    for function, expected in ((tw.add, exact_a + exact_b), (tw.subtract, exact_a - exact_b)):
        error = np.abs(value(transform(function)(a, b)) - expected)
        assert np.max(error / (np.abs(exact_a) + np.abs(exact_b))) <= 2.0**-44
    assert abs(value(transform(tw.total)(a)) - exact_a.sum()) <= 2.0**-42 * np.abs(exact_a).sum()


def test_powers_neither_overflow_nor_vanish():
    base = np.array([0.3, 0.9999, -1.7, 1e-20, 3e10, 0.0], np.float32)
    power = jax.jit(lambda x, n: tw.wide_power(tw.wide(tw.two_words(x)), n))(
        base, jnp.int32(20_001)
    )
    exact = base[:-1].astype(np.longdouble)
    log2 = np.log2(np.abs(value(power.mantissa)[:-1])) + np.asarray(power.exponent)[:-1]
    np.testing.assert_allclose(
        log2.astype(float), (20_001 * np.log2(np.abs(exact))).astype(float), rtol=1e-12
    )
    assert np.sign(power.mantissa.high).tolist() == [1, 1, -1, 1, 1, 0]


def test_totals_and_ratios_of_numbers_out_of_range():
    terms = tw.wide(tw.two_words(jnp.array([3.0, 1.0, 0.0])), jnp.array([1000, 1001, 0], jnp.int32))
    np.testing.assert_array_equal(
        tw.wide_ratio(terms, tw.wide_total(terms)), np.float32([0.6, 0.4, 0.0])
    )
    zero = tw.wide(tw.two_words(jnp.zeros(3)))
    np.testing.assert_array_equal(tw.wide_ratio(terms, tw.wide_total(zero)), 0)


def test_derivatives_are_those_of_the_rounded_operations():
    def function(x):
        wide = tw.wide(
            tw.multiply(tw.two_words(x), tw.add(tw.two_words(x), tw.two_words(jnp.full_like(x, 2))))
        )
        return jnp.ldexp(wide.mantissa.high, wide.exponent)

    np.testing.assert_allclose(jax.jit(jax.grad(function))(1.5), 2 * 1.5 + 2, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.grad(jax.grad(function)))(1.5), 2, rtol=1e-6)
