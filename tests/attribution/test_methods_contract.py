"""What holds for every method of METHODS, whoever wrote it and whatever it computes.

One table of methods, one of targets, a few models: a new entry in any of them is tested against the others. Nearly all
of the time is spent on compiling, so methods that are long programs meet some columns under JAXCAM_SLOW=1 only.
"""

import functools
import inspect
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import jaxcam as jc
from jaxcam.attribution import asking
from jaxcam.attribution.methods import METHODS

sys.path.append(str(Path(__file__).parents[1] / "program"))
import program_nets as nets


def later(value):
    """A case that is met under JAXCAM_SLOW=1 only."""
    return pytest.param(value, marks=pytest.mark.slow)


ALL = list(METHODS)
CHUNKED = [name for name in ALL if "chunk" in inspect.signature(METHODS[name].function).parameters]
RANDOM = [name for name in ALL if METHODS[name].random]
LONG = {name for name in ALL if METHODS[name].random or METHODS[name].family == "perturbation"}
LONG |= {"guided_integrated_gradients"}
SHORT_FIRST = [later(name) if name in LONG else name for name in ALL]
FEW = ("saliency", "integrated_gradients", "grad_cam", "lrp", "deep_lift", "occlusion")  # one of each kind
FEW_FIRST = [name if name in FEW else later(name) for name in ALL]
# Neither square nor a power of two, so that axes cannot be taken for one another.
IMAGES = jnp.asarray(np.random.default_rng(0).random((3, 12, 10, 3)), jnp.float32)
KEY = jax.random.key(0)


def apply(p, x):
    """Convolution, ReLU, max pooling, global average pooling, dense: all that any method needs."""
    return hidden_pooled(p, x) @ p["head"]["kernel"]


def hidden_pooled(p, x):
    return nets.max_pool(jax.nn.relu(hidden(p, x))).mean((1, 2))


def hidden(p, x):
    return nets.convolve(x, p["conv"]["kernel"]) + p["conv"]["bias"]


def rectified(p, x):
    return jax.nn.relu(hidden(p, x))


def parameters():
    conv = {"kernel": nets.weights((3, 3, 3, 4), 3), "bias": jnp.array([0.1, -0.1, 0.2, 0.0], jnp.float32)}
    return {"conv": conv, "head": {"kernel": nets.weights((4, 5), 4)}}


@functools.cache
def model(kind="plain"):
    return Partial(apply, parameters()) if kind == "plain" else nets.KINDS[kind]()


def call(name, net, x, target=None, **more):
    method = METHODS[name]
    return method.function(net, x, target, **options(method), **more)


def options(method):
    return {**method.quick, **({"key": KEY} if method.random else {})}


@functools.cache
def answer(name, target=None, kind="plain"):
    """The maps of the three images, computed once for all tests."""
    return call(name, model(kind), IMAGES, target)


def check_same(found, expected, tolerance=2e-5):
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    scale = float(jnp.abs(expected).max())
    assert scale > 0
    assert float(jnp.abs(found - expected).max()) <= tolerance * scale


@pytest.mark.parametrize("kind", ["plain", later("equinox"), later("nnx")])
@pytest.mark.parametrize("name", ALL)
def test_maps_have_the_shape_of_the_table_and_the_dtype_of_the_images(name, kind):
    maps = answer(name, kind=kind)
    n, h, w, _ = IMAGES.shape
    sizes = {
        "image": {IMAGES.shape},
        "pixels": {(n, h, w)},
        "layer": {(n, *layer.shape[:2]) for layer in jc.layers(model(kind), IMAGES) if len(layer.shape) == 3},
    }
    assert maps.shape in sizes[METHODS[name].output]
    assert maps.dtype == jnp.float32
    assert jnp.isfinite(maps).all()
    assert jnp.abs(maps).max() > 0
    assert METHODS[name].signed or (maps >= 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT_FIRST)
def test_doubles_stay_doubles(name):
    with jax.enable_x64(True):
        double = jax.tree.map(lambda a: jnp.asarray(np.asarray(a), jnp.float64), model())
        maps = call(name, double, jnp.asarray(np.asarray(IMAGES), jnp.float64))
        assert maps.dtype == jnp.float64
        assert jnp.isfinite(maps).all()


@pytest.mark.parametrize("name", FEW_FIRST)
def test_under_jit_the_answer_is_the_same(name):
    found = jax.jit(lambda net, x: call(name, net, x))(model(), IMAGES)
    check_same(found, answer(name))


@pytest.mark.parametrize("name", FEW_FIRST)
def test_a_batch_gets_what_its_images_get_one_by_one(name):
    alone = [call(name, model(), IMAGES[i : i + 1]) for i in range(3)]
    check_same(jnp.concatenate(alone), answer(name))


# No quick method asks about more than a few hundred variants, so 10,000 is "all and more"; 3 divides few counts.
@pytest.mark.parametrize("chunk", [3, *(pytest.param(size, marks=pytest.mark.slow) for size in (1, 4, 10_000))])
@pytest.mark.parametrize("name", CHUNKED)
def test_any_chunk_gives_the_same(name, chunk):
    check_same(call(name, model(), IMAGES, chunk=chunk), answer(name))


@pytest.mark.parametrize("name", CHUNKED)
@pytest.mark.parametrize("chunk", [0, -1, True])
def test_a_chunk_of_nothing_is_refused(name, chunk):
    with pytest.raises(ValueError, match="chunk is a whole number from 1 up"):
        call(name, model(), IMAGES, chunk=chunk)


@pytest.mark.parametrize("name", ALL)
def test_numpy_images_are_welcome_and_left_as_they_were(name):
    x = np.array(IMAGES)
    before = [np.array(a) for a in jax.tree.leaves(model())]
    method = METHODS[name]
    # Without the tests' own check of types, which knows JAX's arrays only.
    found = inspect.unwrap(method.function)(model(), x, **options(method))
    check_same(found, answer(name))
    assert (x == np.asarray(IMAGES)).all()
    for array, old in zip(jax.tree.leaves(model()), before, strict=True):
        assert (np.asarray(array) == old).all()


@pytest.mark.parametrize("name", ALL)
def test_black_images_have_finite_maps(name):
    assert jnp.isfinite(call(name, model(), jnp.zeros_like(IMAGES))).all()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dead", [1, 4])
def test_dead_units_leave_maps_finite(name, dead):
    p = parameters()
    p["conv"]["bias"] = jnp.where(jnp.arange(4) < dead, -100.0, p["conv"]["bias"])
    net = Partial(apply, p)
    assert bool((net(IMAGES) == 0).all()) == (dead == 4)
    assert jnp.isfinite(call(name, net, IMAGES)).all()


@pytest.mark.parametrize("name", ALL)
def test_other_weights_and_images_are_not_compiled_again(name):
    call(name, model(), IMAGES)
    compiled = asking._run._cache_size()
    call(name, jax.tree.map(lambda a: 0.5 * a, model()), 0.7 * IMAGES)
    assert asking._run._cache_size() == compiled


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT_FIRST)
def test_other_classes_are_not_compiled_again(name):
    call(name, model(), IMAGES, [4, 0, 2])
    compiled = asking._run._cache_size()
    call(name, model(), IMAGES, np.array([1, 1, 3]))
    assert asking._run._cache_size() == compiled


@pytest.mark.parametrize("name", RANDOM)
def test_the_same_key_gives_the_same_numbers_and_another_others(name):
    assert (call(name, model(), IMAGES) == answer(name)).all()
    method = METHODS[name]
    other = method.function(model(), IMAGES, **{**options(method), "key": jax.random.key(1)})
    assert (other != answer(name)).any()


@pytest.mark.parametrize("name", RANDOM)
def test_a_randomized_method_asks_for_a_key(name):
    method = METHODS[name]
    function = inspect.unwrap(method.function)
    for missing in ({}, {"key": 3}, {"key": None}, {"key": jax.random.split(KEY)}):
        with pytest.raises(TypeError, match="key") as error:
            function(model(), IMAGES, **{**method.quick, **missing})
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [name for name in ALL if name not in RANDOM])
def test_a_method_without_chance_takes_no_key(name):
    assert "key" not in inspect.signature(METHODS[name].function).parameters


# Targets: one class said in every way there is, and what the same thing is when said otherwise.

SAYINGS = {
    "an int": (lambda: 2, (2, 2, 2)),
    "a numpy int": (lambda: np.int64(2), 2),
    "a list": (lambda: [4, 0, 2], (4, 0, 2)),
    "an array": (lambda: jnp.array([4, 0, 2]), (4, 0, 2)),
    "the predicted class": (lambda: None, "predicted"),
    "a callable": (lambda: second, 2),
    "a contrast": (lambda: jc.contrast(2, 0), "difference"),
}


def second(outputs):
    return outputs[:, 2]


def difference(outputs):
    return outputs[:, 2] - outputs[:, 0]


@pytest.mark.parametrize("said", SAYINGS)
@pytest.mark.parametrize("name", FEW_FIRST)
def test_every_kind_of_target_works_with_every_method(name, said):
    target, plain = SAYINGS[said]
    if plain == "predicted":
        plain = tuple(int(k) for k in model()(IMAGES).argmax(-1))
    check_same(call(name, model(), IMAGES, target()), answer(name, difference if plain == "difference" else plain))


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT_FIRST)
def test_a_hidden_unit_is_explained_as_the_output_of_a_network_that_ends_there(name):
    cut = Partial(rectified, parameters())
    check_same(call(name, jc.tap(model(), "conv"), IMAGES, 2), call(name, cut, IMAGES, 2))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("target", "message"),
    [
        (5, "target 5 is out of range: the model has 5 outputs, 0 to 4"),
        (-1, "target -1 is out of range"),
        ([0, 1], "3 images need one target, or 3 of them in a row"),
        (lambda outputs: outputs, "a callable target gives one score for each image"),
        (jc.contrast(0, 9), "target 9 is out of range"),
    ],
    ids=["too large", "negative", "too few", "no scores", "contrast"],
)
def test_a_target_that_makes_no_sense_is_refused_in_one_line(name, target, message):
    with pytest.raises(ValueError, match=message) as error:
        call(name, model(), IMAGES, target)
    assert "\n" not in str(error.value)
