"""Segment maps: what scikit-image finds, in the shape that methods take."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from perturbed_nets import IMAGES, net

import jaxcam as jc
from jaxcam.attribution.segments import painted, segments_of

HALVES = np.zeros((1, 16, 16, 3), np.float32)
HALVES[:, :, 8:] = (1.0, 0.5, 0.0)


@pytest.mark.parametrize("kind", ["slic", "felzenszwalb", "quickshift"])
def test_no_piece_reaches_over_an_edge(kind):
    options = {"slic": {"count": 4, "sigma": 0}, "felzenszwalb": {}, "quickshift": {"max_dist": 4}}[kind]
    labels = jc.segment(HALVES, kind, **options)[0]
    assert not set(labels[:, :8].ravel()) & set(labels[:, 8:].ravel())
    assert sorted(np.unique(labels)) == list(range(labels.max() + 1))


@pytest.mark.parametrize("kind", ["slic", "grid", "felzenszwalb", "quickshift"])
def test_a_constant_image_of_any_channels_is_divided_too(kind):
    for channels in (1, 3, 4):
        labels = jc.segment(np.full((2, 8, 8, channels), 0.3, np.float32), kind, count=4)
        assert labels.shape == (2, 8, 8)
        assert labels.min() == 0


def test_a_grid_has_rectangles_of_like_size():
    labels = jc.segment(np.zeros((1, 7, 9, 3), np.float32), "grid", count=9)[0]
    assert np.unique(labels, return_counts=True)[1].min() >= 2 * 3
    assert labels[0].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_numbers_of_the_user_are_counted_anew_in_each_image():
    given = np.array([[[7, 7], [-2, 40]], [[3, 3], [3, 3]]])
    maps, counts = segments_of(given, np.zeros((2, 2, 2, 1), np.float32))
    assert maps.tolist() == [[[1, 1], [0, 2]], [[0, 0], [0, 0]]]
    assert counts.tolist() == [3, 1]


def test_every_pixel_gets_the_number_of_its_piece():
    values = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    assert painted(values, jnp.array([[[0, 1]], [[1, 1]]])).tolist() == [[[1.0, 2.0]], [[4.0, 4.0]]]


@pytest.mark.parametrize("method", ["lime", "kernel_shap", "shapley_values"])
@pytest.mark.parametrize(
    ("segments", "line"),
    [
        (np.zeros((2, 4, 4), int), "as large as the images, (2, 8, 8); got shape (2, 4, 4)"),
        (np.zeros((8, 8), int), "as large as the images, (2, 8, 8); got shape (8, 8)"),
        ("slick", "did you mean 'slic'?"),
    ],
)
def test_maps_of_another_shape_are_refused(method, segments, line):
    key = {} if method == "shapley_values" else {"key": jax.random.key(0)}
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the line is what is tested
        getattr(jc, method)(net, IMAGES, segments=segments, **key)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_maps_that_are_not_integers_are_refused():
    with pytest.raises(TypeError, match="integers; got float64"):
        jc.shapley_values(net, IMAGES, segments=np.zeros((2, 8, 8)))


def test_bad_counts_and_options_get_one_line():
    with pytest.raises(ValueError, match="finer than the images of 8×8"):
        jc.segment(IMAGES, "grid", count=100)
    with pytest.raises(ValueError, match="count is a whole number from 1 up; got 0"):
        jc.segment(IMAGES, "slic", count=0)
    with pytest.raises(TypeError, match="a grid takes no options but count; got scale"):
        jc.segment(IMAGES, "grid", scale=3)


def test_inside_jit_only_the_grid_works():
    with pytest.raises(ValueError, match=r"'slic' looks at the pixels, which jax\.jit has not yet"):
        jax.jit(lambda x: jc.lime(net, x, key=jax.random.key(0)))(IMAGES)
    inside = jax.jit(lambda x: jc.shapley_values(net, x, segments="grid"))(IMAGES)
    assert np.allclose(inside, jc.shapley_values(net, IMAGES, segments="grid"), atol=1e-5)
