"""The networks themselves: their sizes, names, shapes, and that every transformation of JAX takes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxcam import models
from jaxcam.models.blocks import adaptive_average_pool, batch_norm
from jaxcam.models.chain import Classifier, Convolution, Head, Pool
from jaxcam.models.registry import blueprint
from jaxcam.models.resnet import Bottleneck
from jaxcam.models.state import weights_of


def count(config):
    return sum(int(np.prod(array.shape)) for array in jax.tree.leaves(nnx.state(blueprint(config), nnx.Param)))


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (models.Config("alexnet"), 61_100_840),
        (models.Config("vgg11"), 132_863_336),
        (models.Config("resnet50"), 25_557_032),
        (models.Config("vgg11", 10, 32), 9_488_266),
        (models.Config("vgg11", 10, 32, convolutions=4), 1_097_610),
        # The cut's features, one convolution 256 → 512 more, then 512 → 512 → 10.
        (models.Config("vgg11", 10, 32, convolutions=5), 960_896 + 1_180_160 + 512 * 513 + 10 * 513),
        (models.Config("alexnet", 10, 32), 2_391_370),
    ],
)
def test_parameter_counts_are_those_published(config, parameters):
    assert count(config) == parameters


def test_layer_names_are_those_users_see():
    chain = {name.rpartition(".")[0] for name in weights_of(blueprint(models.Config("vgg11")))}
    features, classifier = (
        [f"{part}{i}" for i in range(n)] for part, n in (("features.conv", 8), ("classifier.dense", 3))
    )
    assert chain == {*features, *classifier}
    residual = weights_of(blueprint(models.Config("resnet50")))
    assert {"conv1.kernel", "layer4.2.conv3.kernel", "layer1.0.downsample.1.var", "fc.bias"} <= set(residual)


@pytest.mark.parametrize(
    ("convolutions", "last", "side"), [(1, 64, 16), (2, 128, 8), (4, 256, 4), (5, 512, 4), (6, 512, 2), (None, 512, 2)]
)
def test_a_cut_keeps_the_pools_that_follow_its_convolutions(convolutions, last, side):
    model = models.load("vgg11", classes=10, image_size=32, convolutions=convolutions)
    assert jax.eval_shape(lambda x: model.features(x), jnp.zeros((1, 32, 32, 3))).shape == (1, side, side, last)
    assert model.classifier.dense0.kernel.shape == (last, 512)


def test_a_cut_network_starts_with_the_weights_of_the_whole_one():
    whole, cut = (models.load("vgg11", classes=3, image_size=16, convolutions=n, seed=5) for n in (3, 2))
    np.testing.assert_array_equal(whole.features.conv1.kernel, cut.features.conv1.kernel)


def test_seeds_give_reproducible_and_different_weights():
    first, again, other = (
        models.load("vgg11", classes=3, image_size=16, convolutions=2, seed=seed) for seed in (4, 4, 5)
    )
    for name, array in weights_of(first).items():
        np.testing.assert_array_equal(array, weights_of(again)[name])
    assert not np.array_equal(first.features.conv0.kernel, other.features.conv0.kernel)
    with pytest.raises(ValueError, match="seed=-1 is too small"):
        models.load("alexnet", seed=-1)


def test_first_activations_neither_fade_nor_explode():
    model = models.load("vgg11", classes=10, image_size=32)
    x = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype(np.float32)
    assert 0.1 < float(model(x).std()) < 10


@pytest.mark.parametrize(
    ("name", "size"),
    [(name, size) for name in ("alexnet", "vgg11") for size in (8, 9, 63, 65, 224)]
    + [("resnet50", 8), ("resnet50", 65)],
)
def test_images_of_any_size_give_logits(name, size):
    model = blueprint(models.Config(name, 4, size, 1))
    logits = jax.eval_shape(lambda model, x: model(x), model, np.zeros((2, size, size, 1), np.float32))
    assert logits.shape == (2, 4)


def bad_images():
    return [
        ((32, 32, 3), np.float32, "got one image (32, 32, 3) without the batch axis; give x[None]"),
        ((2, 32), np.float32, "got (2, 32)"),
        ((2, 3, 32, 32), np.float32, "with the channels first; give x.transpose(0, 2, 3, 1)"),
        ((2, 32, 32, 1), np.float32, "got (2, 32, 32, 1); load the model with channels=1"),
        ((2, 28, 28, 3), np.float32, "got (2, 28, 28, 3); resize the images"),
        ((2, 32, 32, 3), np.uint8, "as floating point in [0, 1], got uint8; for bytes give x / 255"),
    ]


@pytest.fixture(scope="module", params=["vgg11", "resnet50"])
def for_32(request):
    return blueprint(models.Config(request.param, 10, 32))


@pytest.mark.parametrize(("shape", "dtype", "words"), bad_images())
def test_wrong_images_are_refused_in_one_line_under_jit_too(for_32, shape, dtype, words):
    model, name = for_32, for_32.config.name
    x = np.zeros(shape, dtype)
    for call in (lambda: model(x), lambda: jax.eval_shape(jax.jit(lambda x: model(x)), x)):
        with pytest.raises(ValueError, match=rf"^{name} takes images of shape \(n, 32, 32, 3\)") as caught:
            call()
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_normalization_is_the_first_operation():
    plain, own = (
        models.load("vgg11", classes=3, image_size=16, convolutions=1, normalize=normalize)
        for normalize in (None, "imagenet")
    )
    x = np.random.default_rng(0).uniform(size=(2, 16, 16, 3)).astype(np.float32)
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    np.testing.assert_allclose(own(x), plain((x - mean) / std), rtol=1e-5)


@pytest.fixture(scope="module")
def small():
    return models.load("vgg11", classes=3, image_size=8, channels=1, convolutions=3)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(size=(4, 8, 8, 1)).astype(np.float32)


def test_jit_with_the_model_as_an_argument_gives_the_same_logits(small, images):
    np.testing.assert_allclose(jax.jit(lambda model, x: model(x))(small, images), small(images), rtol=1e-5, atol=1e-6)


def test_vmap_over_single_images_gives_the_same_logits(small, images):
    one_by_one = jax.vmap(lambda x: small(x[None])[0])(images)
    np.testing.assert_allclose(one_by_one, small(images), rtol=1e-4, atol=1e-6)


def test_the_gradient_with_respect_to_the_image_is_that_of_finite_differences(small, images):
    with jax.enable_x64(True):
        model = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), small)
        x = jnp.asarray(images[:1], jnp.float64)
        score = jax.jit(lambda x: model(x)[0, 1])
        direction = jax.random.normal(jax.random.key(0), x.shape, jnp.float64)
        slope = (score(x + 1e-6 * direction) - score(x - 1e-6 * direction)) / 2e-6
        np.testing.assert_allclose((jax.grad(score)(x) * direction).sum(), slope, rtol=1e-5)


def test_gradients_reach_every_parameter(small, images):
    gradient = nnx.jit(nnx.grad(lambda model: (model(images) ** 2).sum()))(small)
    assert jax.tree.structure(gradient) == jax.tree.structure(nnx.state(small, nnx.Param))
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient))


def test_dropout_works_in_training_only_and_its_seed_repeats():
    head = Classifier(Head(cells=1, hidden=(64,), dropout="before"), 3, 2, rngs=nnx.Rngs(0))
    call = nnx.jit(lambda head, x: head(x))

    def logits(seed):
        nnx.reseed(head, default=seed)
        return np.asarray(call(head, np.ones((4, 2, 2, 3), np.float32)))

    assert not np.allclose(logits(0), logits(1))
    np.testing.assert_array_equal(logits(0), logits(0))
    head.eval()
    np.testing.assert_array_equal(logits(0), logits(1))


def test_batch_norm_averages_with_torch_momentum_in_training_and_not_in_evaluation():
    x = np.random.default_rng(0).normal(3, 2, size=(64, 4)).astype(np.float32)
    norm = batch_norm(4, nnx.Rngs(0))
    norm.eval()
    np.testing.assert_allclose(norm(x), x / np.sqrt(1 + 1e-5), rtol=1e-6)
    np.testing.assert_array_equal(norm.mean[...], 0)
    norm.train()
    norm(x)
    np.testing.assert_allclose(norm.mean[...], 0.1 * x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(norm.var[...], 0.9 + 0.1 * x.var(0), rtol=1e-5)


def test_networks_come_in_evaluation_mode_and_switch_to_training():
    model = blueprint(models.Config("resnet50", 2, 8, 1))
    assert model.layer3[1].bn2.use_running_average
    model.train()
    assert not model.layer3[1].bn2.use_running_average


def test_resnet50_tags_blocks_and_stages():
    model = blueprint(models.Config("resnet50", 2, 8, 1))
    jaxpr = jax.make_jaxpr(lambda model, x: model(x))(model, np.zeros((1, 8, 8, 1), np.float32))
    tagged = [equation.params["name"] for equation in jaxpr.eqns if equation.primitive.name == "name"]
    blocks = [f"layer{stage}.{block}" for stage, n in enumerate((3, 4, 6, 3), 1) for block in range(n)]
    assert sorted(tagged) == sorted([*blocks, "layer1", "layer2", "layer3", "layer4"])


def test_plans_are_data():
    model = blueprint(models.Config("vgg11", 10, 32, convolutions=2))
    assert model.features.plan == (Convolution(64), Pool(), Convolution(128), Pool())


SIZES = [(7, 6, 3), (6, 7, 3), (6, 9, 3), (7, 8, 3), (2, 5, 3), (3, 3, 3)]


@pytest.mark.parametrize(("height", "width", "size"), SIZES)
def test_cells_of_an_adaptive_pool_are_means_from_floor_to_ceiling(height, width, size):
    x = np.random.default_rng(0).normal(size=(2, height, width, 2)).astype(np.float32)
    found = adaptive_average_pool(jnp.asarray(x), size)
    for i, j in np.ndindex(size, size):
        rows = slice(i * height // size, -(-(i + 1) * height // size))
        columns = slice(j * width // size, -(-(j + 1) * width // size))
        np.testing.assert_allclose(found[:, i, j], x[:, rows, columns].mean((1, 2)), atol=1e-6)


@pytest.mark.parametrize(("inputs", "stride", "shortcut"), [(16, 2, True), (16, 1, False), (8, 1, True), (8, 2, True)])
def test_a_block_whose_sizes_differ_has_a_shortcut_of_its_own(inputs, stride, shortcut):
    block = Bottleneck(inputs, 4, stride, "block", rngs=nnx.Rngs(0))
    assert block.shortcut == shortcut
    assert block(jnp.ones((1, 4, 4, inputs))).shape == (1, 4 // stride, 4 // stride, 16)
