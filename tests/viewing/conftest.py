"""What the tests of this room share."""

import pytest
from viewing_runs import Maker, history_rows, pruning_rows


@pytest.fixture
def make(tmp_path):
    """A maker of runs below an empty directory: `make(channels=3).demo()`."""
    return lambda **options: Maker(tmp_path / "run", **options)


@pytest.fixture
def history():
    return history_rows()


@pytest.fixture
def pruned():
    return pruning_rows(["features.conv0", "features.conv1", "features.conv2"])
