"""What the room's functions do unless told otherwise."""

import public_defaults


def test_defaults_are_those_written_down():
    assert public_defaults.defaults("studies") == public_defaults.written("studies")
