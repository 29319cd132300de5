"""What is asked of a method, examined: images, numbers, keys, models that fail, and options that are compared."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam as jc
from jaxcam.attribution import asking, bricks, budget, noise, rules
from jaxcam.program.sharing import ways

X = jnp.ones((2, 4, 4, 3))


def network(x):
    return x.mean((1, 2)) @ jnp.ones((3, 2))


def test_the_reason_why_a_model_fails_is_told_in_300_letters():
    def model(x):
        raise RuntimeError("a" * 400)

    with pytest.raises(ValueError, match=r"\(float32\): a{300}$"):
        jc.saliency(model, X, 0)


@pytest.mark.parametrize(
    ("shape", "hint"),
    [((2, 3, 4, 4), True), ((2, 1, 4, 4), True), ((2, 4, 4, 3), False), ((2, 3, 4, 1), False), ((2, 4, 4, 4), False)],
)
def test_channels_in_front_are_taken_for_a_mistake_only_where_they_are_not_behind(shape, hint):
    def model(x):
        raise RuntimeError("no")

    with pytest.raises(ValueError, match="no" if hint else r"no$") as told:
        jc.saliency(model, jnp.ones(shape), 0)
    assert ("transpose(0, 2, 3, 1)" in str(told.value)) == hint


@pytest.mark.parametrize("x", [[1.0], None, "images", type("Bare", (), {"shape": (1, 2, 2, 3)})()])
def test_what_is_no_array_is_no_image(x):
    with pytest.raises(TypeError, match=r"^images are an array \(n, h, w, c\); got \w+$"):
        asking.check_images(x)


@pytest.mark.parametrize(
    ("shape", "rest"),
    [((4, 4, 3), r"\(4, 4, 3\); one image needs a batch axis"), ((4, 4), r"\(4, 4\)$"), ((0, 4, 4, 3), r"\(0, .*\)$")],
)
def test_a_batch_has_four_axes_and_none_is_empty(shape, rest):
    with pytest.raises(ValueError, match=rf"got shape {rest}"):
        asking.check_batch(np.ones(shape, np.float32))


def test_what_has_no_shape_is_no_batch():
    with pytest.raises(ValueError, match=r"got shape None$"):
        asking.check_batch(object())


def test_arrays_without_a_point_are_finite_and_no_arrays_are_too():
    assert asking._all_finite(jnp.arange(3))
    assert asking._all_finite(())
    assert not asking._all_finite((jnp.arange(3), jnp.array([1.0, jnp.nan])))


def test_a_model_is_called():
    with pytest.raises(TypeError, match="a model is a callable x -> outputs; got int"):
        jc.saliency(3, X, 0)


def test_what_is_far_from_every_name_is_compared_with_none():
    assert bricks.closest("rescal", ("rescale", "reveal_cancel")) == "; did you mean 'rescale'?"
    assert bricks.closest("zzzzz", ("rescale", "reveal_cancel")) == ""


def test_a_gigabyte_is_filled_unless_told_otherwise():
    each = 4 * 256 * 256 * 3 * 2  # the images of one pass
    large = jnp.ones((2, 256, 256, 3))
    found = budget.chunk_size(network, large, 10_000)
    assert found == min(budget.LARGEST, 2**30 // each) * ways()


def test_partial_functions_are_equal_by_what_they_do():
    one, same, other = (noise._comparable(functools.partial(jc.integrated_gradients, steps=s)) for s in (3, 3, 4))
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != 3
    assert one != jc.integrated_gradients


def test_a_rule_without_biases_needs_the_image_where_its_rule_does():
    assert rules.ZeroBias(rules.ZBox()).needs_image
    assert not rules.ZeroBias(rules.ZPlus()).needs_image
    bare = type("Bare", (), {"terms": rules.ZPlus().terms})()
    assert not rules.ZeroBias(bare).needs_image


def test_options_of_a_grid_are_refused_and_those_of_quickshift_reach_it(monkeypatch):
    from skimage import segmentation

    image = np.random.default_rng(0).uniform(size=(1, 16, 16, 3)).astype(np.float32)
    with pytest.raises(TypeError, match="a grid takes no options but count; got sigma"):
        jc.segment(image, "grid", sigma=1)
    asked, real = [], segmentation.quickshift
    monkeypatch.setattr(segmentation, "quickshift", lambda image, **given: asked.append(given) or real(image, **given))
    jc.segment(image, "quickshift")
    jc.segment(image[..., :1], "quickshift", max_dist=3)
    usual = {"kernel_size": 4, "max_dist": 200, "ratio": 0.2, "convert2lab": True, "rng": 0, "channel_axis": -1}
    assert asked == [usual, usual | {"convert2lab": False, "max_dist": 3}]


@pytest.mark.parametrize(("size", "gain"), [(224, 50), (112, 12), (32, 1), (448, 50)])
def test_xrai_asks_for_as_many_new_pixels_as_the_image_is_large(size, gain, monkeypatch):
    from jaxcam.attribution import regions

    asked = []
    monkeypatch.setattr(regions, "grown", lambda values, found, least: asked.append(least) or values)
    monkeypatch.setattr(regions, "regions", lambda layers, dilation: asked.append(dilation))
    monkeypatch.setattr(regions, "over_segmented", lambda image: None)
    x = np.ones((1, size, size, 3), np.float32)
    jc.xrai(network, x, 0, attributions=x)
    assert asked == [round(regions.DILATION * min(1, size / 224)), gain]
    assert (regions.GAIN, regions.DILATION) == (50, 5)
