"""What the tests of data may use."""

import pytest
from faulty import DataSet


@pytest.fixture
def data(tmp_path):
    """A small sound data set of this test's own, to be broken."""
    return DataSet(tmp_path)
