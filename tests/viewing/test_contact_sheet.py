"""All methods beside each other: each draws something, and something that the others do not."""

import numpy as np
import pytest
from contact_sheets import all_maps, blank, digits, draw

from jaxcam import viewing
from jaxcam.attribution.methods import METHODS


@pytest.fixture(scope="module")
def found():
    model, x, titles = digits()
    return x, all_maps(model, x, {name: method.quick for name, method in METHODS.items()}), titles


def test_every_method_draws_every_image(found, tmp_path):
    x, maps, titles = found
    assert {name.partition(":")[0] for name in maps} == set(METHODS)
    assert not blank(x, maps)
    path = viewing.save(draw(x, maps, titles), tmp_path / "sheet.png", dpi=50)
    assert path.stat().st_size > 10_000


def test_a_blank_panel_is_found(found):
    x, maps, _ = found
    name = next(iter(maps))
    values = maps[name].copy()
    values[1] = 0
    assert blank(x, maps | {name: values}) == [f"{name}, image 1"]
    assert blank(x, maps | {name: np.ones_like(values)}) == [f"{name}, image 0", f"{name}, image 1"]
