"""Messages: exact, small, and refused when they are not what they should be."""

import numpy as np
import pytest

from outer_train.workers.messages import HEADER, Gradient, defect, pack, unpack

SIZE = 610


def gradient(**changes):
    """A gradient of two parts."""
    rng = np.random.default_rng(0)
    means, variances = rng.normal(size=(2, SIZE)), rng.uniform(size=(2, SIZE))
    numbers = (3, 17, 5, 1, 40, 8, 20, 320, 1, 2)
    made = Gradient(
        *numbers, 0.5, 0.25, 0.125, means.astype(np.float32), variances.astype(np.float32)
    )
    return made._replace(**changes)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("parts", [1, 2])
def test_comes_back_to_the_bit(parts, dtype):
    sent = gradient(
        means=gradient().means[:parts].astype(dtype),
        variances=gradient().variances[:parts].astype(dtype),
    )
    came = unpack(pack(sent), SIZE)
    assert came[:-2] == sent[:-2]
    for before, after in zip(sent[-2:], came[-2:], strict=True):
        assert after.dtype == before.dtype
        np.testing.assert_array_equal(after, before)


def test_bytes_of_a_request_and_its_answer():
    """Theta one way and moments the other:
    5 thetas for a merge of two, 2 where only the mean is sent.
    """
    theta = 4 * SIZE
    merged, single = (
        pack(gradient()),
        pack(gradient(means=gradient().means[:1], variances=np.ones((1, 1), np.float32))),
    )
    assert len(merged) == HEADER.size + 4 * theta
    assert len(single) == HEADER.size + theta + 4
    assert (theta + len(merged)) / theta <= 5.2
    assert (theta + len(single)) / theta <= 2.2


def test_other_bytes_are_refused():
    data = pack(gradient())
    for wrong in (b"", data[:20], b"JUNK" + data[4:], data[:-4], data + b"\0" * 4):
        with pytest.raises(ValueError, match=r"it is no gradient|it holds"):
            unpack(wrong, SIZE)
    with pytest.raises(ValueError, match="a theta of 609 do not make"):
        unpack(data, SIZE - 1)


def test_defects_are_named():
    spoilt = gradient().means.copy()
    spoilt[1, 7] = np.nan
    assert defect(gradient()) is None
    assert defect(gradient(means=spoilt)) == "its mean is not finite"
    assert "variance" in defect(gradient(variances=-gradient().variances))
    # An infinite variance says that a sample was left out; the part then weighs nothing.
    assert defect(gradient(variances=np.full((2, SIZE), np.inf, np.float32))) is None
    assert defect(gradient(num_samples=0)) == "it averages no sample"


def test_numbers_of_any_size_and_unknown_ones_travel():
    """Inner steps beyond 32 bits, a loss beyond float32, and nan for what is unknown."""
    sent = gradient(
        num_live_steps=2**40, loss=1e300, variances=np.full((2, SIZE), np.nan, np.float32)
    )
    came = unpack(pack(sent), SIZE)
    assert (came.num_live_steps, came.loss) == (2**40, 1e300)
    assert np.isnan(came.variances).all()
    assert defect(came) is None
    assert np.isnan(unpack(pack(gradient(loss=float("nan"))), SIZE).loss)
