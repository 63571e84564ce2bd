import jax
import numpy as np
from scipy import stats

from tasks.numerics.rotation import haar_rotation


def test_orthogonal_and_uniform():
    """Moments of the Haar measure, and the law of one entry:
    its square is Beta(1/2, (dim - 1) / 2).
    """
    num, dim = 4000, 5
    rotations = np.asarray(
        jax.jit(jax.vmap(lambda key: haar_rotation(key, dim)))(
            jax.random.split(jax.random.key(0), num)
        )
    )
    products = np.einsum("nij,nkj->nik", rotations, rotations)
    np.testing.assert_allclose(products, np.broadcast_to(np.eye(dim), products.shape), atol=1e-5)
    for row, column in ((0, 0), (0, 4), (4, 0), (4, 4), (2, 3)):
        entry = rotations[:, row, column]
        assert stats.kstest(entry**2, stats.beta(0.5, (dim - 1) / 2).cdf).pvalue > 1e-3
        assert abs(entry.mean()) < 4 * entry.std() / np.sqrt(num)
    # Its mean is 0, its mean square 1 (Diaconis and Shahshahani).
    trace = np.trace(rotations, axis1=1, axis2=2)
    assert abs(trace.mean()) < 4 / np.sqrt(num)
    assert abs((trace**2).mean() - 1) < 4 * (trace**2).std() / np.sqrt(num)
    determinants = np.linalg.det(rotations)
    assert abs(determinants.mean()) < 4 / np.sqrt(num)


def test_one_dimension_is_a_sign():
    signs = np.array([float(haar_rotation(jax.random.key(i), 1)[0, 0]) for i in range(20)])
    np.testing.assert_allclose(np.abs(signs), 1.0, rtol=1e-6)
    assert set(np.sign(signs)) == {-1.0, 1.0}
