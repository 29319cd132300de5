"""RISE: the authors' masks by scikit-image, the exhaustive sum, bad input."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from perturbed_nets import IMAGES, net, np_scores
from skimage.transform import resize

import jaxcam as jc
from jaxcam.attribution.masks import drawn, smooth

KEY = jax.random.key(3)


def slow_mask(bits, shift, size):
    """As the authors make them: upsampled by scikit-image, cropped from the shift on."""
    cell = [int(np.ceil(pixels / cells)) for pixels, cells in zip(size, bits.shape, strict=True)]
    large = [(cells + 1) * side for cells, side in zip(bits.shape, cell, strict=True)]
    up = resize(np.asarray(bits, np.float64), large, order=1, mode="reflect", anti_aliasing=False)
    return up[shift[0] : shift[0] + size[0], shift[1] : shift[1] + size[1]]


@pytest.mark.evidence("rise", kind="twin", source="masks by scikit-image, one after another")
@pytest.mark.parametrize("cells", [(3, 3), (2, 4), (1, 5)])
def test_rise_is_what_its_definition_says(cells):
    with jax.enable_x64(True):
        x = np.asarray(IMAGES, np.float64)
        bits, shifts = (np.asarray(a) for a in drawn(KEY, 20, cells, (8, 8), 0.4))
        total = np.zeros((2, 8, 8))
        for grid, shift in zip(bits, shifts, strict=True):
            mask = slow_mask(grid, shift, (8, 8))
            scores = np_scores(x * mask[..., None] + 0.2 * (1 - mask[..., None]))
            total += scores[[0, 1], [1, 2], None, None] * mask
        options = {"key": KEY, "masks": 20, "grid": cells, "probability": 0.4, "baseline": 0.2}
        assert_allclose(jc.rise(net, jnp.asarray(x), (1, 2), **options), total / 20 / 0.4, rtol=1e-6, atol=1e-8)


@pytest.mark.evidence("rise", kind="axiom", source="all masks of a 2×2 grid: the exhaustive average")
def test_over_all_masks_of_a_two_by_two_grid_it_is_the_exhaustive_average():
    x = np.asarray(IMAGES, np.float64)
    masks = [np.kron(np.reshape(bits, (2, 2)), np.ones((4, 4))) for bits in itertools.product((0, 1), repeat=4)]
    scores = np.stack([np_scores(x * mask[..., None])[:, 1] for mask in masks])  # (16, n)
    shown = np.zeros((2, 8, 8))
    for image, row, column in np.ndindex(shown.shape):
        shown[image, row, column] = np.mean([s[image] for s, m in zip(scores, masks, strict=True) if m[row, column]])
    assert_allclose(jc.rise(net, IMAGES, 1, masks=np.stack(masks)), shown, rtol=1e-4, atol=1e-5)


@pytest.mark.evidence("rise", kind="axiom", source="E[m] = p in every pixel")
def test_a_score_that_does_not_look_gives_that_score_everywhere():
    blind = lambda x: 0 * x.sum((1, 2)) + 2.0
    found = jc.rise(blind, IMAGES, 0, key=KEY, masks=4000, grid=3)
    assert_allclose(found, np.full((2, 8, 8), 2.0), atol=0.1)


def test_a_mask_has_its_cells_at_their_centers():
    bits = jnp.array([[0.0, 1.0], [1.0, 0.0]])
    mask = smooth(bits, jnp.array([0, 0]), (6, 6))
    assert_allclose(mask, slow_mask(bits, (0, 0), (6, 6)), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 3, 16, 17])
def test_any_chunk_gives_the_same(chunk):
    whole = jc.rise(net, IMAGES, key=KEY, masks=16, grid=3)
    assert_allclose(jc.rise(net, IMAGES, key=KEY, masks=16, grid=3, chunk=chunk), whole, rtol=1e-4, atol=1e-5)


def test_a_batch_gets_what_each_image_gets_and_a_key_decides():
    options = {"masks": 8, "grid": 2}
    both = jc.rise(net, IMAGES, key=KEY, **options)
    for i in range(2):
        assert_allclose(jc.rise(net, IMAGES[i : i + 1], key=KEY, **options)[0], both[i], rtol=1e-4, atol=1e-5)
    assert not np.allclose(both, jc.rise(net, IMAGES, key=jax.random.key(4), **options))


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"grid": 9}, "finer than the images of 8×8"),
        ({"grid": 0}, "the height of grid is a whole number from 1 up; got 0"),
        ({"masks": 0}, "masks is a whole number from 1 up; got 0"),
        ({"masks": np.ones((3, 4, 4))}, "masks are (v, 8, 8), as large as the images; got shape (3, 4, 4)"),
        ({"masks": np.full((3, 8, 8), 1.5)}, "masks are in [0, 1]; got 1.5 to 1.5"),
        ({"masks": np.zeros((3, 8, 8))}, "no mask shows the pixel (0, 0)"),
        ({"probability": 0.0}, "probability is a number above 0 to 1; got 0.0"),
        ({"probability": 1.5}, "probability is a number above 0 to 1; got 1.5"),
        ({"chunk": 0}, "chunk is a whole number from 1 up; got 0"),
        ({"baseline": np.zeros((8, 4, 3))}, "got shape (8, 4, 3)"),
    ],
)
def test_bad_input_gets_one_line(options, line):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the line is what is tested
        jc.rise(net, IMAGES, **{"key": KEY, **options})
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_without_a_key_it_says_which_key():
    with pytest.raises(TypeError, match=r"takes key=jax.random.key\(seed\)"):
        jc.rise(net, IMAGES)
