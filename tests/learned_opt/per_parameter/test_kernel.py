"""The MLP's kernel against matrix products, finite differences and its own second derivative."""

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt.per_parameter import kernel


def kernel_arguments(n=37, hidden=8, inputs=3):
    rng = np.random.default_rng(0)

    def array(*shape):
        return jnp.asarray(rng.normal(size=shape))

    return (
        (array(inputs, hidden), array(hidden, 2)),
        (array(hidden), array(2)),
        tuple(array(n) for _ in range(inputs)),
    )


def test_kernel_equals_matmul_and_its_derivatives_equal_finite_differences(monkeypatch):
    monkeypatch.setattr(kernel, "TANGENT_BLOCK", 10)
    with jax.enable_x64(True):
        arguments = kernel_arguments()
        weights, biases, rows = arguments
        got = jnp.stack(kernel.one_hidden_layer(*arguments))
        products = kernel.matmul_mlp([x.T for x in weights], biases, jnp.stack(rows))
        np.testing.assert_allclose(got, products, rtol=1e-12, atol=1e-12)
        direction = jax.tree.map(jnp.cos, arguments)
        out, tangent = jax.jvp(kernel.one_hidden_layer, arguments, direction)

        def at(h):
            return kernel.one_hidden_layer(
                *jax.tree.map(lambda x, d: x + h * d, arguments, direction)
            )

        for plus, minus, t in zip(at(1e-7), at(-1e-7), tangent, strict=True):
            np.testing.assert_allclose((plus - minus) / 2e-7, t, rtol=1e-5, atol=1e-6)
        cotangent = tuple(jnp.sin(x) for x in out)
        _, pullback = jax.vjp(kernel.one_hidden_layer, *arguments)
        forward = sum(jnp.vdot(c, t) for c, t in zip(cotangent, tangent, strict=True))
        reverse = jax.tree.map(jnp.vdot, pullback(cotangent), direction)
        np.testing.assert_allclose(forward, sum(jax.tree.leaves(reverse)), rtol=1e-12)


def test_kernel_is_twice_differentiable():
    with jax.enable_x64(True):
        arguments = kernel_arguments(n=5, hidden=4, inputs=2)

        def plain(w, b, r):
            return jnp.sum(kernel.matmul_mlp([x.T for x in w], b, jnp.stack(r)) ** 2)

        def fast(w, b, r):
            return sum(jnp.sum(x**2) for x in kernel.one_hidden_layer(w, b, r))

        want, got = jax.hessian(plain)(*arguments), jax.hessian(fast)(*arguments)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10), want, got
        )


def test_blocks_of_columns():
    columns = jnp.arange(22.0).reshape(2, 11)
    got = kernel.in_blocks(lambda x: x[:1] * x[1:], columns, 4)
    np.testing.assert_array_equal(got, columns[:1] * columns[1:])
