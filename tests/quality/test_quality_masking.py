"""Average drop and increase, and the pointing game, on cases worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from quality_nets import images, lit, small_net

import jaxcam as jc

ROW = jnp.array([[[[4.0], [2.0], [2.0]]]])  # one row of three pixels


def test_the_drop_is_the_share_of_the_light_behind_the_map():
    maps = jnp.array([[[7.0, 5.0, 3.0]]])  # scaled: 1, 1/2, 0
    assert_allclose(jc.quality.average_drop(lit, ROW, maps, score="output"), [1 - (4 + 1 + 0) / 8])


def test_a_score_that_rises_drops_by_nothing_and_increases():
    against = lambda x: 9 + x[:, 0, 0] - x[:, 0, 1] - x[:, 0, 2]  # 9 for ROW, 13 without the last two
    maps = jnp.array([[[1.0, 0.0, 0.0]]])
    assert_array_equal(jc.quality.average_drop(against, ROW, maps, score="output"), [0])
    assert_array_equal(jc.quality.average_increase(against, ROW, maps, score="output"), [True])
    assert_array_equal(jc.quality.average_increase(lit, ROW, maps, score="output"), [False])


def test_where_the_map_is_low_the_baseline_is_seen():
    maps = jnp.array([[[1.0, 0.0, 0.0]]])
    assert_allclose(jc.quality.average_drop(lit, ROW, maps, score="output", baseline=1), [1 - (4 + 1 + 1) / 8])


@pytest.mark.evidence("average_drop", "average_increase", kind="twin", source="the formula in numpy")
def test_drops_equal_their_formula_on_a_network():
    model, x = small_net(), images()
    maps = jc.saliency(model, x, [0, 3])
    values = np.asarray(maps, np.float64).sum(-1)
    low, high = values.min((1, 2), keepdims=True), values.max((1, 2), keepdims=True)
    seen = np.asarray(x) * ((values - low) / (high - low))[..., None]
    both = [jax.nn.softmax(model(z), -1)[jnp.arange(2), jnp.array([0, 3])] for z in (x, jnp.asarray(seen, x.dtype))]
    p, e = np.asarray(both)
    assert_allclose(jc.quality.average_drop(model, x, maps, [0, 3]), np.maximum(p - e, 0) / p, rtol=1e-4, atol=1e-6)
    assert_array_equal(jc.quality.average_increase(model, x, maps, [0, 3]), e > p)


def test_a_drop_of_a_negative_score_is_refused():
    with pytest.raises(ValueError, match="a share of a positive score; image 0 has -8"):
        jc.quality.average_drop(lambda x: -lit(x), ROW, ROW[..., 0], score="output")


@pytest.mark.parametrize("name", ["average_drop", "average_increase"])
def test_bad_input_is_one_line(name):
    function, model, x = getattr(jc.quality, name), small_net(), images()
    with pytest.raises(ValueError, match="2 images need 2 maps; got 1"):
        function(model, x, jnp.ones((1, 6, 6)))
    with pytest.raises(ValueError, match="map 1 is 0 everywhere"):
        function(model, x, jnp.stack([jnp.eye(6), jnp.zeros((6, 6))]))
    with pytest.raises(ValueError, match="target 7 is out of range"):
        function(model, x, jnp.stack([jnp.eye(6)] * 2), 7)


def map_at(row, column, size=(8, 8)):
    return jnp.zeros((1, *size)).at[0, row, column].set(1.0)


@pytest.mark.parametrize(
    ("place", "hit"),
    [((2, 3), True), ((4, 5), True), ((5, 5), False), ((4, 6), False), ((1, 3), False), ((2, 2), False)],
)
def test_a_box_is_hit_inside_its_edges(place, hit):
    box = jnp.array([[2, 3, 5, 6]])  # rows 2 to 4, columns 3 to 5
    assert_array_equal(jc.quality.pointing_game(map_at(*place), box), [hit])


def test_a_mask_is_hit_where_it_is_true():
    mask = np.zeros((1, 8, 8), bool)
    mask[0, 1, 1] = mask[0, 6, 6] = True
    assert_array_equal(jc.quality.pointing_game(map_at(6, 6), mask), [True])
    assert_array_equal(jc.quality.pointing_game(map_at(1, 6), mask), [False])


def test_any_of_several_boxes_will_do():
    boxes = [np.array([[0, 0, 1, 1], [6, 6, 8, 8]])]
    assert_array_equal(jc.quality.pointing_game(map_at(7, 6), boxes), [True])
    assert_array_equal(jc.quality.pointing_game(map_at(3, 3), boxes), [False])


def test_the_tolerance_is_a_distance_in_pixels():
    box = np.array([[0, 0, 1, 1]])
    near, far = map_at(3, 4), map_at(4, 4)  # 5 and 5.66 pixels away
    assert_array_equal(jc.quality.pointing_game(near, box, tolerance=5), [True])
    assert_array_equal(jc.quality.pointing_game(far, box, tolerance=5), [False])
    assert_array_equal(jc.quality.pointing_game(near, box, tolerance=4.9), [False])


def test_a_small_map_points_in_the_image():
    small = map_at(0, 1, (2, 2))
    mask = np.zeros((1, 8, 8), bool)
    mask[0, :4, 4:] = True
    assert_array_equal(jc.quality.pointing_game(small, mask), [True])
    assert_array_equal(jc.quality.pointing_game(small, np.array([[0, 4, 4, 8]]), size=(8, 8)), [True])


def test_what_points_is_the_largest_value_with_its_sign_or_without():
    maps = map_at(0, 0) - 2 * map_at(7, 7)
    box = np.array([[7, 7, 8, 8]])
    assert_array_equal(jc.quality.pointing_game(maps, box), [False])
    assert_array_equal(jc.quality.pointing_game(maps, box, absolute=True), [True])


def test_numbers_in_three_axes_are_several_boxes_of_each_image():
    several = np.array([[[0, 0, 1, 1], [7, 7, 8, 8]], [[0, 0, 1, 1], [2, 2, 4, 4]]])
    maps = jnp.concatenate([map_at(7, 7), map_at(7, 7)])
    assert_array_equal(jc.quality.pointing_game(maps, several), [True, False])
    assert_array_equal(jc.quality.pointing_game(maps, several.tolist()), [True, False])


POINTLESS = {
    "too few": (np.array([[0, 0, 1, 1]] * 2), ValueError, "1 maps need 1 regions; got 2"),
    "outside": (np.array([[0, 0, 9, 1]]), ValueError, r"within the image, 8×8, .* image 0 has \(0, 0, 9, 1\)"),
    "upside down": (np.array([[3, 0, 1, 1]]), ValueError, "within the image"),
    "three numbers": (np.array([[3, 0, 1]]), ValueError, "a box is four numbers"),
    "an empty mask": (np.zeros((1, 8, 8), bool), ValueError, "the region of image 0 has no pixel"),
    "a small mask": (np.ones((1, 4, 4), bool), ValueError, "maps are no larger than the regions"),
    "a word": ("middle", TypeError, "regions are masks"),
}


@pytest.mark.parametrize("case", POINTLESS)
def test_bad_regions_are_one_line(case):
    regions, kind, message = POINTLESS[case]
    with pytest.raises(kind, match=message) as error:
        jc.quality.pointing_game(map_at(0, 0), regions)
    assert "\n" not in str(error.value)


def test_a_constant_map_points_nowhere():
    with pytest.raises(ValueError, match="map 0 is 0 everywhere"):
        jc.quality.pointing_game(jnp.zeros((1, 4, 4)), np.array([[0, 0, 1, 1]]))
    with pytest.raises(ValueError, match="tolerance is a number of pixels from 0 up"):
        jc.quality.pointing_game(map_at(0, 0), np.array([[0, 0, 1, 1]]), tolerance=-1.0)
