"""The figure of weights: every filter a picture, every layer a row."""

import numpy as np
import pytest

from jaxcam import viewing

RNG = np.random.default_rng(0)


def pictures(figure):
    return [axes.images[0] for axes in figure.get_axes() if axes.images]


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_each_filter_is_drawn_with_zero_in_the_middle(channels):
    kernel = RNG.normal(size=(3, 3, channels, 20))
    kernel[..., 7] = 0
    figure = viewing.weights({"stem": kernel, "head": RNG.normal(size=(20, 4))}, title="mine")
    drawn = pictures(figure)
    assert len(drawn) == 20
    blank = np.asarray(drawn[7].get_array())
    assert np.ptp(blank, (0, 1)).max() == 0
    if channels == 3:
        assert set(blank.ravel()) == {128}
        strongest = np.unravel_index(kernel[..., 0].argmax(), (3, 3, 3))
        assert drawn[0].get_array()[strongest] == 255


def test_each_layer_is_a_row_between_its_percentiles():
    kernel = RNG.normal(size=(3, 3, 4, 50))
    figure = viewing.weights({"a.stem": kernel, "a.head": np.ones((16, 4))})
    axes = figure.get_axes()[-1]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["stem", "head"]
    ends = axes.lines[0].get_xdata()
    np.testing.assert_allclose(ends, np.percentile(kernel * 6, [1, 99]))  # a unit has 36 inputs
    np.testing.assert_allclose(axes.lines[3].get_xdata(), [4, 4])


def test_only_so_many_filters_are_drawn_and_it_says_so():
    figure = viewing.weights({"stem": RNG.normal(size=(1, 1, 3, 300))})
    assert len(pictures(figure)) == 128
    assert figure.subfigs[0].get_suptitle() == "Filters of stem, 128 of 300; as colors, grey is zero"


def test_dense_layers_alone_have_rows_alone():
    assert pictures(viewing.weights({"head": RNG.normal(size=(8, 2))})) == []


def test_nothing_and_nan_are_refused():
    with pytest.raises(ValueError, match="no kernels to draw"):
        viewing.weights({})
    with pytest.raises(ValueError, match="the kernel of stem"):
        viewing.weights({"stem": np.full((3, 3, 1, 2), np.nan)})
