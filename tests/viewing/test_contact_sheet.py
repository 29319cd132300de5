"""Methods beside each other: each draws something; one that does not is found."""

import numpy as np
import pytest
from contact_sheets import blank, digits, draw, main, maps_of

from jaxcam import viewing
from jaxcam.attribution.methods import METHODS

ONE_OF_EACH = ("saliency", "smooth_grad", "grad_cam", "layerwise_maps", "shapley_values")


@pytest.fixture(scope="module")
def found():
    model, x, titles = digits()
    return x, maps_of(model, x, {name: METHODS[name].quick for name in ONE_OF_EACH}), titles


def test_methods_of_every_shape_are_drawn_on_every_image(found, tmp_path):
    x, maps, titles = found
    assert {name.partition(":")[0] for name in maps} == set(ONE_OF_EACH)
    assert {values.shape[1:] for values in maps.values()} >= {(16, 16, 1), (16, 16), (8, 8)}
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


@pytest.mark.slow
def test_the_digits_are_drawn_where_no_photographs_are_at_hand(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("contact_sheets.DATA", tmp_path)
    monkeypatch.setattr("contact_sheets.METHODS", {name: METHODS[name] for name in ONE_OF_EACH})
    main(tmp_path / "sheet.png")
    assert f"of {len(ONE_OF_EACH)} methods on 3 images, none blank" in capsys.readouterr().out
