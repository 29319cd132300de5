"""XRAI: a slow twin of the growth, what regions must hold, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from perturbed_nets import IMAGES, net
from skimage.morphology import dilation, disk

import jaxcam as jc
from jaxcam.attribution.regions import grown, over_segmented, regions

RNG = np.random.default_rng(5)


def slowly_grown(values, masks, least):
    """Every region's mean computed anew before each choice."""
    out, covered = np.full(values.shape, np.nan), np.zeros(values.shape, bool)
    while True:
        gains = [values[m & ~covered].mean() if (m & ~covered).sum() >= least else -np.inf for m in masks]
        if max(gains) == -np.inf:
            break
        best = masks[int(np.argmax(gains))]
        out[best & ~covered] = max(gains)
        covered |= best
    out[~covered] = values[~covered].mean() if not covered.all() else 0
    return out


@pytest.mark.evidence("xrai", kind="twin", source="every mean anew before each choice")
@pytest.mark.parametrize("least", [1, 4, 9])
def test_regions_grow_as_the_definition_says(least):
    values = RNG.normal(size=(12, 10))
    masks = regions(RNG.integers(0, 6, (3, 4, 5)).repeat(3, 1).repeat(2, 2), 1)
    assert_allclose(grown(values, masks, least), slowly_grown(values, masks, least), rtol=1e-10)


def test_what_no_region_covers_gets_its_own_mean():
    values = np.array([[1.0, 3.0, 5.0, 7.0]])
    assert grown(values, np.array([[[True, True, False, False]]]), 1).tolist() == [[2.0, 2.0, 6.0, 6.0]]


def test_a_region_is_widened_by_a_disk():
    labels = RNG.integers(0, 3, (1, 9, 11))
    for radius in (0, 1, 3):
        for number, mask in enumerate(regions(labels, radius)):
            assert (mask == dilation(labels[0] == number, disk(radius))).all()


@pytest.mark.evidence("xrai", kind="axiom", source="keeps the sum of the attributions")
def test_the_map_sums_to_what_the_attributions_sum_to():
    maps = jc.xrai(net, IMAGES, 1, segments="grid")
    ends = jnp.stack(
        [jnp.broadcast_to(f(IMAGES, axis=(1, 2, 3), keepdims=True), IMAGES.shape) for f in (jnp.min, jnp.max)]
    )
    given = jc.integrated_gradients(net, IMAGES, 1, baseline=ends, steps=50)
    assert maps.shape == (2, 8, 8)
    assert_allclose(maps.sum((1, 2)), given.max(-1).sum((1, 2)), rtol=1e-4)
    assert_allclose(jc.xrai(net, IMAGES, 1, attributions=given, segments="grid"), maps, rtol=1e-4, atol=1e-6)


def test_segments_of_equal_attribution_are_found_again():
    labels = np.array([[[0, 0, 1], [2, 2, 1]]])
    given = jnp.array([[[0.5, 0.5, -2.0], [3.0, 3.0, -2.0]]])
    found = jc.xrai(net, jnp.zeros((1, 2, 3, 3)), attributions=given, segments=labels)
    assert (found == given).all()


def test_a_constant_image_has_one_region():
    assert (over_segmented(np.full((8, 8, 3), 0.4)) == 0).all()
    given = jnp.asarray(RNG.random((1, 8, 8)), jnp.float32)
    assert_allclose(
        jc.xrai(net, jnp.full((1, 8, 8, 3), 0.4), attributions=given), np.full((1, 8, 8), given.mean()), 1e-5
    )


def test_inside_jit_it_gives_the_same():
    inside = jax.jit(lambda x: jc.xrai(net, x, 1, steps=4))(IMAGES[:1])
    assert_allclose(inside, jc.xrai(net, IMAGES[:1], 1, steps=4), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 3, 4, 5])
def test_any_chunk_gives_the_same(chunk):
    options = {"steps": 4, "segments": "grid"}
    assert_allclose(jc.xrai(net, IMAGES, 0, chunk=chunk, **options), jc.xrai(net, IMAGES, 0, **options), rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            {"segments": np.zeros((2, 4, 4), int)},
            "segment maps are (2, 8, 8) or several (2, b, 8, 8); got shape (2, 4, 4)",
        ),
        ({"attributions": np.zeros((2, 4, 4))}, "attributions are like the images (2, 8, 8, 3); got shape (2, 4, 4)"),
        ({"attributions": np.full((2, 8, 8), np.nan)}, "the attributions have NaN"),
        ({"gain": 0}, "gain is a whole number from 1 up; got 0"),
        ({"dilation": -1}, "dilation is a whole number of pixels from 0 up; got -1"),
        ({"steps": 0}, "steps is a whole number from 1 up; got 0"),
        ({"chunk": 0}, "chunk is a whole number from 1 up; got 0"),
    ],
)
def test_bad_input_gets_one_line(options, line):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the line is what is tested
        jc.xrai(net, IMAGES, **options)
    assert line in str(error.value)
    assert "\n" not in str(error.value)
