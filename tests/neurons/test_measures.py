"""The measures against slow loops and other libraries, and at the edges: black, constant, tiny, odd-sized images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.spatial.distance as spatial
import skimage.color
import skimage.exposure
import skimage.transform

from jaxcam.neurons.measures import MEASURES, as_image, histogram, measure

DISTANCES = [name for name, entry in MEASURES.items() if not entry.larger_is_similar]
SHAPES = [(28, 28, 1), (11, 16, 3), (5, 9, 2)]
# Compiled once for each shape; one test compares compiled and eager.
COMPILED = {name: jax.jit(entry.function) for name, entry in MEASURES.items()}


def draw(shape, seed=0):
    """A signed map and an image in [0, 1]."""
    generator = np.random.default_rng(seed)
    return (
        jnp.asarray(generator.normal(size=shape) * 1e-3, jnp.float32),
        jnp.asarray(generator.random(shape), jnp.float32),
    )


def looped_image(x):
    x = np.asarray(x)
    low, high = x.min(), x.max()
    out = np.zeros(x.shape, np.float32)
    for index in np.ndindex(x.shape):
        out[index] = 0 if high == low else (x[index] - low) / (high - low)
    return out


def looped_grey(image):
    if image.shape[-1] == 3:
        # Undo skimage's BT.709 weights by asking it for luma of the YIQ system, which is ITU-R 601.
        return skimage.color.rgb2yiq(image.astype(np.float64))[..., 0]
    return image.astype(np.float64).mean(-1)


def looped_euclidean(a, b):
    a, b = looped_image(a).ravel(), looped_image(b).ravel()
    return spatial.euclidean(a, b) / np.sqrt(a.size)


def looped_hamming(a, b):
    a, b = (np.rint(255 * looped_image(x)).astype(np.uint8).ravel() for x in (a, b))
    return spatial.hamming(a, b)


def looped_histogram(a, b):
    shares = []
    for x in (a, b):
        grey = looped_grey(looped_image(x))
        shares.append(np.histogram(grey, bins=64, range=(0, 1))[0] / grey.size)
    return 1 - np.minimum(*shares).sum()


def looped_hash_bits(x):
    grey = looped_grey(looped_image(x))
    # Every pixel becomes 8 × 8 equal ones, so that any side divides into 8 cells of whole pixels.
    cells = skimage.transform.downscale_local_mean(np.kron(grey, np.ones((8, 8))), grey.shape)
    return cells > cells.mean() + 1e-5


def looped_hash(a, b):
    different = 0
    for bit_a, bit_b in zip(looped_hash_bits(a).ravel(), looped_hash_bits(b).ravel(), strict=True):
        different += bit_a != bit_b
    return different / 64


TWINS = {
    "cosine": lambda a, b: 1 - spatial.cosine(np.ravel(a).astype(float), np.ravel(b).astype(float)),
    "euclidean": looped_euclidean,
    "hamming": looped_hamming,
    "histogram": looped_histogram,
    "perceptual_hash": looped_hash,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", MEASURES)
def test_measures_equal_slow_loops_over_other_libraries(name, shape):
    for seed in range(3):
        a, b = draw(shape, seed)
        # A value at the border between two steps of grey may fall on either side of it.
        border = {"hamming": 1.01 / np.prod(shape), "histogram": 1.01 / np.prod(shape[:2])}.get(name, 1e-5)
        assert float(COMPILED[name](a, b)) == pytest.approx(TWINS[name](a, b), abs=border)


def test_hamming_and_histogram_are_exact_on_8_bit_images():
    generator = np.random.default_rng(0)
    a, b = generator.integers(0, 3, size=(2, 28, 28, 1)) * 100 / 255
    a, b = jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)
    assert float(COMPILED["hamming"](a, b)) == pytest.approx(spatial.hamming(np.ravel(a), np.ravel(b)), abs=1e-6)
    counts = [np.unique(np.asarray(x), return_counts=True)[1] for x in (a, b)]
    assert float(COMPILED["histogram"](a, b)) == pytest.approx(1 - np.minimum(*counts).sum() / 784, abs=1e-6)


def test_as_image_is_what_skimage_calls_rescaled_intensity():
    a, _ = draw((11, 16, 3))
    rescaled = skimage.exposure.rescale_intensity(np.asarray(a, float), out_range=(0.0, 1.0))
    np.testing.assert_allclose(as_image(a), rescaled, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", MEASURES)
def test_a_black_side_gives_the_declared_value_exactly(name, shape):
    a, b = draw(shape)
    entry = MEASURES[name]
    for left, right in ((0 * a, b), (a, 0 * b), (0 * a, 0 * b)):
        assert float(COMPILED[name](left, right)) == entry.dead


@pytest.mark.parametrize("name", MEASURES)
def test_a_constant_map_is_finite_and_in_range(name):
    _, b = draw((11, 16, 3))
    low, high = MEASURES[name].range
    for value in (0.7, -0.1, 1e-30):
        got = float(COMPILED[name](jnp.full_like(b, value), b))
        assert low <= got <= high


def test_a_constant_map_counts_as_a_black_picture():
    b = jnp.zeros((28, 28, 1)).at[0, 0].set(1.0)
    constant = jnp.full_like(b, 0.3)
    assert float(COMPILED["euclidean"](constant, b)) == pytest.approx(1 / 28)
    for name, share in (("hamming", 1 / 784), ("histogram", 1 / 784), ("perceptual_hash", 1 / 64)):
        assert float(COMPILED[name](constant, b)) == pytest.approx(share)


@pytest.mark.parametrize("name", MEASURES)
def test_an_image_is_as_similar_to_itself_as_can_be(name):
    a, _ = draw((11, 16, 3))
    best = 1 if MEASURES[name].larger_is_similar else 0
    assert float(COMPILED[name](a, a)) == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("name", MEASURES)
def test_the_scale_of_a_map_does_not_matter(name):
    a, b = draw((11, 16, 3))
    expected = float(COMPILED[name](a, b))
    # Powers of two, so that scaling itself rounds nothing. Squares of the smallest are far below float32.
    for power in (-90, -20, 40, 90):
        assert float(COMPILED[name](a * 2.0**power, b)) == expected


@pytest.mark.parametrize("name", MEASURES)
def test_measures_are_symmetric(name):
    a, b = draw((11, 16, 3))
    function = COMPILED[name]
    assert float(function(a, b)) == pytest.approx(float(function(b, a)), abs=1e-7)


@pytest.mark.parametrize("name", DISTANCES)
def test_distances_ignore_brightness_and_contrast(name):
    a, b = draw((11, 16, 3))
    assert float(COMPILED[name](a, 0.25 * b + 0.5)) == pytest.approx(float(COMPILED[name](a, b)), abs=0.02)


@pytest.mark.parametrize("name", MEASURES)
def test_values_stay_within_the_declared_range(name):
    low, high = MEASURES[name].range
    generator = np.random.default_rng(1)
    a = jnp.asarray(generator.standard_cauchy((50, 6, 6, 1)), jnp.float32)
    values = COMPILED[name](jnp.concatenate([a, -a, a]), jnp.concatenate([a, a, a[::-1]]))
    assert float(values.min()) >= low
    assert float(values.max()) <= high


def test_opposite_maps_have_cosine_minus_one_and_a_map_of_other_sign_is_not_called_similar():
    a, _ = draw((11, 16, 3))
    assert float(COMPILED["cosine"](a, -a)) == pytest.approx(-1, abs=1e-6)
    assert float(COMPILED["perceptual_hash"](a, -a)) > 0.8


def test_histogram_does_not_see_where_pixels_are_and_hash_does():
    a, _ = draw((28, 28, 1))
    assert float(COMPILED["histogram"](a, a[::-1])) == 0
    assert float(COMPILED["perceptual_hash"](a, a[::-1])) > 0.2


def test_the_hash_of_an_even_pattern_has_no_bits_set_by_rounding():
    stripes = jnp.tile(jnp.array([0.1, 0.3, 0.7]), (21, 8))[..., None]
    dot = jnp.zeros_like(stripes).at[0, 0].set(1.0)
    assert float(COMPILED["perceptual_hash"](stripes, dot)) == 1 / 64


@pytest.mark.parametrize("name", MEASURES)
def test_batches_broadcast_and_equal_one_by_one_jitted_and_mapped(name):
    function = MEASURES[name].function
    generator = np.random.default_rng(2)
    maps = jnp.asarray(generator.normal(size=(4, 3, 10, 12, 3)), jnp.float32)
    references = jnp.asarray(generator.random((3, 10, 12, 3)), jnp.float32)
    singly = np.array([[COMPILED[name](maps[u, n], references[n]) for n in range(3)] for u in range(4)])
    # Sums of another shape run in another order; a count must be the same.
    close = {"atol": 2e-6, "rtol": 0} if name in ("cosine", "euclidean") else {"atol": 1e-6, "rtol": 0}
    np.testing.assert_allclose(function(maps, references), singly, **close)
    np.testing.assert_allclose(jax.jit(function)(maps, references), singly, **close)
    mapped = jax.jit(jax.vmap(jax.vmap(function), in_axes=(0, None)))(maps, references)
    np.testing.assert_allclose(mapped, singly, **close)


@pytest.mark.parametrize("name", MEASURES)
def test_a_nan_in_a_map_is_not_hidden(name):
    a, b = draw((11, 16, 3))
    for value in (jnp.nan, jnp.inf):
        assert np.isnan(float(COMPILED[name](a.at[2, 3, 1].set(value), b)))
        assert np.isnan(float(COMPILED[name](a, b.at[2, 3, 1].set(value))))


@pytest.mark.parametrize("name", MEASURES)
def test_half_precision_maps_are_measured_in_single_precision(name):
    a, b = draw((11, 16, 3))
    got = COMPILED[name](a.astype(jnp.bfloat16), b)
    assert got.dtype == jnp.float32
    assert float(got) == float(COMPILED[name](a.astype(jnp.bfloat16).astype(jnp.float32), b))


def test_histogram_needs_no_memory_for_each_bin():
    maps = jax.ShapeDtypeStruct((16, 64, 64, 3), jnp.float32)
    compiled = jax.jit(histogram).lower(maps, jax.ShapeDtypeStruct((64, 64, 3), jnp.float32)).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * 16 * 64 * 64 * 3 * 4


def test_oriented_values_rank_the_more_similar_higher():
    a, b = draw((11, 16, 3))
    for entry in MEASURES.values():
        same, other = entry.oriented(np.array([float(COMPILED[entry.name](a, a)), float(COMPILED[entry.name](a, -b))]))
        assert same > other


def test_an_unknown_measure_names_the_closest_and_all():
    with pytest.raises(ValueError, match=r"no measure 'cosin'; did you mean 'cosine'\? there are cosine, euclidean"):
        measure("cosin")
    with pytest.raises(ValueError, match=r"no measure 'xyz'; there are cosine"):
        measure("xyz")
