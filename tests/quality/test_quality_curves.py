"""Deletion and insertion, on models whose curves are summed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from quality_nets import images, lit, small_net

import jaxcam as jc

PIXELS = jnp.asarray(np.arange(1.0, 7.0).reshape(1, 2, 3, 1), jnp.float32)  # 1 2 3 / 4 5 6
FORWARD = PIXELS[..., 0]  # the largest pixel first


def two_classes(x):
    """Logits (light / 2, 0), so that the first class has the probability sigmoid(light / 2)."""
    light = x.sum((1, 2, 3))
    return jnp.stack([light / 2, 0 * light], -1)


def slowly(model, x, maps, target, steps, replaced, insert, score):
    """The curve, one image, one step and one pixel at a time, from the paper's algorithm 1."""
    curves = []
    for image, values, t, other in zip(np.asarray(x), np.asarray(maps), target, np.asarray(replaced), strict=True):
        height, width = values.shape
        order = sorted(np.ndindex(height, width), key=lambda at: -values[at])
        curve = []
        for step in range(steps + 1):
            mixed = (other if insert else image).copy()
            for at in order[: round(step / steps * height * width)]:
                mixed[at] = (image if insert else other)[at]
            outputs = np.asarray(model(jnp.asarray(mixed)[None]), np.float64)[0]
            curve.append(np.exp(outputs[t]) / np.exp(outputs).sum() if score == "probability" else outputs[t])
        curves.append(curve)
    return np.array(curves)


def test_deleting_the_largest_pixels_first_leaves_the_sum_of_the_others():
    found = jc.quality.deletion(lit, PIXELS, FORWARD, steps=6, score="output")
    assert_array_equal(found.curve, [[21, 15, 10, 6, 3, 1, 0]])
    assert_allclose(found.fractions, np.arange(7) / 6)
    assert_allclose(found.area, [(21 / 2 + 15 + 10 + 6 + 3 + 1) / 6], rtol=1e-6)


def test_inserting_the_largest_pixels_first_adds_them_up():
    found = jc.quality.insertion(lit, PIXELS, FORWARD, steps=6, baseline=None, score="output")
    assert_array_equal(found.curve, [[0, 6, 11, 15, 18, 20, 21]])


def test_the_best_order_has_the_smallest_deletion_and_the_largest_insertion_area():
    for order in (-FORWARD, FORWARD[:, ::-1], FORWARD[:, :, ::-1]):
        assert (
            jc.quality.deletion(lit, PIXELS, FORWARD, steps=6, score="output").area
            < jc.quality.deletion(lit, PIXELS, order, steps=6, score="output").area
        )
        assert jc.quality.insertion(lit, PIXELS, FORWARD, steps=6, baseline=0, score="output").area > (
            jc.quality.insertion(lit, PIXELS, order, steps=6, baseline=0, score="output").area
        )


def test_the_default_score_is_the_probability():
    found = jc.quality.deletion(two_classes, PIXELS, FORWARD, target=0, steps=6)
    light = np.array([21, 15, 10, 6, 3, 1, 0])
    assert_allclose(found.curve, 1 / (1 + np.exp(-light[None] / 2)), rtol=1e-6)


def test_the_predicted_class_is_settled_before_anything_is_taken_away():
    def flips(x):
        light = x.sum((1, 2, 3))
        return jnp.stack([light - 10, 10 - light], -1)  # predicts 0 in the light, 1 in the dark

    found = jc.quality.deletion(flips, PIXELS, FORWARD, steps=6, score="output")
    assert_array_equal(found.curve, [[11, 5, 0, -4, -7, -9, -10]])


@pytest.mark.evidence("deletion", "insertion", kind="twin", source="one image after another")
@pytest.mark.parametrize("score", ["probability", "output"])
@pytest.mark.parametrize("insert", [False, True])
def test_both_equal_the_slow_twin_on_a_network(insert, score):
    model, x, target = small_net(), images(), [3, 1]
    maps = jnp.asarray(np.random.default_rng(5).normal(size=(2, 6, 6)), jnp.float32)
    replaced = jnp.broadcast_to(x.mean((1, 2), keepdims=True), x.shape)
    function = jc.quality.insertion if insert else jc.quality.deletion
    found = function(model, x, maps, target, steps=7, baseline="mean", score=score)
    assert_allclose(found.curve, slowly(model, x, maps, target, 7, replaced, insert, score), rtol=2e-5, atol=1e-6)
    assert_allclose(found.area, np.trapezoid(found.curve, found.fractions, axis=1), rtol=1e-5)


def test_the_curves_meet_the_image_and_the_baseline_at_their_ends():
    model, x = small_net(), images()
    maps = jc.saliency(model, x, 2)
    deleted = jc.quality.deletion(model, x, maps, 2, score="output", baseline=0.5)
    inserted = jc.quality.insertion(model, x, maps, 2, score="output", baseline=0.5)
    whole, empty = model(x)[:, 2], model(jnp.full_like(x, 0.5))[:, 2]
    assert_allclose(deleted.curve[:, [0, -1]], jnp.stack([whole, empty], 1), rtol=1e-4)
    assert_allclose(inserted.curve[:, [0, -1]], jnp.stack([empty, whole], 1), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 3, 32, 33, 50])
def test_the_chunk_does_not_change_the_curve(chunk):
    model, x = small_net(), images()
    maps = jc.saliency(model, x)
    whole = jc.quality.deletion(model, x, maps).curve
    assert_allclose(jc.quality.deletion(model, x, maps, chunk=chunk).curve, whole, rtol=1e-5)


def test_a_batch_has_the_curves_of_its_images():
    model, x = small_net(), images(3)
    maps = jc.saliency(model, x)
    together = jc.quality.insertion(model, x, maps).curve
    one_by_one = [jc.quality.insertion(model, x[i : i + 1], maps[i : i + 1]).curve for i in range(3)]
    assert_allclose(together, jnp.concatenate(one_by_one), rtol=1e-5)


def test_it_can_be_jitted():
    model, x = small_net(), images()
    maps = jc.saliency(model, x)
    jitted = jax.jit(lambda model, x, maps: jc.quality.deletion(model, x, maps, 1))(model, x, maps)
    assert_allclose(jitted.area, jc.quality.deletion(model, x, maps, 1).area, rtol=1e-5)


def test_channels_are_summed_with_their_sign_or_without():
    # Pixel 0 has contributions +3 and -3, pixel 1 has +1 and 0.
    maps = jnp.array([[[[3.0, -3.0], [1.0, 0.0]]]])
    x = jnp.array([[[[1.0, 1.0], [10.0, 10.0]]]])
    light = lambda x: x.sum((1, 2, 3))[:, None]
    signed = jc.quality.deletion(light, x, maps, steps=2, score="output").curve
    absolute = jc.quality.deletion(light, x, maps, steps=2, score="output", absolute=True).curve
    assert_array_equal(signed, [[22, 2, 0]])
    assert_array_equal(absolute, [[22, 20, 0]])


def test_a_small_map_is_upsampled_bilinearly():
    torch_like = np.array([[0, 0.25, 0.75, 1]]) * np.ones((4, 1))
    x = jnp.asarray(1 + np.arange(16.0).reshape(1, 4, 4, 1), jnp.float32)
    small = jnp.array([[[0.0, 1.0]]])  # one row: constant down the image
    found = jc.quality.deletion(lit, x, small, steps=16, score="output").curve
    large = jc.quality.deletion(lit, x, jnp.asarray(torch_like)[None], steps=16, score="output").curve
    assert_array_equal(found, large)


def test_patches_are_taken_as_a_whole_by_their_mean():
    x = jnp.asarray(1 + np.arange(15.0).reshape(1, 3, 5, 1), jnp.float32)
    # Patches of 2×2, the last row and column smaller: means 4.5 6 3 / 1 2 5, though single pixels say otherwise.
    maps = jnp.array([[[9, 0, 6, 6, 3], [0, 9, 6, 6, 3], [1, 1, 2, 2, 5]]], float)
    found = jc.quality.deletion(lit, x, maps, steps=6, score="output", patch=2)
    light = [3 + 4 + 8 + 9, 15, 1 + 2 + 6 + 7, 5 + 10, 13 + 14, 11 + 12]  # in that order
    assert_array_equal(found.curve, [120 - np.cumsum([0, *light])])
    assert_allclose(found.fractions, np.arange(7) / 6, rtol=1e-6)


def test_ties_are_taken_row_by_row():
    maps = jnp.array([[[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]])
    found = jc.quality.deletion(lit, PIXELS, maps, steps=6, score="output").curve
    assert_array_equal(found, [[21, 19, 18, 15, 11, 6, 0]])  # 2 first, then 1 3 4 5 6


def test_a_hidden_unit_has_a_curve():
    model, x = small_net(), images()
    unit = jc.tap(model, "conv_0")
    name = jc.layers(model, x)[0].name
    found = jc.quality.deletion(jc.tap(model, name), x, jc.saliency(unit, x, 2), 2, score="output")
    assert_allclose(found.curve[:, 0], unit(x)[..., 2].sum((1, 2)), rtol=1e-4)


def test_a_callable_target_gets_the_outputs_as_they_are():
    model, x = small_net(), images()
    maps = jc.saliency(model, x, jc.contrast(0, 1))
    found = jc.quality.deletion(model, x, maps, jc.contrast(0, 1))
    assert_allclose(found.curve[:, 0], model(x)[:, 0] - model(x)[:, 1], rtol=1e-4)


BAD = {
    "another batch": ({"maps": jnp.ones((3, 6, 6))}, ValueError, "2 images need 2 maps; got 3"),
    "a constant map": ({"maps": jnp.ones((2, 6, 6))}, ValueError, "map 0 is 1 everywhere"),
    "a large map": ({"maps": jnp.ones((2, 7, 6))}, ValueError, "no larger than the images, 6×6; got 7×6"),
    "a flat map": ({"maps": jnp.ones((2, 36))}, ValueError, r"\(n, h, w\) or \(n, h, w, c\); got shape \(2, 36\)"),
    "NaN": ({"maps": jnp.full((2, 6, 6), jnp.nan)}, ValueError, "map 0 has NaN"),
    "several layers": ({"maps": {"a": jnp.ones((2, 3, 3))}}, TypeError, "one for each of the layers a: choose one"),
    "a list": ({"maps": [[1, 2]]}, TypeError, "maps are an array"),
    "no steps": ({"steps": 0}, ValueError, "steps is a whole number from 1 up; got 0"),
    "too many steps": ({"steps": 37}, ValueError, "at most the number of pixels, 36; got 37"),
    "too many steps of patches": ({"steps": 5, "patch": 3}, ValueError, "at most the number of patches, 4; got 5"),
    "no patch": ({"patch": 0}, ValueError, "patch is a whole number from 1 up; got 0"),
    "a chunk of nothing": ({"chunk": 0}, ValueError, "chunk is a whole number from 1 up"),
    "a target out of range": ({"target": 5}, ValueError, "target 5 is out of range: the model has 5 outputs"),
    "an unknown score": ({"score": "probabilty"}, ValueError, "no score 'probabilty'; .* mean 'probability'"),
    "an unknown baseline": ({"baseline": "black"}, ValueError, "no baseline 'black'; there are 'mean', 'blur'"),
    "a baseline of another size": ({"baseline": jnp.ones((5, 5, 3))}, ValueError, "baseline is a number"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("function", ["deletion", "insertion"])
def test_bad_input_is_one_line(function, case):
    wrong, kind, message = BAD[case]
    arguments = {"maps": jnp.arange(72.0).reshape(2, 6, 6), **wrong}
    with pytest.raises(kind, match=message) as error:
        getattr(jc.quality, function)(small_net(), images(), **arguments)
    assert "\n" not in str(error.value)


def test_a_model_without_classes_has_no_probability():
    with pytest.raises(ValueError, match="no classes to choose from; ask for score='output'"):
        jc.quality.deletion(lit, PIXELS, FORWARD, steps=6)
