"""The figure of linear pieces: what is drawn is what was given."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam import studies, viewing

X = np.random.default_rng(0).random((3, 4, 4, 1)).astype(np.float32)
W = np.random.default_rng(1).normal(size=X.shape)


@pytest.fixture(scope="module")
def shared():
    return studies.polytopes(lambda x: jnp.maximum(x.mean((1, 2)) - jnp.array([0.5]), 0), X)


def test_weights_are_drawn_about_zero_and_sharing_by_layer(shared):
    figure = viewing.linear_pieces(X, W, shared, titles=["a", "b", "c"], columns=2)
    *tiles, chart = figure.get_axes()
    assert len(tiles) == 6
    (drawn,) = tiles[2].get_images()
    np.testing.assert_allclose(drawn.get_array(), W[0].sum(-1))
    assert drawn.norm.vmin == -drawn.norm.vmax
    np.testing.assert_allclose(chart.lines[1].get_ydata(), [row.sharing for row in shared.table()[1:]])


def test_what_does_not_fit_is_refused(shared):
    with pytest.raises(ValueError, match="weights are like the images"):
        viewing.linear_pieces(X, W[:2], shared)
    with pytest.raises(ValueError, match="3 images have 1 titles"):
        viewing.linear_pieces(X, W, shared, titles=["a"])
    with pytest.raises(ValueError, match="columns is a whole number"):
        viewing.linear_pieces(X, W, shared, columns=0)
