"""Trained networks, unmodified and written three ways: first that they are these networks, then what explains them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trained_nets as nets

CAT, RETRIEVER, BIRD = "n02123394", "n02099601", "n01530575"


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


def test_resnet20_is_as_accurate_as_published():
    assert accuracy(nets.resnet_plain(20), *nets.cifar10()) == 0.915


@pytest.mark.slow
def test_resnet56_is_as_accurate_as_published():
    assert accuracy(nets.resnet_plain(56), *nets.cifar10()) == 0.926


@pytest.mark.parametrize("depth", [20, 56])
def test_the_three_ways_of_writing_a_resnet_give_the_same_logits(tiny, depth):
    logits = {name: np.asarray(jax.jit(write(depth))(tiny[0])) for name, write in nets.RESNETS.items()}
    for name, found in logits.items():
        assert np.abs(found - logits["plain"]).max() <= 1e-5, name


def test_squeezenet_knows_the_cats(squeezenet, cats):
    assert np.asarray(squeezenet(cats).argmax(-1)).tolist() == [nets.imagenet_classes()[CAT]] * 2
