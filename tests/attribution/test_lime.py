"""LIME: a slow twin, what it must recover, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from perturbed_nets import IMAGES, linear, net, np_scores

import jaxcam as jc
from jaxcam.attribution.local_models import random_pieces

KEY = jax.random.key(1)
QUARTERS = np.repeat(np.repeat(np.arange(4).reshape(1, 2, 2), 4, 1), 4, 2).repeat(2, 0)


def twin(x, target, segments, bits, width, alpha, stand_in):
    """One image after another, in float64: a weighted regression with an intercept, by its normal equations."""
    maps = np.zeros(x.shape[:3])
    for i, (image, labels) in enumerate(zip(x, segments, strict=True)):
        count = labels.max() + 1
        z = bits[:, :count].astype(float)
        y = [np_scores(np.where(row[labels][..., None], image, stand_in[i])[None])[0, target] for row in z.astype(bool)]
        cosine = [row.sum() / max(np.sqrt(row.sum() * count), 1e-300) for row in z]
        weights = np.sqrt(np.exp(-((1 - np.array(cosine)) ** 2) / width**2))
        design = np.concatenate([np.ones((len(z), 1)), z], 1)
        penalty = alpha * np.diag([0.0, *np.ones(count)])
        solved = np.linalg.solve(design.T @ (weights[:, None] * design) + penalty, design.T @ (weights * np.array(y)))
        maps[i] = solved[1:][labels]
    return maps


def means(x, segments):
    """The mean color of each segment."""
    out = np.zeros_like(x)
    for i, labels in enumerate(segments):
        for number in np.unique(labels):
            out[i][labels == number] = x[i][labels == number].mean(0)
    return out


@pytest.mark.evidence("lime", kind="twin", source="normal equations, image by image")
def test_lime_is_what_its_definition_says():
    with jax.enable_x64(True):
        x = np.asarray(IMAGES, np.float64)
        segments = QUARTERS.copy()
        segments[1][segments[1] == 3] = 2  # unequally many
        bits = np.asarray(random_pieces(KEY, 40, 8))
        options = {"key": KEY, "segments": segments, "samples": 40, "kernel_width": 0.3, "regularization": 0.7}
        ours = jc.lime(net, jnp.asarray(x), 1, **options)
        assert_allclose(ours, twin(x, 1, segments, bits, 0.3, 0.7, means(x, segments)), rtol=1e-8)


@pytest.mark.evidence("lime", kind="axiom", source="recovers a model that is linear in the segments")
def test_a_model_that_is_linear_in_the_segments_is_recovered():
    found = jc.lime(linear, IMAGES, 2, key=KEY, segments=QUARTERS, samples=50, regularization=0.0, baseline=0.0)
    weights = np.asarray(jax.grad(lambda x: linear(x)[0, 2])(IMAGES[:1]))
    parts = (np.asarray(IMAGES) * weights).sum(-1)
    sums = parts.reshape(2, 2, 4, 2, 4).sum((2, 4))
    assert_allclose(found, np.kron(sums, np.ones((1, 4, 4))), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 3, 10, 11])
def test_any_chunk_gives_the_same(chunk):
    options = {"key": KEY, "segments": QUARTERS, "samples": 10}
    assert_allclose(jc.lime(net, IMAGES, chunk=chunk, **options), jc.lime(net, IMAGES, **options), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_an_image_gets_the_same_beside_one_with_more_segments():
    segments = jc.segment(IMAGES, "grid", count=16).copy()
    segments[1] = QUARTERS[1]
    both = jc.lime(net, IMAGES, 0, key=KEY, segments=segments, samples=60)
    alone = jc.lime(net, IMAGES[1:], 0, key=KEY, segments=QUARTERS[1:], samples=60)
    assert_allclose(alone[0], both[1], rtol=1e-4, atol=1e-5)


def test_segments_are_found_if_none_are_given():
    found = np.asarray(jc.lime(net, IMAGES, key=KEY, samples=20))
    labels = jc.segment(IMAGES, "slic")
    for image, map_ in zip(labels, found, strict=True):
        assert all(np.ptp(map_[image == number]) == 0 for number in np.unique(image))


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"samples": 0}, "samples is a whole number from 1 up; got 0"),
        ({"kernel_width": 0.0}, "kernel_width is a number above 0; got 0.0"),
        ({"regularization": -1.0}, "regularization is a number from 0 up; got -1.0"),
        ({"chunk": 0}, "chunk is a whole number from 1 up; got 0"),
        ({"baseline": np.zeros((2, 4, 4, 3))}, "got shape (2, 4, 4, 3)"),
    ],
)
def test_bad_input_gets_one_line(options, line):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the line is what is tested
        jc.lime(net, IMAGES, **{"key": KEY, **options})
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_a_key_is_needed():
    with pytest.raises(TypeError, match="key"):
        jc.lime(net, IMAGES)
    with pytest.raises(TypeError, match=r"takes key=jax.random.key\(seed\); got int"):
        jc.lime(net, IMAGES, key=3)
