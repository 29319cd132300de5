"""What methods and composites do unless told otherwise."""

import public_defaults
import pytest


@pytest.mark.parametrize("room", ["attribution", "attribution.composites"])
def test_defaults_are_those_written_down(room):
    assert public_defaults.defaults(room) == public_defaults.written(room)
