"""Figures of leaks, groups of heat maps and concepts: what is drawn is what was found."""

import jax
import numpy as np
import pytest

from jaxcam import studies, viewing


def check(share):
    shares = {"saliency": np.array([share, share, np.nan])}
    return studies.RegionCheck(0.1, shares, {}, np.arange(3), 0.9, 0.4, 0.2, 0.7, 50)


def test_bars_of_a_leak_are_mean_shares_and_accuracies():
    left, right = viewing.leaks({"leaking": check(0.6), "clean": check(0.05)}).get_axes()
    assert [bar.get_height() for bar in left.patches] == pytest.approx([0.6, 0.05])
    assert [bar.get_height() for bar in right.patches][:4] == [0.9, 0.4, 0.2, 0.7]
    assert left.lines[-1].get_ydata()[0] == 0.1
    with pytest.raises(ValueError, match="no network"):
        viewing.leaks({})


def test_each_map_of_a_group_has_its_thumbnail_and_each_group_its_mean():
    maps = np.random.default_rng(0).random((12, 4, 4))
    maps[:7, :2] += 5
    found = studies.heatmap_clusters(maps, key=jax.random.key(0), clusters=2)
    figure = viewing.heatmap_groups(found, np.random.default_rng(1).random((12, 6, 6, 3)))
    plane, eigenvalues, *tiles = figure.get_axes()
    assert len([artist for artist in plane.artists if hasattr(artist, "xybox")]) == 12
    np.testing.assert_allclose(eigenvalues.lines[0].get_ydata(), found.eigenvalues[:11])
    np.testing.assert_allclose(tiles[0].images[0].get_array(), found.means[0])
    with pytest.raises(ValueError, match="12 maps and 3 images"):
        viewing.heatmap_groups(found, np.ones((3, 6, 6, 3)))


def test_a_concept_is_a_bar_of_its_rise_and_pale_where_chance_explains_it():
    null = np.array([-0.1, 0.2, 0.0])
    rows = [
        studies.ConceptTest("stripes", "a.conv", 1.0, 2.0, 0.9, 0.01, 0.02, 1e-9, np.ones(3), null, np.ones(3) / 2),
        studies.ConceptTest("dots", "a.conv", 0.5, -0.1, 0.6, 0.8, 0.8, 1.0, np.ones(3), null, np.ones(3) / 2),
    ]
    (axes,) = viewing.concepts(rows, title="three").get_axes()
    assert [bar.get_width() for bar in axes.patches] == [2.0, -0.1]
    assert axes.patches[0].get_alpha() > axes.patches[1].get_alpha()
    assert axes.texts[0].get_text() == "TCAV 1.00   p 0.020   probe 90%"
    with pytest.raises(ValueError, match="no concepts"):
        viewing.concepts([])
