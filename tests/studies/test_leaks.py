"""A leak that was planted is found where it is, by figures that pencil and paper give."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from planted_nets import fit, noisy_digits

import jaxcam as jc
from jaxcam.studies import leak_check, palette, plant, planting, region_check

KEY = jax.random.key(0)
CORNER = (1, 1, 2, 2)


@functools.cache
def checked(*methods):
    """Two networks on noisy digits, with a rectangle in the corner and without."""
    return leak_check(
        fit, *noisy_digits("train", 600), *noisy_digits("test", 100),
        key=KEY, rectangle=CORNER, explained=16, samples=100, methods=dict(methods) or None,
    )  # fmt: skip


def by_saliency():
    return checked(("saliency", jc.saliency))


def looks_at_the_rectangle_if_and_only_if_it_leaks(found, method):
    assert found.leaking.area == pytest.approx(4 / 144)
    assert found.leaking.times_area[method] > 3
    assert found.clean.times_area[method] < 2
    assert found.leaking.times_area[method] > 4 * found.clean.times_area[method]


@pytest.mark.slow
@pytest.mark.optimized
def test_a_network_that_learned_the_rectangle_puts_several_times_its_area_into_it_and_a_clean_one_does_not():
    looks_at_the_rectangle_if_and_only_if_it_leaks(by_saliency(), "saliency")


@pytest.mark.slow
@pytest.mark.optimized
def test_lime_says_so_too():
    looks_at_the_rectangle_if_and_only_if_it_leaks(checked(), "lime")


@pytest.mark.slow
@pytest.mark.optimized
def test_it_fails_when_the_rectangle_is_removed_and_follows_it_to_another_class_and_a_clean_one_does_not():
    found = by_saliency()
    assert found.leaking.accuracy > 0.9
    assert found.leaking.removed < 0.6
    assert found.leaking.followed > found.leaking.moved
    assert abs(found.clean.accuracy - found.clean.removed) < 0.1
    assert found.clean.followed < 0.15


@pytest.mark.slow
@pytest.mark.optimized
def test_a_suspected_region_of_a_trained_network_shows_the_same_without_planting():
    planted = by_saliency()
    labels = noisy_digits("test", 100)[1]
    found = region_check(
        planted.leaking_model, planted.images, labels, CORNER, key=KEY, explained=16, methods={"saliency": jc.saliency}
    )
    assert found.accuracy == planted.leaking.accuracy
    assert found.removed < 0.6
    assert found.followed > 0.3
    np.testing.assert_allclose(found.shares["saliency"], planted.leaking.shares["saliency"], rtol=1e-4)


def test_the_share_of_a_linear_model_is_that_of_its_weights():
    weights = np.random.default_rng(0).normal(size=(6, 5, 3))
    model = lambda x: jnp.stack([(x * weights.astype(np.float32)).sum((1, 2, 3)), jnp.zeros(len(x)) - 1e3], -1)
    mask = np.random.default_rng(1).random((6, 5)) < 0.3
    x = np.random.default_rng(2).random((4, 6, 5, 3), np.float32)
    found = region_check(model, x, [0, 0, 1, 1], mask, key=KEY, methods={"saliency": jc.saliency}, batch=3)
    expected = np.abs(weights).sum(-1)[mask].sum() / np.abs(weights).sum()
    np.testing.assert_allclose(found.shares["saliency"], expected, rtol=1e-6)
    assert found.times_area["saliency"] == pytest.approx(expected / mask.mean(), rel=1e-6)


def test_accuracies_are_those_of_a_network_that_reads_one_pixel():
    reads = lambda x: jnp.stack([0.5 - x[:, 0, 0, 0], x[:, 0, 0, 0] - 0.5], -1)
    x = np.zeros((6, 4, 4, 1), np.float32)
    x[3:, 0, 0] = 1
    labels = np.array([0, 0, 0, 1, 1, 0])
    options = {"key": KEY, "methods": {"saliency": jc.saliency}}
    found = region_check(reads, x, labels, (0, 0, 1, 1), fill=1.0, **options)
    assert (found.accuracy, found.removed) == (5 / 6, 2 / 6)
    beside = region_check(reads, x, labels, (2, 2, 1, 1), **options)
    assert (beside.accuracy, beside.removed, beside.moved) == (5 / 6, 5 / 6, 5 / 6)
    assert beside.shares["saliency"].max() == 0


def test_a_figure_does_not_depend_on_the_batch_nor_touch_its_input():
    x, y = noisy_digits("test", 20)
    before = x.copy()
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(144, 10)), jnp.float32)
    model = Partial(lambda w, x: (x.reshape(len(x), -1) ** 2) @ w, weights)
    options = {"key": KEY, "methods": {"saliency": jc.saliency}}
    whole, parts = (region_check(model, x, y, None, batch=batch, **options) for batch in (20, 3))
    assert (whole.accuracy, whole.removed, whole.followed) == (parts.accuracy, parts.removed, parts.followed)
    np.testing.assert_allclose(whole.shares["saliency"], parts.shares["saliency"], rtol=1e-5)
    np.testing.assert_array_equal(x, before)


@pytest.mark.slow
def test_lime_that_fills_a_piece_with_its_own_mean_is_blind_to_a_rectangle_of_one_color():
    x = jnp.zeros((2, 6, 6, 1)).at[0, :2, :2].set(1)
    pieces = (np.indices((6, 6)) < 2).all(0).astype(int)[None].repeat(2, 0)
    net = lambda x: jnp.stack([x[:, :2, :2].sum((1, 2, 3)), jnp.full(len(x), 2.0)], -1)
    own = jc.lime(net, x, 0, key=KEY, segments=pieces, samples=50)
    assert float(jnp.abs(own[0]).max()) < 1e-5
    found = region_check(net, x, [0, 1], (0, 0, 2, 2), key=KEY, samples=50)
    assert found.shares["lime"][list(found.explained).index(0)] > 0.5


def test_planting_changes_the_rectangle_and_nothing_else():
    x = np.random.default_rng(0).random((3, 6, 5, 3), np.float32)
    planted = plant(x, [0, 2, 1], palette(3), rectangle=(1, 2, 3, 2))
    np.testing.assert_array_equal(planted[1, 1:4, 2:4], np.broadcast_to([0, 0, 1], (3, 2, 3)))
    changed = (planted != x).any((0, 3))
    assert changed.sum() == 6
    assert changed[1:4, 2:4].all()
    assert plant(x[..., :1], 1, palette(2)).shape == (3, 6, 5, 3)
    assert len(np.unique(palette(10), axis=0)) == 10


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": [1, 1]}, "a region check needs images of two classes or more; all 2 labels are 1"),
        ({"labels": [0, 5]}, "the labels go up to 5, and the model has 2 outputs"),
        ({"labels": [0]}, "2 images have a label each"),
        ({"labels": [0.5, 1.0]}, "labels are whole numbers"),
        ({"region": (0, 3, 2, 2)}, "2×2 pixels at row 0, column 3 reaches outside the images of 4×4"),
        ({"region": (0, 0, 0, 2)}, "at least one pixel"),
        ({"region": (0, 0, 4, 4)}, "this one has all of it"),
        ({"region": "corner"}, "in whole pixels, or a mask"),
        ({"region": np.ones((3, 4), bool)}, "a mask is as large as the images, 4×4; got 3×4"),
        ({"region": np.ones((4, 4))}, "booleans; got float64"),
        ({"fill": "noise"}, "no fill 'noise'"),
        ({"explained": 0}, "explained is a whole number from 1 up"),
        ({"batch": 0}, "batch is a whole number from 1 up"),
        ({"methods": {"odd": lambda model, x: x[:, :2]}}, "maps of odd are 2×4, not 4×4"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(change, words):
    given = {"labels": [0, 1], "region": (0, 0, 2, 2), "key": KEY, "methods": {"saliency": jc.saliency}} | change
    labels, region = given.pop("labels"), given.pop("region")
    model = lambda x: x[:, 0, 0, :1] * jnp.array([1.0, -1.0])
    with pytest.raises((ValueError, TypeError)) as refused:
        region_check(model, np.ones((2, 4, 4, 1), np.float32), labels, region, **given)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_planting_where_it_cannot_be_is_refused_before_any_training():
    def never(images, labels):
        raise AssertionError("trained")

    x, y = np.ones((4, 8, 8, 3), np.float32), np.array([0, 1, 0, 1])
    with pytest.raises(ValueError, match="reaches outside the images of 8×8"):
        leak_check(never, x, y, x, y, key=KEY, rectangle=(7, 7, 2, 2))
    with pytest.raises(ValueError, match="two classes or more"):
        leak_check(never, x, 0 * y, x, y, key=KEY)
    with pytest.raises(ValueError, match="colors are an array"):
        leak_check(never, x, y, x, y, key=KEY, colors=np.ones((2, 1)))


def test_grey_images_get_the_channels_of_their_colors_and_others_are_copied():
    grey = np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 2, 2, 1)
    found = planting.colored(grey, np.ones((4, 3)))
    assert found.shape == (2, 2, 2, 3)
    assert all((found[..., c] == grey[..., 0]).all() for c in range(3))
    color = np.repeat(grey, 3, -1)
    copied = planting.colored(color, np.ones((4, 3)))
    np.testing.assert_array_equal(copied, color)
    assert not np.shares_memory(copied, color)
    for colors in (np.ones((4, 2)), np.ones(3), np.ones((0, 3))):
        with pytest.raises(ValueError, match="colors are an array"):
            planting.colored(color, colors)


USUAL = [((10, 10), [1, 2], [1, 2]), ((10, 1), [1, 2], [0]), ((1, 10), [0], [1, 2]), ((3, 2), [1], [1])]


@pytest.mark.parametrize(("size", "rows", "columns"), USUAL)
def test_the_usual_rectangle_is_a_fifth_of_the_image_one_pixel_from_the_corner(size, rows, columns):
    mask = planting.region_mask(None, size)
    assert mask.any(1).nonzero()[0].tolist() == rows
    assert mask.any(0).nonzero()[0].tolist() == columns


@pytest.mark.parametrize("classes", [3, 5, 7])
def test_colors_are_as_far_apart_as_can_be_and_have_six_digits(classes):
    colors = palette(classes)
    assert (colors == colors.round(6)).all()
    assert (colors.max(1) == 1).all()
    assert (colors.min(1) == 0).all()
    assert colors[0].tolist() == [1, 0, 0]
    assert len(np.unique(colors, axis=0)) == classes
