"""Class activation maps of trained networks on real pictures: exact where they should be, on the object, by stage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trained_nets as nets
from numpy.testing import assert_allclose

import jaxcam as jc

pytestmark = pytest.mark.optimized


@pytest.fixture(scope="module")
def cats():
    return nets.photographs("n02123394_1036", "n02123394_1086", folder="n02123394_persian_cat")


@pytest.fixture(scope="module")
def tiny():
    return jnp.asarray(nets.cifar10()[0][:4])


@pytest.mark.evidence("cam", kind="trained", source="SqueezeNet: mean of the map = logit")
@pytest.mark.slow
@pytest.mark.parametrize("writing", ["plain", "linen"])
def test_the_cam_of_squeezenet_is_the_channel_of_the_class_and_its_mean_the_logit(writing, cats):
    model = nets.SQUEEZENETS[writing]()
    maps = jc.cam(model, cats)
    logits = np.asarray(jax.jit(model)(cats))
    assert_allclose(maps.mean((1, 2)), logits.max(-1), rtol=1e-5)
    last = next(layer for layer in reversed(jc.layers(model, cats)) if layer.kind == "conv")
    channels = np.asarray(jc.tap(model, last.name)(cats))
    # Where a ReLU leaves little of large sums, their rounding is all there is: measured by the largest value.
    assert_allclose(maps, channels[np.arange(2), ..., logits.argmax(-1)], atol=1e-5 * float(maps.max()))


@pytest.mark.slow
@pytest.mark.evidence("cam", "grad_cam", "hires_cam", kind="trained", source="ResNet20: CAM + bias = logit")
@pytest.mark.parametrize("writing", nets.RESNETS)
def test_the_cam_of_a_residual_network_and_the_bias_are_the_logit(writing, tiny):
    model = nets.RESNETS[writing](20)
    logits = np.asarray(jax.jit(model)(tiny))
    bias = nets.resnet_weights(20)["linear.bias"]
    maps = jc.cam(model, tiny)
    assert maps.shape == (4, 8, 8)
    assert_allclose(maps.mean((1, 2)) + bias[logits.argmax(-1)], logits.max(-1), rtol=1e-4)
    scale = float(jnp.abs(maps).max())
    assert_allclose(64 * jc.hires_cam(model, tiny), maps, atol=1e-5 * scale)
    assert_allclose(64 * jc.grad_cam(model, tiny, relu=False), maps, atol=1e-5 * scale)


@pytest.mark.slow
@pytest.mark.evidence("layerwise_maps", kind="trained", source="ResNet20: the scales of its stages")
@pytest.mark.parametrize("writing", nets.RESNETS)
def test_the_stages_of_a_residual_network_are_weighed_by_their_own_last_scales(writing, tiny):
    model = nets.RESNETS[writing](20)
    stages = {}  # the last sum of each size
    for layer in jc.layers(model, tiny):
        if layer.kind == "add":
            stages[layer.units] = layer.name
    assert list(stages) == [16, 32, 64]
    found = jc.layerwise_maps(model, tiny, layer=list(stages.values()))
    for stage, (units, name) in enumerate(stages.items(), start=1):
        scale = nets.resnet_weights(20)[f"layer{stage}.2.bn2.weight"]
        assert scale.shape == (units,)
        expected = np.asarray(jc.tap(model, name)(tiny)) @ scale
        assert_allclose(found[name], expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.evidence(
    "grad_cam_plus_plus", "layer_cam", "ablation_cam", kind="trained", source="ResNet20: close to Grad-CAM"
)
@pytest.mark.parametrize("name", ["grad_cam_plus_plus", "layer_cam", "ablation_cam"])
def test_on_a_trained_network_the_maps_of_one_class_agree(name, tiny):
    model = nets.resnet_plain(20)
    first = np.asarray(jc.grad_cam(model, tiny)).reshape(4, -1)
    second = np.asarray(getattr(jc, name)(model, tiny)).reshape(4, -1)
    cosines = (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    assert cosines.min() > 0.7


@pytest.mark.slow
def test_the_map_of_another_class_is_another_map(tiny):
    model = nets.resnet_plain(20)
    logits = np.asarray(jax.jit(model)(tiny))
    best, worst = (jc.grad_cam(model, tiny, pick) for pick in (logits.argmax(-1), logits.argmin(-1)))
    assert float(best.sum()) > 2 * float(worst.sum())
    assert_allclose(jc.eigen_cam(model, tiny, logits.argmax(-1)), jc.eigen_cam(model, tiny, logits.argmin(-1)))
