"""Perturbation methods equal to those of Captum, shap, lime and PAIR's saliency, where those are exact."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from evidence import relative_error
from perturbed_nets import HEAD, KERNEL, net, np_scores

import jaxcam as jc
from jaxcam.attribution.local_models import random_pieces
from jaxcam.attribution.regions import over_segmented, regions

pytestmark = pytest.mark.parity

IMAGES = jnp.asarray(np.random.default_rng(7).random((3, 8, 8, 3)), jnp.float32)
TARGETS = (2, 0, 1)


@pytest.fixture(scope="module")
def twin():
    """`net` in PyTorch, whose flattened features stand in another order."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1, bias=False),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(64, 3, bias=False),
    )
    head = HEAD.reshape(4, 4, 4, 3).transpose(3, 2, 0, 1).reshape(3, 64)
    with torch.no_grad():
        network[0].weight.copy_(torch.from_numpy(KERNEL.transpose(3, 2, 0, 1)))
        network[4].weight.copy_(torch.from_numpy(head))
    return network


@pytest.mark.evidence("occlusion", kind="library", source="Captum 0.9", tolerance=1e-4)
@pytest.mark.parametrize(("window", "stride"), [((3, 3), (2, 2)), ((3, 2), (2, 1)), ((5, 3), (4, 3)), ((8, 8), (1, 1))])
def test_occlusion_is_captums(twin, window, stride, measured):
    torch = pytest.importorskip("torch")
    attr = pytest.importorskip("captum.attr", reason="Captum is not installed")
    image = torch.from_numpy(np.asarray(IMAGES).transpose(0, 3, 1, 2).copy())
    options = {"sliding_window_shapes": (3, *window), "strides": (3, *stride), "baselines": 0.3}
    theirs = attr.Occlusion(twin).attribute(image, target=list(TARGETS), **options).detach().numpy()
    ours = jc.occlusion(net, IMAGES, TARGETS, window=window, stride=stride, baseline=0.3)
    error = relative_error(ours, theirs.transpose(0, 2, 3, 1))
    measured("occlusion", error)
    assert error <= 1e-4


def score_of_masks(labels, image, target, stand_in=0.0):
    """What shap and lime explain: rows of ones and zeros ↦ the score of the image with those segments."""

    def scores(rows):
        kept = np.asarray(rows, bool)[:, labels][..., None]
        return np_scores(np.where(kept, image, stand_in))[:, target]

    return scores


def values_of(maps, labels):
    return np.array([np.asarray(maps)[labels == number][0] for number in range(labels.max() + 1)])


@pytest.mark.evidence("shapley_values", "kernel_shap", kind="library", source="shap 0.51", tolerance=1e-4)
def test_the_values_are_shaps(measured):
    shap = pytest.importorskip("shap", reason="shap is not installed")
    labels = jc.segment(IMAGES, "grid", count=(2, 4))
    exact = jc.shapley_values(net, IMAGES, TARGETS, segments=labels, baseline=0.0)
    fitted = jc.kernel_shap(net, IMAGES, TARGETS, segments=labels, baseline=0.0)
    for i, target in enumerate(TARGETS):
        scores = score_of_masks(labels[i], np.asarray(IMAGES[i], float), target)
        of_all = shap.explainers.ExactExplainer(scores, shap.maskers.Independent(np.zeros((1, 8)), max_samples=1))
        error = relative_error(values_of(exact[i], labels[i]), of_all(np.ones((1, 8))).values[0])
        measured("shapley_values", error)
        assert error <= 1e-4
        kernel = shap.KernelExplainer(scores, np.zeros((1, 8)))
        theirs = kernel.shap_values(np.ones((1, 8)), nsamples=2**8, l1_reg=False, silent=True)
        error = relative_error(values_of(fitted[i], labels[i]), np.ravel(theirs))
        measured("kernel_shap", error)
        assert error <= 1e-4


@pytest.mark.evidence("lime", kind="library", source="lime 0.2", tolerance=1e-4)
def test_the_fit_to_the_same_samples_is_limes(measured):
    lime_base = pytest.importorskip("lime.lime_base", reason="lime is not installed")
    metrics = pytest.importorskip("sklearn.metrics")
    labels = jc.segment(IMAGES, "grid", count=16)
    key = jax.random.key(5)
    ours = jc.lime(net, IMAGES, TARGETS, key=key, segments=labels, samples=200, baseline=0.2)
    rows = np.asarray(random_pieces(key, 200, 16), float)
    distances = metrics.pairwise_distances(rows, rows[:1], metric="cosine").ravel()
    base = lime_base.LimeBase(lambda d: np.sqrt(np.exp(-(d**2) / 0.25**2)))
    for i, target in enumerate(TARGETS):
        scores = score_of_masks(labels[i], np.asarray(IMAGES[i], float), target, 0.2)(rows)
        _, found, _, _ = base.explain_instance_with_data(
            rows, scores[:, None], distances, 0, 16, feature_selection="none"
        )
        theirs = np.array([weight for _, weight in sorted(found)])
        error = relative_error(values_of(ours[i], labels[i]), theirs)
        measured("lime", error)
        assert error <= 1e-4


def scene(seed):
    """A picture with a disk, a bar and a gradient, and an attribution that holds to none of them."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64] / 64
    image = np.stack([x, y, 0.5 * x + 0.5 * y], -1)
    image[(x - 0.3) ** 2 + (y - 0.4) ** 2 < 0.04] = rng.random(3)
    image[(x > 0.6) & (x < 0.8)] = rng.random(3)
    attribution = rng.normal(size=image.shape) + 3 * np.exp(-20 * ((x - 0.35) ** 2 + (y - 0.4) ** 2))[..., None]
    return (image + 0.05 * rng.random(image.shape)).astype(np.float32), attribution.astype(np.float32)


@pytest.mark.evidence("xrai", kind="library", source="PAIR saliency 0.2", tolerance=1e-4)
@pytest.mark.parametrize("seed", [0, 1])
def test_xrai_is_pairs(seed, measured):
    xrai = pytest.importorskip("saliency.core.xrai", reason="PAIR's saliency is not installed")
    image, attribution = scene(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        masks = xrai._get_segments_felzenszwalb(image.astype(np.float64))
        theirs = xrai.XRAI().GetMask(image, None, segments=masks, base_attribution=attribution.astype(np.float64))
    found = regions(over_segmented(image.astype(np.float64)), 5)
    assert {mask.tobytes() for mask in found} == {np.asarray(mask, bool).tobytes() for mask in masks if mask.any()}
    ours = jc.xrai(net, jnp.asarray(image[None]), attributions=attribution[None], dilation=5, gain=50)
    error = relative_error(ours[0], theirs)
    measured("xrai", error)
    assert error <= 1e-4
