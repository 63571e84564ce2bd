"""Every experiment is built at the paper's scale, abstractly; none asks one device for too much.

`python -m tests.support.lab.abstractly` prints the table. Estimates leave fusion out; programs that
are too large by theirs are compiled, and measured by the compiler's figures.
"""

import pytest

from learned_opt_lab.papers.registry import EXPERIMENTS
from tests.support.lab import abstractly


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_at_the_paper_s_scale(name, tmp_path, tell):
    row, size = abstractly.row_of(name, tmp_path, abstractly.MOST_BYTES)
    tell(row)
    assert size <= abstractly.MOST_BYTES
    # Of what was done, all that takes programs is in pieces, and read.
    assert abstractly.programs(name, tmp_path) == []
