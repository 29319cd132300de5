"""Activation maximization: against slow twins and known answers, on networks whose best picture can be said."""

import functools
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

import jaxcam as jc
from jaxcam.studies import disturbances, exciting
from jaxcam.studies.canvases import COLORS, Canvas, frequencies
from jaxcam.studies.disturbances import Disturbance, roughness, sameness, strangeness, warped

DATA = Path(os.environ.get("JAXCAM_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
KEY = jax.random.key(3)
STILL = {"jitter": 0, "rotation": 0.0, "scale": 0.0, "wake": 0}
RNG = np.random.default_rng(0)
WEIGHTS = jnp.asarray(RNG.normal(size=(6, 6, 1, 4)), jnp.float32)
KERNEL = jnp.asarray(RNG.normal(size=(3, 3, 3, 5)), jnp.float32)


def linear(x):
    return jnp.einsum("nhwc,hwck->nk", x, WEIGHTS)


def small(x):
    z = jax.lax.conv_general_dilated(x, KERNEL, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jc.tag(jnp.maximum(z, 0), "hidden").mean((1, 2)) @ jnp.eye(5)[:, :3]


def test_the_best_picture_of_a_linear_model_is_the_sign_of_its_weights():
    found = jc.studies.maximize(linear, (6, 6, 1), key=KEY, canvas="pixel", steps=60, learning_rate=0.2, **STILL)
    assert found.units.tolist() == [0, 1, 2, 3]
    for unit in range(4):
        np.testing.assert_array_equal(found.images[unit, 0] > 0.5, WEIGHTS[..., unit] > 0)
    assert (found.scores[:, 0] > 0.95 * jnp.maximum(WEIGHTS, 0).sum((0, 1, 2))).all()
    assert (found.curve[:, -1] > found.curve[:, 0]).all()


def test_the_way_there_is_adam_of_the_formula():
    """A slow twin in float64: pixels through a sigmoid, l2 and total variation, Adam written out."""
    l2, tv, rate, steps = 3.0, 2.0, 0.1, 5
    with jax.enable_x64(True):
        weights = np.asarray(WEIGHTS[..., 1], np.float64)
        model = lambda x: jnp.einsum("nhwc,hwc->n", x**2, weights)[:, None]
        options = {"canvas": "pixel", "steps": steps, "learning_rate": rate, "l2": l2, "tv": tv, **STILL}
        found = jc.studies.maximize(model, np.full((1, 6, 6, 1), 0.3), 0, key=KEY, **options)
        z = np.asarray(Canvas("pixel", (6, 6, 1), False, None, 0.0, 1.0).start(jax.random.split(KEY)[0], 1, 0.01))[0]
    m, v, base = np.zeros_like(z), np.zeros_like(z), np.log(0.3 / 0.7)
    for step in range(1, steps + 1):
        x = 1 / (1 + np.exp(-(base + z)))
        slope = 2 * weights * x - 2 * l2 * (x - 0.3) / x.size
        for axis in (0, 1):
            sign = np.sign(np.diff(x, axis=axis))
            before = [(1, 0) if i == axis else (0, 0) for i in range(3)]
            after = [(0, 1) if i == axis else (0, 0) for i in range(3)]
            slope -= tv * (np.pad(sign, before) - np.pad(sign, after)) / sign.size
        g = -slope * x * (1 - x)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        z = z - rate * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    np.testing.assert_allclose(found.numbers[0, 0], z, rtol=1e-9)
    x = 1 / (1 + np.exp(-(base + z)))
    np.testing.assert_allclose(found.scores[0, 0], (weights * x**2).sum(), rtol=1e-9)


def test_waves_are_cosines_with_the_amplitudes_of_photographs():
    canvas = Canvas("fourier", (5, 6, 1), False, None, 0.0, 1.0)
    numbers = np.zeros((1, 5, 4, 1, 2), np.float32)
    numbers[0, 2, 1, 0] = 1.0, 0.5
    y, x = np.mgrid[:5, :6]
    phase = 2 * np.pi * (2 * y / 5 + x / 6)
    wave = 2 * (np.cos(phase) - 0.5 * np.sin(phase)) / np.sqrt(30) * canvas.scales()[2, 1]
    np.testing.assert_allclose(canvas.picture(jnp.asarray(numbers))[0, ..., 0], wave, atol=1e-5)
    scales = canvas.scales()
    assert scales[0, 1] / scales[0, 2] == pytest.approx(2)
    assert np.mean(scales**2) == pytest.approx(1, rel=1e-6)
    assert frequencies(5, 6)[2, 1] == pytest.approx(np.hypot(2 / 5, 1 / 6))


@pytest.mark.parametrize("kind", ["pixel", "fourier"])
def test_blur_is_a_gaussian_on_a_torus(kind):
    canvas = Canvas(kind, (16, 14, 2), False, None, 0.0, 1.0)
    numbers = canvas.start(KEY, 1, 1.0)
    blurred = canvas.picture(canvas.blurred(numbers, 1.2))
    twin = scipy.ndimage.gaussian_filter(canvas.picture(numbers)[0], (1.2, 1.2, 0), mode="wrap", truncate=6)
    np.testing.assert_allclose(blurred[0], twin, atol=2e-3)


def test_channels_mix_as_photographs_do_and_the_window_keeps_the_corners():
    canvas = Canvas("pixel", (9, 9, 3), True, 0.2, 0.0, 1.0)
    base = canvas.base(jnp.full((9, 9, 3), 0.5))
    image = canvas.images(jnp.ones((1, 9, 9, 3)), base)[0]
    mixed = 1 / (1 + np.exp(-(COLORS / np.linalg.norm(COLORS[:, 0])).sum(1)))
    np.testing.assert_allclose(image[4, 4], mixed, rtol=1e-5)
    np.testing.assert_allclose(image[0, 0], 0.5, atol=1e-4)
    light, blue_orange, green_magenta = COLORS.T
    assert np.all(light > 0)
    assert blue_orange[0] * blue_orange[2] < 0
    assert green_magenta[1] * green_magenta[0] < 0


def test_a_disturbance_turns_enlarges_and_moves_as_scipy_does():
    images = jnp.asarray(RNG.normal(size=(2, 9, 8, 3)), jnp.float32)
    angle, factor, move = 0.3, 1.2, np.array([1.5, -2.0])
    turned = jax.jit(warped)(images, angle, factor, move)
    y, x = np.mgrid[:9, :8] - np.array([4, 3.5])[:, None, None]
    rows = (np.cos(angle) * y - np.sin(angle) * x) / factor + 4 - move[0]
    columns = (np.sin(angle) * y + np.cos(angle) * x) / factor + 3.5 - move[1]
    for n, c in np.ndindex(2, 3):
        twin = scipy.ndimage.map_coordinates(images[n, ..., c], [rows, columns], order=1, mode="grid-wrap")
        np.testing.assert_allclose(turned[n, ..., c], twin, atol=1e-5)
    square = images[:, :8]
    quarter = jax.jit(warped)(square, np.pi / 2, 1.0, np.zeros(2))
    np.testing.assert_allclose(quarter, jnp.rot90(square, -1, axes=(1, 2)), atol=1e-5)
    jittered = Disturbance(3, 0.0, 0.0)(KEY, images)
    np.testing.assert_array_equal(jnp.sort(jittered.ravel()), jnp.sort(images.ravel()))
    assert Disturbance(0, 0.0, 0.0)(KEY, images) is images


def test_disturbances_go_both_ways_and_not_beyond_their_limits(monkeypatch):
    seen = []
    monkeypatch.setattr(disturbances, "warped", lambda images, *way: seen.append(np.hstack(way)) or images)
    image = jnp.zeros((1, 16, 16, 1)).at[0, 8, 8, 0].set(1)
    shifts = set()
    for number in range(60):
        key = jax.random.key(number)
        Disturbance(2, 10.0, 0.2)(key, image)
        where = np.argwhere(np.asarray(Disturbance(2, 0.0, 0.0)(key, image)))[0]
        shifts |= {(0, int(where[1]) - 8), (1, int(where[2]) - 8)}
    low, high = np.min(seen, 0), np.max(seen, 0)
    most = np.array([np.deg2rad(10), 0.2, 2, 2])
    center = np.array([0, 1, 0, 0])
    assert (low > center - most).all()
    assert (high < center + most).all()
    assert (low < center - 0.8 * most).all()
    assert (high > center + 0.8 * most).all()
    assert shifts == {(axis, shift) for axis in range(2) for shift in range(-2, 3)}


def test_penalties_are_their_formulas():
    images, patches, activations = (
        RNG.random(shape).astype(np.float32) for shape in ((2, 6, 5, 3), (4, 2, 2, 3), (3, 4, 4, 5))
    )
    rough = jax.jit(roughness)(images)
    strange = jax.jit(strangeness)(images, patches)
    for n, image in enumerate(images):
        steps = [np.abs(image[1:] - image[:-1]).mean() + np.abs(image[:, 1:] - image[:, :-1]).mean()]
        np.testing.assert_allclose(rough[n], sum(steps), rtol=1e-5)
        near = [
            min(((image[i : i + 2, j : j + 2] - patch) ** 2).mean() for patch in patches)
            for i in (0, 2, 4)
            for j in (0, 2)
        ]
        np.testing.assert_allclose(strange[n], np.mean(near), rtol=1e-4)
    grams = [np.tensordot(a, a, ((0, 1), (0, 1))).ravel() for a in activations]
    cosines = [
        grams[i] @ grams[j] / np.linalg.norm(grams[i]) / np.linalg.norm(grams[j]) for i, j in ((0, 1), (0, 2), (1, 2))
    ]
    np.testing.assert_allclose(jax.jit(sameness)(activations), np.mean(cosines), rtol=1e-5)


@functools.cache
def excited(**options):
    return jc.studies.maximize(small, (14, 14, 3), 1, key=KEY, steps=12, **dict(options))


@pytest.mark.slow
def test_each_prior_does_what_it_is_for():
    plain = excited()
    assert roughness(excited(tv=50.0).images[0])[0] < roughness(plain.images[0])[0]
    assert roughness(excited(blur=1.0).images[0])[0] < roughness(plain.images[0])[0]
    assert jnp.std(excited(l2=100.0).images) < jnp.std(plain.images)
    away = lambda found: float(jnp.abs(found.images[0, 0, :2, :2] - 0.5).max())
    assert away(excited(center=0.2)) < 0.1 * away(plain)
    assert float(excited(score="probability").scores[0, 0]) <= 0


@pytest.mark.slow
def test_pictures_of_patches_are_nearer_to_them():
    patches = jnp.asarray(RNG.random((5, 7, 7, 3)), jnp.float32)
    built = jc.studies.maximize(small, (14, 14, 3), 1, key=KEY, steps=12, patches=patches, likeness=100.0)
    assert strangeness(built.images[0], patches)[0] < strangeness(excited().images[0], patches)[0]


@pytest.mark.slow
def test_diversity_makes_answers_differ():
    options = {"key": KEY, "steps": 12, "answers": 3, "layer": "hidden"}
    alike, unlike = (jc.studies.maximize(small, (14, 14, 3), 1, diversity=weight, **options) for weight in (0.0, 20.0))
    style = lambda found: sameness(jc.tap(small, "hidden")(found.images[0]))
    assert unlike.images.shape == (1, 3, 14, 14, 3)
    assert style(unlike) < style(alike)


@pytest.mark.parametrize("chunk", [2, *(pytest.param(c, marks=pytest.mark.slow) for c in (1, 3, 4))])
def test_units_together_are_what_each_is_alone(chunk):
    options = {"key": KEY, "steps": 4, "canvas": "pixel", **STILL, "jitter": 1}
    together = jc.studies.maximize(linear, (6, 6, 1), [0, 3, 2], chunk=chunk, **options)
    alone = jc.studies.maximize(linear, (6, 6, 1), 3, **options)
    assert together.units.tolist() == [0, 3, 2]
    np.testing.assert_allclose(together.images[1], alone.images[0], atol=1e-5)


@pytest.mark.slow
def test_the_center_of_a_hidden_unit_is_its_value_there():
    hidden = jc.tap(small, "hidden")
    found = jc.studies.maximize(hidden, (14, 14, 3), 4, key=KEY, steps=4, space="center")
    np.testing.assert_allclose(found.scores[0, 0], hidden(found.images[0])[0, 7, 7, 4], rtol=1e-5)


def test_a_sum_of_units_and_a_direction_are_targets():
    toward = jc.studies.direction({0: 1, 2: -2})
    x = jnp.asarray(RNG.random((2, 6, 6, 1)), jnp.float32)
    outputs = linear(x)
    np.testing.assert_allclose(toward(outputs), outputs[:, 0] - 2 * outputs[:, 2], rtol=1e-5)
    np.testing.assert_allclose(jc.studies.direction([1, 0, -2, 0])(outputs), toward(outputs), rtol=1e-6)
    gradient = jc.saliency(linear, x, toward)
    np.testing.assert_allclose(gradient[0], WEIGHTS[..., 0] - 2 * WEIGHTS[..., 2], rtol=1e-5)


@pytest.mark.slow
def test_a_picture_in_a_direction():
    toward = jc.studies.direction({0: 1, 2: -2})
    options = {"key": KEY, "canvas": "pixel", "steps": 60, "learning_rate": 0.2, **STILL}
    found = jc.studies.maximize(linear, (6, 6, 1), toward, **options)
    assert found.units is None
    np.testing.assert_array_equal(found.images[0, 0] > 0.5, WEIGHTS[..., 0] - 2 * WEIGHTS[..., 2] > 0)


@pytest.mark.parametrize("wake", [8, pytest.param(0, marks=pytest.mark.slow)])
def test_a_silent_unit_is_woken(wake):
    net = lambda x: jnp.maximum(linear(x) - 40, 0)
    options = {"key": KEY, "canvas": "pixel", "steps": 60, "learning_rate": 0.4, **STILL, "bounds": (-3.0, 3.0)}
    found = jc.studies.maximize(net, (6, 6, 1), 2, **{**options, "wake": wake})
    assert found.curve[0, 0, 0] == 0
    assert (found.scores[0, 0] > 0) == (wake > 0)


def test_a_generator_is_searched_by_its_code():
    basis = jnp.asarray(np.linalg.qr(RNG.normal(size=(36, 3)))[0].T.reshape(3, 6, 6, 1), jnp.float32)
    generator = jax.tree_util.Partial(lambda basis, code: jnp.einsum("nl,lhwc->nhwc", jnp.tanh(code), basis), basis)
    found = jc.studies.maximize(
        linear, (6, 6, 1), [0, 3], key=KEY, generator=generator, latent=(3,), steps=80, learning_rate=0.2, **STILL
    )
    assert found.numbers.shape == (2, 1, 3)
    for row, unit in enumerate((0, 3)):
        best = jnp.sign(jnp.einsum("lhwc,hwc->l", basis, WEIGHTS[..., unit]))
        np.testing.assert_array_equal(jnp.sign(found.numbers[row, 0]), best)
    np.testing.assert_allclose(found.images[0], generator(found.numbers[0]), atol=1e-6)


@pytest.mark.slow
def test_it_starts_from_the_mean_of_the_images_given():
    images = RNG.random((3, 6, 6, 1)).astype(np.float32)
    begun = jc.studies.maximize(linear, images, 0, key=KEY, steps=1, learning_rate=1e-6, canvas="pixel", **STILL)
    np.testing.assert_allclose(begun.images[0, 0], images.mean(0), atol=0.02)


@pytest.mark.slow
def test_it_works_under_jit_and_the_same_key_gives_the_same_picture():
    ascend = lambda key: jc.studies.maximize(small, (14, 14, 3), [1, 2], key=key, steps=3).images
    np.testing.assert_allclose(jax.jit(ascend)(KEY), ascend(KEY), atol=1e-5)
    assert jnp.abs(ascend(jax.random.key(4)) - ascend(KEY)).max() > 0.01


@pytest.mark.slow
def test_an_evolution_follows_one_unit_through_checkpoints():
    nets = [jax.tree_util.Partial(lambda w, x: linear(x) * w, jnp.float32(w)) for w in (1.0, 0.5, -1.0)]
    frames = jc.studies.evolution(nets, (6, 6, 1), 0, key=KEY, canvas="pixel", steps=60, learning_rate=0.2, **STILL)
    for frame, sign in zip(frames, (1, 1, -1), strict=True):
        np.testing.assert_array_equal(frame.images[0, 0] > 0.5, sign * WEIGHTS[..., 0] > 0)


@pytest.mark.parametrize("batch", [4, *(pytest.param(b, marks=pytest.mark.slow) for b in (1, 20))])
def test_the_most_exciting_images_are_those_of_a_search_by_hand(batch):
    images = jnp.asarray(RNG.random((11, 8, 8, 3)), jnp.float32)
    hidden = jc.tap(small, "hidden")
    found = jc.studies.most_exciting(hidden, images, count=4, batch=batch)
    values = np.asarray(hidden(images))
    assert found.shape == (8, 8)
    for unit in range(5):
        best = np.argsort(-values[..., unit].max((1, 2)), kind="stable")[:4]
        assert found.indices[unit].tolist() == best.tolist()
        for rank, index in enumerate(best):
            row, column = found.places[unit, rank]
            np.testing.assert_allclose(values[index, row, column, unit], found.scores[unit, rank], rtol=1e-5)
    summed = jc.studies.most_exciting(hidden, images, count=20, space="sum", batch=batch)
    np.testing.assert_allclose(summed.scores, -np.sort(-values.sum((1, 2)), 0).T, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"target": 7}, "target 7 is out of range: the model has 3 outputs, 0 to 2"),
        ({"target": [1, -1]}, "target -1 is out of range"),
        ({"target": []}, "no target"),
        ({"x": (14, 14)}, r"the shape of an image is \(h, w, c\)"),
        ({"x": np.full((1, 14, 14, 3), 2.0)}, "images to start from reach from 2 to 2, beyond bounds"),
        ({"bounds": (1.0, 0.0)}, "bounds are the least and the greatest"),
        ({"score": "logit"}, "score is 'output' or 'probability'; got 'logit'"),
        ({"canvas": "oil"}, "canvas is 'fourier' or 'pixel'; got 'oil'"),
        ({"wake": -1}, "wake is a whole number from 0 up; got -1"),
        ({"steps": 0}, "steps is a whole number from 1 up; got 0"),
        ({"tv": -1.0}, "tv is a number from 0 up"),
        ({"scale": 1.0}, "scale is below 1"),
        ({"likeness": 1.0}, "patches and likeness go together"),
        ({"likeness": 1.0, "patches": np.ones((2, 3, 3, 1))}, r"patches are \(p, s, t, 3\)"),
        ({"diversity": 1.0}, "diversity needs answers=2 or more and layer"),
        ({"latent": (3,)}, "give generator as well"),
        ({"generator": lambda z: z}, "a generator needs latent"),
        ({"generator": lambda z: z, "latent": (3,)}, "the generator makes"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(options, line):
    given = {"x": (14, 14, 3), "target": 0, "key": KEY, **options}
    with pytest.raises((ValueError, TypeError), match=line) as caught:
        jc.studies.maximize(small, given.pop("x"), given.pop("target"), **given)
    assert "\n" not in str(caught.value)


def test_exemplars_of_one_image_ask_for_a_batch_axis():
    with pytest.raises(ValueError, match=r"got shape \(8, 8, 3\); one image needs a batch axis, x\[None\]$"):
        jc.studies.most_exciting(lambda x: x.mean((1, 2)), np.ones((8, 8, 3), np.float32))


def test_a_direction_and_exemplars_refuse_what_makes_no_sense():
    with pytest.raises(ValueError, match="at least one unit"):
        jc.studies.direction({})
    with pytest.raises(ValueError, match="a vector with a weight for each unit"):
        jc.studies.direction(np.ones((2, 2)))
    with pytest.raises(ValueError, match="a direction asks for unit 9; there are 4"):
        jc.saliency(linear, jnp.ones((1, 6, 6, 1)), jc.studies.direction({9: 1}))
    with pytest.raises(ValueError, match="image 1 has"):
        jc.studies.most_exciting(linear, np.stack([np.zeros((6, 6, 1)), np.full((6, 6, 1), np.nan)]).astype("f4"))
    with pytest.raises(ValueError, match="no checkpoints"):
        jc.studies.evolution([], (6, 6, 1), key=KEY)


@pytest.mark.slow
@pytest.mark.optimized
def test_pictures_of_classes_are_seen_as_their_class():
    """Of fifty classes in docs/reproduction.md; here of a goldfish, and of a tobacco shop, which grey leaves silent."""
    weights = DATA / "squeezenet" / "squeezenet1_1.safetensors"
    if not weights.exists():
        pytest.skip("no squeezenet/squeezenet1_1.safetensors in the data folder (JAXCAM_TEST_DATA)")
    model = jc.models.load("squeezenet1_1", weights, normalize="imagenet")
    found = jc.studies.maximize(model, (224, 224, 3), [1, 860], key=jax.random.key(0), steps=64)
    said = jax.nn.softmax(model(found.images[:, 0]))
    assert said.argmax(-1).tolist() == [1, 860]
    assert said[0, 1] > 0.9
    assert found.curve[1, 0, 0] == 0


def test_images_to_start_from_may_be_traced_and_are_in_bounds():
    images = jnp.stack([jnp.zeros((2, 2, 1)), jnp.ones((2, 2, 1))])
    start = jax.jit(lambda x: exciting._start(x, (0.0, 1.0)))
    assert start(images).ravel().tolist() == [0.5] * 4
    assert exciting._start(images, (0.0, 1.0)).ravel().tolist() == [0.5] * 4
    for bounds in ((0.1, 1.0), (0.0, 0.9)):
        with pytest.raises(ValueError, match=r"^images to start from reach from 0 to 1, beyond bounds="):
            exciting._start(images, bounds)


@pytest.mark.parametrize(("center", "allowed"), [(0, False), (1e-3, True), (1, True), (1.01, False)])
def test_a_window_has_a_width(center, allowed):
    given = dict(jc.studies.maximize.__kwdefaults__) | {"center": center}
    if allowed:
        exciting._check(given)
    else:
        with pytest.raises(ValueError, match="center"):
            exciting._check(given)
