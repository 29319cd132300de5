"""Class activation maps against their definitions, against each other, and where they have to be exact."""

import sys
from pathlib import Path

import cam_twins as twins
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from evidence import relative_error
from numpy.testing import assert_allclose

import jaxcam as jc
from jaxcam.attribution import forward_maps
from jaxcam.attribution.asking import Question
from jaxcam.attribution.bricks import upsample
from jaxcam.attribution.layer_maps import activations_and_gradients

sys.path.append(str(Path(__file__).parents[1] / "program"))
import program_nets as nets

BY_GRADIENTS = ["grad_cam", "hires_cam", "layer_cam", "grad_cam_plus_plus"]
# Every method of one layer's map, with the options it needs on a network without batch norm.
ALL = {name: {} for name in [*BY_GRADIENTS, "score_cam", "ablation_cam", "eigen_cam", "guided_grad_cam"]}
ALL["layerwise_maps"] = {"missing": "ones"}


def two_layers(x):
    """Two convolutions and a pooled head; units in the second are few, so chunks are seen."""
    p = [nets.weights((3, 3, 3, 4), 1), nets.weights((3, 3, 4, 6), 2), nets.weights((6, 5), 3)]
    x = nets.max_pool(jax.nn.relu(nets.convolve(x, p[0])))
    return jax.nn.relu(nets.convolve(x, p[1])).mean((1, 2)) @ p[2]


# --- slow twins


@pytest.mark.evidence(
    "grad_cam", "hires_cam", "layer_cam", kind="twin", source="numpy, central differences", tolerance=1e-6
)
@pytest.mark.parametrize("head", ["pool", "deep"])
@pytest.mark.parametrize("name", ["grad_cam", "hires_cam", "layer_cam"])
def test_maps_by_gradients_are_those_of_their_papers(name, head, measured):
    with jax.enable_x64(True):
        found = getattr(jc, name)(twins.net(head), jnp.asarray(twins.IMAGES), twins.CLASSES, layer="conv")
    error = relative_error(found, getattr(twins, name)(head, twins.IMAGES, twins.CLASSES))
    measured(name, error)
    assert error < 1e-6


@pytest.mark.evidence("grad_cam_plus_plus", kind="twin", source="numpy, closed and true form", tolerance=1e-6)
def test_grad_cam_plus_plus_is_that_of_the_paper(measured):
    with jax.enable_x64(True):
        closed = jc.grad_cam_plus_plus(twins.net("deep"), jnp.asarray(twins.IMAGES), twins.CLASSES)
        true = jc.grad_cam_plus_plus(twins.net("smooth"), jnp.asarray(twins.IMAGES), twins.CLASSES, derivatives="true")
    pairs = [
        (closed, twins.grad_cam_plus_plus("deep", twins.IMAGES, twins.CLASSES)),
        (true, twins.true_plus_plus_of_the_smooth_head(twins.IMAGES, twins.CLASSES)),
    ]
    for found, expected in pairs:
        error = relative_error(found, expected)
        measured("grad_cam_plus_plus", error)
        assert error < 1e-6


@pytest.mark.evidence("score_cam", "ablation_cam", kind="twin", source="numpy, unit by unit", tolerance=1e-10)
@pytest.mark.parametrize("head", ["pool", "deep"])
@pytest.mark.parametrize("name", ["score_cam", "ablation_cam"])
def test_maps_by_scores_are_those_of_their_papers(name, head, measured):
    with jax.enable_x64(True):
        found = getattr(jc, name)(twins.net(head), jnp.asarray(twins.IMAGES), twins.CLASSES, chunk=2)
    error = relative_error(found, getattr(twins, name)(head, twins.IMAGES, twins.CLASSES))
    measured(name, error)
    assert error < 1e-10


def test_score_cam_without_softmax_weighs_by_the_increase_over_a_black_image():
    with jax.enable_x64(True):
        found = jc.score_cam(twins.net("deep"), jnp.asarray(twins.IMAGES), twins.CLASSES, softmax=False)
    assert_allclose(found, twins.score_cam("deep", twins.IMAGES, twins.CLASSES, softmax=False), atol=1e-12)


@pytest.mark.evidence("eigen_cam", kind="twin", source="numpy.linalg.svd", tolerance=1e-8)
@pytest.mark.parametrize("center", [False, True])
def test_eigen_cam_is_the_first_component_of_a_singular_value_decomposition(center, measured):
    with jax.enable_x64(True):
        found = jc.eigen_cam(twins.net("pool"), jnp.asarray(twins.IMAGES), center=center)
        # The same with more units than places, where the other Gram matrix is the smaller.
        wide = jc.eigen_cam(twins.net("pool"), jnp.asarray(twins.IMAGES[:, :2, :2]), center=center)
    for maps, images in ((found, twins.IMAGES), (wide, twins.IMAGES[:, :2, :2])):
        error = relative_error(maps, twins.eigen_cam(images, center))
        measured("eigen_cam", error)
        assert error < 1e-8


@pytest.mark.evidence("guided_grad_cam", kind="twin", source="numpy upsampling of both factors", tolerance=1e-6)
def test_guided_grad_cam_is_the_product_of_its_two_parts(measured):
    x = nets.IMAGES
    small = np.asarray(jc.grad_cam(two_layers, x))
    large = np.stack([twins.bilinear(image, x.shape[1:3]) for image in small])
    expected = large[..., None] * np.asarray(jc.guided_backprop(two_layers, x))
    error = relative_error(jc.guided_grad_cam(two_layers, x), expected)
    measured("guided_grad_cam", error)
    assert error < 1e-6


@pytest.mark.evidence("cam", kind="twin", source="numpy, class weights", tolerance=1e-10)
def test_cam_is_the_class_weights_times_the_last_activations(measured):
    with jax.enable_x64(True):
        found = jc.cam(twins.net("pool"), jnp.asarray(twins.IMAGES), twins.CLASSES)
    expected = twins.weighted(twins.activations(twins.IMAGES), twins.POOLED.T[list(twins.CLASSES)])
    error = relative_error(found, expected)
    measured("cam", error)
    assert error < 1e-10


@pytest.mark.evidence("layerwise_maps", kind="twin", source="numpy, scales of the batch norm", tolerance=1e-6)
def test_layerwise_maps_weigh_units_by_the_scale_of_their_own_batch_norm(measured):
    net = nets.flax_nnx()
    activations = np.asarray(jc.tap(net, "add_0")(nets.IMAGES), np.float64)
    expected = sum(scale * activations[..., u] for u, scale in enumerate([1.0, -0.5, 2.0, 0.7]))
    error = relative_error(jc.layerwise_maps(net, nets.IMAGES), expected)
    measured("layerwise_maps", error)
    assert error < 1e-6


def test_upsampling_with_aligned_corners_keeps_the_corners_and_is_linear_between():
    maps = jnp.asarray([[[0.0, 1.0], [2.0, 3.0]]])
    found = upsample(maps, (3, 5), align_corners=True)
    assert_allclose(found[0], np.linspace(0, 2, 3)[:, None] + np.linspace(0, 1, 5), atol=1e-6)
    assert_allclose(upsample(jnp.ones((1, 1, 1)), (3, 2), align_corners=True), np.ones((1, 3, 2)))


# --- axioms


@pytest.mark.evidence("cam", kind="axiom", source="mean over space + bias = the logit")
@pytest.mark.parametrize("kind", nets.HARDEST_FIRST)
def test_the_mean_of_a_cam_and_the_bias_are_the_logit(kind):
    net = nets.KINDS[kind]()
    for target in range(5):
        bias = 0.0
        if kind == "equinox":
            bias = net.head.bias[target]
        maps = jc.cam(net, nets.IMAGES, target)
        assert_allclose(maps.mean((1, 2)) + bias, net(nets.IMAGES)[:, target], atol=2e-6)


def test_the_cam_of_a_last_convolution_that_is_pooled_is_the_channel_of_the_class():
    kernel = nets.weights((1, 1, 3, 5))

    def net(x):
        return jax.nn.relu(nets.convolve(x, kernel) + 0.1).mean((1, 2))

    channel = jc.tap(net, "conv_0")(nets.IMAGES)[..., 2]
    assert_allclose(jc.cam(net, nets.IMAGES, 2), channel, atol=1e-6 * channel.max())


def test_the_cam_of_a_contrast_is_the_difference_of_two_cams():
    found = jc.cam(two_layers, nets.IMAGES, jc.contrast(1, 3))
    assert_allclose(found, jc.cam(two_layers, nets.IMAGES, 1) - jc.cam(two_layers, nets.IMAGES, 3), atol=1e-6)


@pytest.mark.evidence("grad_cam", "hires_cam", kind="axiom", source="pool + dense: CAM / (h·w)")
def test_behind_a_pool_and_a_dense_layer_grad_cam_and_hires_cam_are_cam():
    expected = jc.cam(two_layers, nets.IMAGES, 1)
    size = expected[0].size
    assert_allclose(size * jc.grad_cam(two_layers, nets.IMAGES, 1, relu=False), expected, atol=1e-6)
    assert_allclose(size * jc.grad_cam(two_layers, nets.IMAGES, 1), jnp.maximum(expected, 0), atol=1e-6)
    assert_allclose(size * jc.hires_cam(two_layers, nets.IMAGES, 1), expected, atol=1e-6)


@pytest.mark.evidence("hires_cam", kind="axiom", source="without biases it sums to the score, at any layer")
@pytest.mark.parametrize("layer", ["conv_0", "pool_0", "conv_1"])
def test_without_biases_hires_cam_sums_to_the_score(layer):
    maps = jc.hires_cam(two_layers, nets.IMAGES, 1, layer=layer)
    assert_allclose(maps.sum((1, 2)), two_layers(nets.IMAGES)[:, 1], atol=1e-5)


@pytest.mark.evidence("layer_cam", kind="axiom", source="gradients of one sign: HiResCAM, or 0")
@pytest.mark.parametrize(("sign", "share"), [(1, 1.0), (-1, 0.0)])
def test_layer_cam_with_gradients_of_one_sign_is_hires_cam_or_nothing(sign, share):
    def net(x):
        return sign * jax.nn.relu(nets.convolve(x, nets.weights((3, 3, 3, 4)))).sum((1, 2, 3))[:, None]

    assert_allclose(jc.layer_cam(net, nets.IMAGES), share * jc.hires_cam(net, nets.IMAGES), atol=1e-6)


@pytest.mark.evidence(
    "grad_cam_plus_plus", kind="axiom", source="closed form = derivatives of exp(s) where the head is linear"
)
@pytest.mark.parametrize("head", ["pool", "deep"])
def test_the_closed_form_of_grad_cam_plus_plus_is_true_behind_piecewise_linear_heads(head):
    with jax.enable_x64(True):
        net = twins.net(head)
        closed = jc.grad_cam_plus_plus(net, jnp.asarray(twins.IMAGES), twins.CLASSES)
        true = jc.grad_cam_plus_plus(net, jnp.asarray(twins.IMAGES), twins.CLASSES, derivatives="true")
    assert_allclose(closed, true, rtol=1e-10)


def test_the_closed_form_of_grad_cam_plus_plus_is_not_true_behind_a_smooth_head():
    with jax.enable_x64(True):
        net = twins.net("smooth")
        closed = jc.grad_cam_plus_plus(net, jnp.asarray(twins.IMAGES), twins.CLASSES)
        true = jc.grad_cam_plus_plus(net, jnp.asarray(twins.IMAGES), twins.CLASSES, derivatives="true")
    assert relative_error(closed, true) > 0.01


@pytest.mark.evidence("ablation_cam", kind="axiom", source="pool + dense: losses are the units' contributions")
def test_behind_a_pool_and_a_dense_layer_what_a_unit_takes_away_is_what_it_adds():
    weights = nets.weights((6, 5), 3)[:, 1]
    activations = jc.tap(two_layers, "conv_1")(nets.IMAGES)
    expected = jnp.einsum("nhwu,nu->nhw", activations, weights * activations.mean((1, 2)))
    found = jc.ablation_cam(two_layers, nets.IMAGES, 1, relative=False, relu=False)
    assert_allclose(found, expected, atol=1e-6)
    score = two_layers(nets.IMAGES)[:, 1, None, None]
    assert_allclose(jc.ablation_cam(two_layers, nets.IMAGES, 1, relu=False), expected / score, atol=1e-5)


@pytest.mark.evidence("score_cam", kind="axiom", source="a model blind to the image: the mean of the units")
def test_score_cam_of_a_model_that_does_not_look_is_the_mean_of_the_units():
    def blind(x):
        return jax.nn.relu(nets.convolve(x, nets.weights((3, 3, 3, 4)))).mean((1, 2)) * 0 + 1

    expected = jc.tap(blind, "conv_0")(nets.IMAGES).mean(-1)
    assert_allclose(jc.score_cam(blind, nets.IMAGES, 0), expected, atol=1e-6)
    assert not jc.score_cam(blind, nets.IMAGES, 0, softmax=False).any()


@pytest.mark.evidence("eigen_cam", kind="axiom", source="norm = the first singular value; sign of the activations")
def test_eigen_cam_has_the_norm_of_the_first_singular_value_and_the_sign_of_the_activations():
    activations = np.asarray(jc.tap(two_layers, "conv_1")(nets.IMAGES), np.float64)
    maps = np.asarray(jc.eigen_cam(two_layers, nets.IMAGES))
    sizes = [np.linalg.svd(a.reshape(-1, a.shape[-1]), compute_uv=False)[0] for a in activations]
    assert_allclose(np.linalg.norm(maps.reshape(2, -1), axis=1), sizes, rtol=1e-5)
    assert (maps >= -1e-6).all()
    flipped = jc.eigen_cam(lambda x: -jc.tap(two_layers, "conv_1")(x), nets.IMAGES, layer="conv_1")
    assert_allclose(flipped, maps, atol=1e-5)


@pytest.mark.evidence("layerwise_maps", kind="axiom", source="scales of 1: the sum of the units")
def test_layerwise_maps_with_scales_of_one_are_the_sum_of_the_units():
    net = nets.flax_linen()
    assert_allclose(jc.layerwise_maps(net, nets.IMAGES), jc.tap(net, "add_0")(nets.IMAGES).sum(-1), rtol=1e-5)
    alike = jc.layerwise_maps(two_layers, nets.IMAGES, missing="ones")
    assert_allclose(alike, jc.tap(two_layers, "conv_1")(nets.IMAGES).sum(-1), rtol=1e-5)


@pytest.mark.evidence("guided_grad_cam", kind="axiom", source="a map of ones: guided backpropagation")
def test_guided_grad_cam_behind_a_constant_map_is_guided_backpropagation():
    """Units that are 1 everywhere, of weight 1, make a Grad-CAM of 1s."""
    kernel = jnp.zeros((1, 1, 3, 1))

    def net(x):
        seen = jax.nn.relu(nets.convolve(x, kernel) + 1).mean((1, 2)) * 16 * 4
        return seen + jax.nn.relu(x).sum((1, 2))[:, :1]

    maps = jc.guided_grad_cam(net, nets.IMAGES, 0, layer="conv_0")
    ones = jc.grad_cam(net, nets.IMAGES, 0, layer="conv_0")
    assert_allclose(ones, jnp.full_like(ones, ones[0, 0, 0]))
    assert_allclose(maps, ones[0, 0, 0] * jc.guided_backprop(net, nets.IMAGES, 0), rtol=1e-5)


# --- layers, chunks, cost


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_several_layers_at_once_are_the_layers_one_by_one(name):
    names = ["conv_1", "pool_0", "conv_0"]
    together = getattr(jc, name)(two_layers, nets.IMAGES, layer=names, **ALL[name])
    assert list(together) == names
    for layer in names:
        alone = getattr(jc, name)(two_layers, nets.IMAGES, layer=layer, **ALL[name])
        assert_allclose(together[layer], alone, atol=1e-5 * float(jnp.abs(alone).max()))


@pytest.mark.parametrize("kind", nets.HARDEST_FIRST)
def test_without_a_name_the_last_layer_with_space_is_looked_at(kind):
    net = nets.KINDS[kind]()
    assert_allclose(jc.grad_cam(net, nets.IMAGES), jc.grad_cam(net, nets.IMAGES, layer="add_0"))


def test_a_max_pool_before_the_head_is_not_the_layer_looked_at():
    def net(x):
        return nets.max_pool(jax.nn.relu(nets.convolve(x, nets.weights((3, 3, 3, 4))))).mean((1, 2))

    assert jc.grad_cam(net, nets.IMAGES).shape == (2, 8, 8)
    assert jc.cam(net, nets.IMAGES).shape == (2, 4, 4)  # but CAM is exact there


@pytest.mark.parametrize("name", ["score_cam", "ablation_cam"])
@pytest.mark.parametrize("chunk", [1, 3, 6, 7])
def test_units_come_in_chunks_of_any_size(name, chunk):
    whole = getattr(jc, name)(two_layers, nets.IMAGES)
    assert_allclose(getattr(jc, name)(two_layers, nets.IMAGES, chunk=chunk), whole, atol=1e-6)


def test_the_true_derivatives_come_in_chunks_of_any_size():
    whole = jc.grad_cam_plus_plus(two_layers, nets.IMAGES, derivatives="true")
    for chunk in (1, 5, 97):
        found = jc.grad_cam_plus_plus(two_layers, nets.IMAGES, derivatives="true", chunk=chunk)
        assert_allclose(found, whole, rtol=1e-5)


@pytest.mark.parametrize(("layers", "backward"), [(("conv_1",), 0), (("conv_0",), 1), (("conv_0", "conv_1"), 1)])
def test_one_forward_and_one_backward_pass_that_ends_at_the_layer(layers, backward):
    """Convolutions of the compiled program: two forward; backward through conv_1 if conv_0 is asked for."""

    def both(x):
        return activations_and_gradients(Question(two_layers, jnp.asarray(1)), x, layers)

    text = jax.jit(both).lower(nets.IMAGES).as_text()
    assert text.count("stablehlo.convolution") == 2 + backward


def test_what_is_not_finite_is_reported():
    def net(x):
        return jnp.log(jax.nn.relu(nets.convolve(x, nets.weights((3, 3, 3, 4)))).mean((1, 2)) - 1e3)

    with pytest.raises(ValueError, match="not finite"):
        jc.grad_cam(net, nets.IMAGES, 0)


# --- bad input


@pytest.mark.parametrize("name", [*ALL, "cam"])
def test_a_model_without_a_convolution_is_told_so(name):
    def dense(x):
        return jax.nn.relu(x.reshape(x.shape[0], -1)) @ jnp.ones((192, 3))

    with pytest.raises(ValueError, match="no convolution") as caught:
        getattr(jc, name)(dense, nets.IMAGES, **ALL.get(name, {}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [*ALL, "cam"])
def test_a_layer_that_is_not_there_gets_its_closest_match(name):
    with pytest.raises(ValueError, match=r"no layer 'conv_l'; did you mean 'conv_"):
        getattr(jc, name)(two_layers, nets.IMAGES, layer="conv_l", **ALL.get(name, {}))


@pytest.mark.parametrize("name", [*ALL, "cam"])
def test_a_layer_without_space_is_refused(name):
    with pytest.raises(ValueError, match=r"layer 'dense_0' has no space: .* the last with space is 'conv_1'"):
        getattr(jc, name)(two_layers, nets.IMAGES, layer="dense_0", **ALL.get(name, {}))


def test_layers_that_are_no_names_are_refused():
    with pytest.raises(TypeError, match=r"a layer is a name|Type-check"):
        jc.grad_cam(two_layers, nets.IMAGES, layer=3)
    with pytest.raises(TypeError, match=r"a layer is a name|Type-check"):
        jc.grad_cam(two_layers, nets.IMAGES, layer=["conv_0", 3])
    with pytest.raises(ValueError, match="no map"):
        jc.grad_cam(two_layers, nets.IMAGES, layer=[])


@pytest.mark.parametrize("name", ["score_cam", "ablation_cam", "grad_cam_plus_plus"])
@pytest.mark.parametrize("chunk", [0, -2])
def test_chunks_of_nothing_are_refused(name, chunk):
    with pytest.raises(ValueError, match="chunk is a whole number from 1 up"):
        getattr(jc, name)(two_layers, nets.IMAGES, chunk=chunk)


def test_cam_names_what_stands_in_its_way():
    kernel = nets.weights((3, 3, 3, 4))

    def hidden_layer(x):
        return jax.nn.relu(jax.nn.relu(nets.convolve(x, kernel)).mean((1, 2)) @ jnp.ones((4, 4)))

    def flat(x):
        return jax.nn.relu(nets.convolve(x, kernel)).reshape(x.shape[0], -1) @ jnp.ones((256, 2))

    def beside(x):
        return jax.nn.relu(nets.convolve(x, kernel)).mean((1, 2)) + x.sum((1, 2, 3))[:, None]

    for net, why in (
        (hidden_layer, "'relu' after it is not linear"),
        (flat, "'dot_general' reads it before"),
        (beside, "'add' adds what"),
    ):
        with pytest.raises(ValueError, match=why):
            jc.cam(net, nets.IMAGES, 0)
    with pytest.raises(ValueError, match="targets that are linear"):
        jc.cam(two_layers, nets.IMAGES, lambda outputs: jax.nn.softmax(outputs)[:, 0])


def test_layerwise_maps_without_a_normalization_say_so():
    with pytest.raises(ValueError, match="layer 'conv_1' has no normalization"):
        jc.layerwise_maps(two_layers, nets.IMAGES)


def test_options_out_of_range_are_refused():
    with pytest.raises(ValueError, match="derivatives 'exact'"):
        jc.grad_cam_plus_plus(two_layers, nets.IMAGES, derivatives="exact")
    with pytest.raises(ValueError, match="epsilon is 0 or more"):
        jc.grad_cam_plus_plus(two_layers, nets.IMAGES, epsilon=-1.0)
    with pytest.raises(ValueError, match="baseline"):
        jc.score_cam(two_layers, nets.IMAGES, baseline=np.zeros((2, 2)))


def test_where_units_cancel_the_first_component_is_positive_at_its_largest_place():
    places = np.array([[3.0, 0, 0, 0], [0, 0, -2, 0], [0, 0, 2, 0], [-3, 0, 0, 0]])
    activations = jnp.asarray((places[..., None] * [1.0, -1.0]).reshape(4, 2, 2, 2))
    found = forward_maps._component(activations, False)
    np.testing.assert_allclose(found.reshape(4, 4), np.abs(places) * np.sqrt(2), atol=1e-5)
