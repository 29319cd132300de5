"""Figures of activation maximization and of loss landscapes: everything asked for is drawn, at its place."""

import numpy as np
import pytest

from jaxcam import viewing
from jaxcam.studies import Landscape

AXIS = np.linspace(-1, 1, 5)
BOWL = Landscape((AXIS, 2 * AXIS), 1 + AXIS[:, None] ** 2 + 8 * AXIS**2, 1.0, ())
LINE = Landscape((AXIS,), 1 + AXIS**2, 1.0, ())


def test_each_unit_has_its_pictures_and_its_nine_real_images():
    pictures = np.random.default_rng(0).random((3, 2, 8, 8, 3))
    real = np.random.default_rng(1).random((3, 9, 6, 6, 3))
    figure = viewing.excitements(pictures, ["cat", "dog", "owl"], real=real, columns=2)
    tiles = figure.get_axes()[0].get_images()
    assert len(tiles) == 3 * (2 + 9)
    np.testing.assert_array_equal(tiles[0].get_array(), pictures[0, 0])
    np.testing.assert_array_equal(tiles[2].get_array(), real[0, 0])
    left, right, *_ = tiles[2].get_extent()
    assert left > tiles[1].get_extent()[0]
    assert right - left == pytest.approx(0.5)
    assert [text.get_text() for text in figure.get_axes()[0].texts] == ["cat", "dog", "owl"]
    with pytest.raises(ValueError, match="need t titles"):
        viewing.excitements(pictures, ["cat"])
    with pytest.raises(ValueError, match="3 units need as many rows of real images"):
        viewing.excitements(pictures, ["cat", "dog", "owl"], real=real[:2])


def test_a_landscape_is_contours_beside_a_surface_with_the_training_in_it():
    path = np.array([[-1.0, -1.0], [0.5, 0.2], [0.0, 0.0]])
    figure = viewing.landscape(BOWL, path=path, names=("one", "two"))
    contours, surface = (axes for axes in figure.get_axes() if axes.get_xlabel() == "one")
    assert surface.get_zlabel() == "log₁₀ loss"
    lines = [line.get_xydata().tolist() for line in contours.get_lines()]
    assert [[0, 0]] in lines
    assert path.tolist() in lines


def test_a_line_is_a_curve_and_holes_stay_holes():
    curve = viewing.landscape(LINE).get_axes()[0].get_lines()[0]
    np.testing.assert_allclose(curve.get_ydata(), LINE.values)
    holed = Landscape((AXIS,), np.where(AXIS > 0.9, np.inf, 1.0), 1.0, ())
    assert np.isnan(viewing.landscape(holed).get_axes()[0].get_lines()[0].get_ydata()[-1])
    with pytest.raises(ValueError, match="no value of the landscape is finite"):
        viewing.landscape(Landscape((AXIS,), AXIS * np.nan, 1.0, ()))
    with pytest.raises(ValueError, match="needs two directions"):
        viewing.turning_landscape(LINE)


def test_a_surface_to_be_turned_has_the_first_direction_across(tmp_path):
    figure = viewing.turning_landscape(BOWL, np.array([[0.0, 0.0], [1.0, 2.0]]))
    surface, training = figure.data
    np.testing.assert_allclose(np.array(surface.z), BOWL.values.T)
    assert list(training.z) == [1.0, BOWL.values[-1, -1]]
    assert viewing.save_page(figure, tmp_path / "page.html").read_text("utf-8").count("<html>") == 1
    with pytest.raises(ValueError, match=r"a page's name ends in \.html"):
        viewing.save_page(figure, tmp_path / "page.png")
