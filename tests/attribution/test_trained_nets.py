"""Trained networks, unmodified and written three ways: first that they are these networks, then what explains them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trained_nets as nets
from evidence import relative_error

import jaxcam as jc

pytestmark = pytest.mark.optimized

CAT = "n02123394"


@pytest.fixture(scope="module")
def squeezenet():
    return nets.squeezenet_plain()


@pytest.fixture(scope="module")
def cats():
    return nets.photographs("n02123394_1036", "n02123394_1086", folder="n02123394_persian_cat")


@pytest.fixture(scope="module")
def tiny():
    """Eight test images of CIFAR-10 and their labels."""
    images, labels = nets.cifar10()
    return jnp.asarray(images[:8]), labels[:8]


@pytest.mark.parametrize("writing", nets.SQUEEZENETS)
def test_squeezenet_gives_the_reference_logits(writing):
    reference = np.load(nets.data("squeezenet", "reference.npz"))
    logits = jax.jit(nets.SQUEEZENETS[writing]())(reference["input"].transpose(0, 2, 3, 1))
    # The file says 5e-7; sums in another order give 5.04e-7 here.
    assert np.abs(np.asarray(logits) - reference["logits"]).max() <= 1e-6 * np.abs(reference["logits"]).max()


def accuracy(model, images, labels):
    predict = jax.jit(lambda model, x: model(x).argmax(-1))
    found = np.concatenate([predict(model, part) for part in np.split(images, len(images) // 250)])
    return round(float((found == labels).mean()), 3)


@pytest.mark.slow
def test_resnet20_is_as_accurate_as_published():
    assert accuracy(nets.resnet_plain(20), *nets.cifar10()) == 0.915


@pytest.mark.slow
def test_resnet56_is_as_accurate_as_published():
    assert accuracy(nets.resnet_plain(56), *nets.cifar10()) == 0.926


@pytest.mark.slow
@pytest.mark.parametrize("depth", [20, 56])
def test_the_three_ways_of_writing_a_resnet_give_the_same_logits(tiny, depth):
    logits = {name: np.asarray(jax.jit(write(depth))(tiny[0])) for name, write in nets.RESNETS.items()}
    for name, found in logits.items():
        assert np.abs(found - logits["plain"]).max() <= 1e-5, name


def test_squeezenet_knows_the_cats(squeezenet, cats):
    assert np.asarray(squeezenet(cats).argmax(-1)).tolist() == [nets.imagenet_classes()[CAT]] * 2


# What explains them.

SAME = ["saliency", "guided_backprop", "lrp", "deep_lift"]


@pytest.mark.slow
@pytest.mark.parametrize("method", SAME)
@pytest.mark.evidence("saliency", "guided_backprop", kind="trained", source="ResNet20 written in three ways: same maps")
@pytest.mark.evidence("lrp", "deep_lift", kind="trained", source="ResNet20 written in three ways: same maps")
def test_a_resnet_is_explained_alike_in_all_three_ways_of_writing_it(tiny, method):
    """In float64: in float32 DeepLIFT's quotients of small differences are as good as the processor's rounding."""
    with jax.enable_x64(True):
        x = jnp.asarray(tiny[0][:2], jnp.float64)
        maps = {name: getattr(jc, method)(in_double(write(20)), x) for name, write in nets.RESNETS.items()}
        for name, found in maps.items():
            assert found.dtype == jnp.float64
            assert relative_error(found, maps["plain"]) <= 1e-10, name


def in_double(model):
    return jax.tree_util.tree_map(lambda p: p.astype(jnp.float64) if p.dtype == jnp.float32 else p, model)


@pytest.mark.slow
@pytest.mark.evidence("integrated_gradients", kind="trained", source="ResNet20: completeness gap", tolerance=0.02)
def test_integrated_gradients_are_complete_on_a_resnet(tiny, measured):
    """The gap is of the quadrature: a ReLU network bends on the way, so more steps close it slowly."""
    model, x = nets.resnet_plain(20), tiny[0][:2]
    scores, black = model(x).max(-1), model(jnp.zeros_like(x))
    gain = scores - jnp.take_along_axis(black, model(x).argmax(-1)[:, None], -1)[:, 0]
    gaps = {}
    for steps in (4, 128):
        maps, gap = jc.integrated_gradients(model, x, steps=steps, completeness=True)
        assert np.allclose(maps.sum((1, 2, 3)) - gain, gap, atol=1e-3)
        gaps[steps] = float(jnp.abs(gap / gain).max())
    measured("integrated_gradients", gaps[128])
    assert gaps[128] < 0.02
    assert gaps[128] < gaps[4]


@pytest.mark.slow
@pytest.mark.evidence("deep_lift", kind="trained", source="ResNet20: summation to delta", tolerance=1e-3)
def test_deep_lift_adds_up_on_a_resnet(tiny, measured):
    model, x = nets.resnet_nnx(20), tiny[0][:2]
    best = model(x).argmax(-1)[:, None]
    gain = jnp.take_along_axis(model(x) - model(jnp.zeros_like(x)), best, -1)[:, 0]
    error = relative_error(jc.deep_lift(model, x).sum((1, 2, 3)), gain)
    measured("deep_lift", error)
    assert error <= 1e-3


@pytest.mark.evidence("cam", kind="trained", source="SqueezeNet: mean of the map = logit", tolerance=1e-5)
def test_cam_is_exact_on_squeezenet(squeezenet, cats, measured):
    """Its last convolution is pooled: the map of a class is that unit, and its mean the logit."""
    target = nets.imagenet_classes()[CAT]
    maps = jc.cam(squeezenet, cats, target)
    assert maps.shape == (2, 13, 13)
    error = relative_error(maps.mean((1, 2)), squeezenet(cats)[:, target])
    measured("cam", error)
    assert error <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("method", ["saliency", "grad_cam"])
@pytest.mark.evidence(
    "saliency", "grad_cam", "guided_backprop", kind="trained", source="SqueezeNet: insertion beats chance"
)
def test_what_is_found_on_the_cats_brings_the_cat_back_sooner_than_chance(squeezenet, cats, method):
    target = nets.imagenet_classes()[CAT]
    maps = getattr(jc, method)(squeezenet, cats, target)
    size = (28, 28)
    rng = np.random.default_rng(0)
    noise = jnp.asarray(rng.normal(size=(2, *size)), jnp.float32)
    ranked = jnp.abs(maps).sum(-1) if maps.ndim == 4 else maps
    ranked = jax.image.resize(ranked, (2, *size), "linear")
    found, chance = (area_of_insertion(squeezenet, cats, target, order) for order in (ranked, noise))
    assert found.mean() > chance.mean()


def area_of_insertion(model, x, target, maps, steps=8):
    """The mean probability as blocks of the photograph come back, the highest first; written here to be independent."""
    n, h, w = maps.shape
    ranks = np.argsort(np.argsort(-np.asarray(maps).reshape(n, -1)))
    grey = jnp.zeros_like(x)
    predict = jax.jit(lambda model, x: jax.nn.softmax(model(x)))
    areas = []
    for step in range(1, steps + 1):
        shown = (ranks < h * w * step / steps).reshape(n, h, w).repeat(8, 1).repeat(8, 2)[..., None]
        areas.append(np.asarray(predict(model, jnp.where(shown, x, grey)))[:, target])
    return np.mean(areas, 0)
