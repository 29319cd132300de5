"""Figures of redundancy and distributions: what is drawn is what was measured."""

import jax
import numpy as np
import pytest

from jaxcam import studies, viewing

RANDOM = np.random.default_rng(0)
MAPS = RANDOM.normal(size=(12, 4, 4))
VALUES = {"layer1": RANDOM.lognormal(size=(5, 60)), "logits": RANDOM.normal(size=(5, 30))}
KEY = jax.random.key(0)


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.get_axes()]


def test_bars_are_the_ratios_and_curves_their_sums():
    found = studies.redundancy(MAPS, 3, key=KEY, permutations=19)
    figure = viewing.redundancy(found)
    bars, curves = figure.get_axes()[:2]
    np.testing.assert_allclose([bar.get_height() for bar in bars.containers[0]], found.ratios)
    np.testing.assert_allclose(curves.lines[0].get_ydata(), found.cumulated)
    np.testing.assert_allclose(curves.lines[1].get_ydata(), found.held_out)
    np.testing.assert_allclose(bars.lines[0].get_ydata(), np.percentile(found.null, 95, axis=0))
    assert titles(figure)[1] == f"… and the first 3 together: {found.cumulated[2]:.2%}"


def test_maps_and_their_reconstructions_are_drawn_on_one_scale():
    found = studies.redundancy(MAPS, 2)
    tiles = [axes.get_images() for axes in viewing.redundancy(found, columns=4).get_axes()[2:]]
    assert [len(images) for images in tiles] == [1] * 4 + [1] * 4 + [1, 1, 0, 0]
    np.testing.assert_array_equal(tiles[0][0].get_array(), found.maps[0])
    np.testing.assert_array_equal(tiles[4][0].get_array(), found.reconstruction[0])
    assert len({images[0].get_clim() for images in tiles[:8]}) == 1


def test_dots_are_the_distances_of_all_samples():
    found = {layer: studies.distributions(rows, key=KEY, draws=49) for layer, rows in VALUES.items()}
    figure = viewing.distributions(VALUES, found, sample=2)
    panels = figure.get_axes()
    assert titles(figure)[:2] == ["layer1", "logits"]
    np.testing.assert_allclose(panels[2].lines[0].get_ydata(), found["layer1"].d_sqrt_n["norm"])
    np.testing.assert_allclose(panels[2].lines[1].get_ydata(), found["layer1"].critical()["norm"])
    assert [len(line.get_xdata()) for line in panels[3].lines][::2] == [5, 0, 5]  # no log-normal of negative values
    assert [text.get_text() for text in panels[3].texts] == ["cannot be"]
    assert np.isnan(panels[1].lines[1].get_ydata()).all()


def test_a_density_is_that_of_the_fit():
    found = {"layer1": studies.distributions(VALUES["layer1"], key=KEY, draws=49)}
    line = viewing.distributions({"layer1": VALUES["layer1"]}, found, sample=1).get_axes()[0].lines[1]
    x, y = line.get_data()
    logs = np.log(VALUES["layer1"][1])
    z = (np.log(x) - logs.mean()) / logs.std()
    np.testing.assert_allclose(y, np.exp(-(z**2) / 2) / (x * logs.std() * np.sqrt(2 * np.pi)), rtol=1e-9)


def test_what_is_wrong_is_said_in_one_line():
    found = {"layer1": studies.distributions(VALUES["layer1"], key=KEY, draws=9)}
    with pytest.raises(ValueError, match="layers tested are layer1, layers given layer1, logits"):
        viewing.distributions(VALUES, found)
    with pytest.raises(ValueError, match="there are 5 samples, 0 to 4; got 7"):
        viewing.distributions({"layer1": VALUES["layer1"]}, found, sample=7)
    with pytest.raises(ValueError, match="columns is a whole number from 1 up; got 0"):
        viewing.redundancy(studies.redundancy(MAPS), columns=0)
