"""Occlusion: a slow twin, its limit cases, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from perturbed_nets import IMAGES, linear, net, np_scores

import jaxcam as jc


def twin(x, target, window, stride, baseline):
    """Window by window, image by image, in float64."""
    n, h, w, _ = x.shape
    maps, counts = np.zeros(x.shape), np.zeros(x.shape)
    rows = [i * stride[0] for i in range(int(np.ceil((h - window[0]) / stride[0])) + 1)]
    columns = [j * stride[1] for j in range(int(np.ceil((w - window[1]) / stride[1])) + 1)]
    for image in range(n):
        whole = np_scores(x[image : image + 1])[0, target[image]]
        for i in rows:
            for j in columns:
                covered = x[image : image + 1].copy()
                covered[:, i : i + window[0], j : j + window[1]] = baseline
                loss = whole - np_scores(covered)[0, target[image]]
                maps[image, i : i + window[0], j : j + window[1]] += loss
                counts[image, i : i + window[0], j : j + window[1]] += 1
    return maps / counts


@pytest.mark.evidence("occlusion", kind="twin", source="window by window")
@pytest.mark.parametrize(("window", "stride"), [((3, 3), (2, 2)), ((3, 2), (2, 1)), ((8, 8), (1, 1)), ((5, 3), (4, 3))])
def test_occlusion_is_what_its_definition_says(window, stride):
    with jax.enable_x64(True):
        x = np.asarray(IMAGES, np.float64)
        ours = jc.occlusion(net, jnp.asarray(x), (1, 2), window=window, stride=stride, baseline=0.3)
        assert_allclose(ours, twin(x, (1, 2), window, stride, 0.3), rtol=1e-10, atol=1e-12)


@pytest.mark.evidence("occlusion", kind="axiom", source="exact on a linear net")
def test_on_a_linear_net_windows_of_one_pixel_give_the_exact_contributions():
    found = jc.occlusion(linear, IMAGES, 2, window=1)
    weights = np.asarray(jax.grad(lambda x: linear(x)[0, 2])(IMAGES[:1]))
    exact = (np.asarray(IMAGES) * weights).sum(-1, keepdims=True)
    assert_allclose(found, np.broadcast_to(exact, IMAGES.shape), rtol=1e-4, atol=1e-5)


@pytest.mark.evidence("occlusion", kind="axiom", source="a constant image loses nothing to its own value")
def test_a_constant_image_covered_with_its_own_value_loses_nothing():
    images = jnp.full((2, 8, 8, 3), 0.5)
    # The score is computed by two programs, which round alike from JAX 0.10 on.
    rounding = 2**-22 * float(np.abs(net(images)).max())
    for baseline in (0.5, "mean"):
        assert np.abs(jc.occlusion(net, images, window=3, baseline=baseline)).max() <= rounding


@pytest.mark.parametrize("chunk", [1, 3, 16, 17])
def test_any_chunk_gives_the_same(chunk):
    whole = jc.occlusion(net, IMAGES, window=2, stride=2)
    assert_allclose(jc.occlusion(net, IMAGES, window=2, stride=2, chunk=chunk), whole, rtol=1e-5, atol=1e-6)


def test_the_predicted_class_is_settled_before_anything_is_covered():
    best = np.asarray(net(IMAGES)).argmax(-1)
    assert_allclose(jc.occlusion(net, IMAGES, window=6), jc.occlusion(net, IMAGES, best, window=6), rtol=1e-6)


def test_an_array_as_baseline_replaces_pixel_by_pixel():
    other = IMAGES[::-1]
    whole = jc.occlusion(net, IMAGES, 0, window=8, baseline=other)
    loss = np.asarray(net(IMAGES) - net(other))[:, 0]
    assert_allclose(whole, np.broadcast_to(loss[:, None, None, None], IMAGES.shape), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"window": 9}, "larger than the images of 8×8"),
        ({"window": 2, "stride": 3}, "leaves pixels out"),
        ({"window": 0}, "whole number from 1 up; got 0"),
        ({"window": (2, 0)}, "the width of window is a whole number from 1 up; got 0"),
        ({"chunk": 0}, "chunk is a whole number from 1 up; got 0"),
        ({"baseline": np.zeros((2, 4, 4, 3))}, "got shape (2, 4, 4, 3)"),
        ({"baseline": "meen"}, "did you mean 'mean'?"),
        ({"target": 7}, "target 7 is out of range"),
    ],
)
def test_bad_input_gets_one_line(options, line):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the line is what is tested
        jc.occlusion(net, IMAGES, **options)
    assert line in str(error.value)
    assert "\n" not in str(error.value)
