"""The documentation holds together: every public name is described, every page is reached, every block runs."""

import api_pages
from test_public_names import NAMES


def test_the_api_describes_every_public_name():
    rooms = {module: written for written, module, _, _ in api_pages.ROOMS.values()}
    described = set(api_pages.described())
    for name, _ in NAMES:
        module, _, short = name.rpartition(".")
        assert f"{rooms.get(module, module)}.{short}" in described, name
