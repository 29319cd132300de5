"""Class activation maps without gradients: units weighted by what the score says with or without them, or by neither.

Score-CAM shows the model the image through each unit, Ablation-CAM silences each unit; both ask a chunk of units at a
time, under one compilation. Eigen-CAM and the layer-wise maps ask for no class.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcam.attribution.asking import Question, check_chunk
from jaxcam.attribution.baselines import Baseline
from jaxcam.attribution.bricks import check_one_of, upsample
from jaxcam.attribution.budget import chunk_size, mapped
from jaxcam.attribution.layer_maps import Layers, Map, at_layers, chosen, weighted
from jaxcam.attribution.removing import masked_scores, stand_in_of
from jaxcam.attribution.targets import Target, score
from jaxcam.program.exposure import above
from jaxcam.program.norms import normalization_scale
from jaxcam.program.rewrite import accelerate
from jaxcam.program.transform import tap


def score_cam(
    model: Any,
    x: Array,
    target: Target = None,
    *,
    layer: Layers = None,
    softmax: bool = True,
    baseline: Baseline = None,
    align_corners: bool = False,
    relu: bool = True,
    chunk: int | None = None,
) -> Map:
    """Where a layer's units speak for the target: each unit weighted by the score of the image seen through it.

    M = max(Σᵤ wᵤ aᵤ, 0), w the softmax over the units of s(x̂ᵤ) − s(b), where x̂ᵤ = b + mᵤ · (x − b), b the baseline and
    the mask mᵤ = aᵤ, upsampled bilinearly to the image and then scaled to [0, 1]; a unit that is the same everywhere
    has the mask 0.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float, as the model takes them.
        target: a class for all images or one for each, None for the predicted class of x, or a callable
            outputs -> (n,).
        layer: see `grad_cam`.
        softmax: False for the increases s(x̂ᵤ) − s(b) themselves as weights.
        baseline: what is seen where the mask is 0: None for zeros, as in the paper, a number, "blur", "mean" (the
            image's mean color), or an array like x or like one image.
        align_corners: whether the masks' corners come to lie on the image's, as in pytorch-grad-cam.
        relu: whether negative values become 0, as in the paper.
        chunk: how many units at once; None for what fits. The answer does not depend on it.

    Returns:
        Maps (n, h, w), h and w the layer's own; for a list of layers a dict of them by name. In units of the
        activations (weights sum to 1); not negative unless relu=False.

    Raises:
        TypeError: images, target, layer or baseline of a wrong kind.
        ValueError: what `grad_cam` raises; a baseline of another shape, a chunk below 1.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> net = lambda x: jax.lax.conv(x.transpose(0, 3, 1, 2), jnp.ones((1, 1, 1, 1)), (1, 1), "SAME").sum((2, 3))
        >>> score_cam(net, jnp.array([[[[1.0], [2.0]]]])).tolist()
        [[[1.0, 2.0]]]

    Wang et al., "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks", 2020. Differs from:
    with softmax, s(b) cancels; the score is the target's, a logit unless the target says otherwise, as in
    pytorch-grad-cam. When it misleads: a softmax of logits is nearly an argmax, so one unit can make the whole map.
    """
    check_chunk(chunk)
    options = {"softmax": bool(softmax), "align_corners": bool(align_corners), "relu": bool(relu), "chunk": chunk}
    return at_layers(_score_cam, model, x, target, layer, stand_in_of(baseline, x), **options)


def ablation_cam(
    model: Any,
    x: Array,
    target: Target = None,
    *,
    layer: Layers = None,
    relative: bool = True,
    relu: bool = True,
    chunk: int | None = None,
) -> Map:
    """Where a layer's units speak for the target: each unit weighted by what the score loses without it.

    M = max(Σᵤ wᵤ aᵤ, 0) with wᵤ = (s − s₋ᵤ) / s, s₋ᵤ the score with aᵤ := 0. Only what follows the layer is computed
    again.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float, as the model takes them.
        target: a class for all images or one for each, None for the predicted class of x, or a callable
            outputs -> (n,).
        layer: see `grad_cam`.
        relative: False for the losses s − s₋ᵤ themselves as weights; they are taken as well where s is 0.
        relu: whether negative values become 0, as in the paper.
        chunk: how many units at once; None for what fits. The answer does not depend on it.

    Returns:
        Maps (n, h, w), h and w the layer's own; for a list of layers a dict of them by name. Not negative unless
        relu=False.

    Raises:
        TypeError: images, target or layer of a wrong kind.
        ValueError: what `grad_cam` raises; a chunk below 1.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> net = lambda x: jax.lax.conv(x.transpose(0, 3, 1, 2), jnp.ones((1, 1, 1, 1)), (1, 1), "SAME").sum((2, 3))
        >>> ablation_cam(net, jnp.array([[[[1.0], [2.0]]]])).tolist()
        [[[1.0, 2.0]]]

    Desai and Ramaswamy, "Ablation-CAM", 2020. Differs from: pytorch-grad-cam silences a unit of a layer that has
    negative values by −10⁷. When it misleads: dividing by a negative score turns the map around; use relative=False.
    """
    check_chunk(chunk)
    options = {"relative": bool(relative), "relu": bool(relu), "chunk": chunk}
    return at_layers(_ablation_cam, model, x, target, layer, **options)


def eigen_cam(model: Any, x: Array, target: Target = None, *, layer: Layers = None, center: bool = False) -> Map:
    """What most of a layer's activation has in common: its first principal component, of no class.

    M = A v, A the layer's activations as a matrix (h·w, u) and v its first right singular vector. The sign, which the
    decomposition leaves open, is that of the activations: Σ M · Σᵤ aᵤ ≥ 0 over space.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float, as the model takes them.
        target: taken for the sake of one signature, and checked; the map does not depend on it.
        layer: see `grad_cam`.
        center: whether each unit's mean over space is taken off first, as in pytorch-grad-cam (whose sign is left
            open).

    Returns:
        Raw maps (n, h, w), h and w the layer's own; for a list of layers a dict of them by name. In units of the
        activations.

    Raises:
        TypeError: images, target or layer of a wrong kind.
        ValueError: what `grad_cam` raises.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> net = lambda x: jax.lax.conv(x.transpose(0, 3, 1, 2), jnp.ones((1, 1, 1, 1)), (1, 1), "SAME").sum((2, 3))
        >>> [round(value, 3) for value in eigen_cam(net, jnp.array([[[[3.0], [4.0]]]])).ravel().tolist()]
        [3.0, 4.0]

    Muhammad and Yeasin, "Eigen-CAM: Class Activation Map using Principal Components", 2020. When it misleads: it shows
    what excites the layer most, whichever class that speaks for; with two singular values alike it is arbitrary.
    """
    return at_layers(_eigen_cam, model, x, target, layer, center=bool(center))


def layerwise_maps(model: Any, x: Array, target: Target = None, *, layer: Layers = None, missing: str = "error") -> Map:
    """What a stage of a network lets through: its units weighted by the scale of its own last normalization.

    M = Σᵤ γᵤ aᵤ, γ the scale of the batch (group, layer) norm that ends in the layer, on the way with the most
    convolutions where a residual sum joins several. No class is asked for.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float, as the model takes them.
        target: taken for the sake of one signature, and checked; the map does not depend on it.
        layer: a name that `layers` lists, or several (the stages) in a list; None for the last layer with more than
            one place that is no pooling.
        missing: what to do with a layer without a normalization between it and the convolution before: "error", or
            "ones" to weigh all its units alike.

    Returns:
        Raw maps (n, h, w), h and w the layer's own; for a list of layers a dict of them by name, from one forward
        pass. Signed, in units of the activations.

    Raises:
        TypeError: images, target or layer of a wrong kind.
        ValueError: what `grad_cam` raises; a layer without a normalization (unless missing="ones").

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> def net(x):
        ...     y = jax.lax.conv(x.transpose(0, 3, 1, 2), jnp.ones((2, 1, 1, 1)), (1, 1), "SAME").transpose(0, 2, 3, 1)
        ...     mean, variance, scale = jnp.zeros(2), jnp.ones(2), jnp.array([3.0, -1.0])
        ...     return jax.nn.relu(scale * (y - mean) * jax.lax.rsqrt(variance)).sum((1, 2))
        >>> layerwise_maps(net, jnp.array([[[[1.0], [2.0]]]])).tolist()
        [[[9.0, 18.0]]]
    """
    check_one_of(missing, ("error", "ones"), "choice for a missing normalization")
    return at_layers(_layerwise_maps, model, x, target, layer, missing=missing)


def _score_cam(
    question: Question,
    x: Array,
    stand_in: Array,
    *,
    layer: Any,
    softmax: bool,
    align_corners: bool,
    relu: bool,
    chunk: int | None,
) -> dict[str, Array]:
    question = question.settled(x)
    names = chosen(question.model, x, layer)
    size = (x.shape[1], x.shape[2])

    def mask(unit: Array) -> Array:
        large = upsample(unit, size, align_corners)
        low = jnp.min(large, (1, 2), keepdims=True)
        extent = jnp.max(large, (1, 2), keepdims=True) - low
        return (large - low) / jnp.where(extent == 0, 1, extent)

    maps = {}
    for name, activations in accelerate(tap(question.model, names))(x).items():
        scores = masked_scores(question, x, stand_in, mask, jnp.moveaxis(activations, -1, 0), chunk).T
        weights = jax.nn.softmax(scores, -1) if softmax else scores - question.scores(stand_in)[:, None]
        maps[name] = weighted(activations, weights, relu)
    return maps


def _ablation_cam(
    question: Question, x: Array, *, layer: Any, relative: bool, relu: bool, chunk: int | None
) -> dict[str, Array]:
    question = question.settled(x)
    maps = {}
    for name in chosen(question.model, x, layer):
        activations, rest = above(question.model, x, name)
        units = activations.shape[-1]

        def without(unit: Array, activations: Array = activations, rest: Any = rest) -> Array:
            silenced = jnp.where(jnp.arange(activations.shape[-1]) == unit, 0, activations)
            return score(rest(silenced), question.target)

        scores = score(rest(activations), question.target)[:, None]
        losses = scores - mapped(without, jnp.arange(units), chunk_size(question.model, x, units, chunk)).T
        weights = losses / jnp.where(scores == 0, 1, scores) if relative else losses
        maps[name] = weighted(activations, weights, relu)
    return maps


def _eigen_cam(question: Question, x: Array, *, layer: Any, center: bool) -> dict[str, Array]:
    jax.eval_shape(question.scores, x)  # refuses a target that makes no sense
    names = chosen(question.model, x, layer)
    return {name: _component(a, center) for name, a in accelerate(tap(question.model, names))(x).items()}


def _component(activations: Float[Array, "n h w u"], center: bool) -> Float[Array, "n h w"]:
    """The first principal component, from the smaller of the two Gram matrices."""
    n, h, w, u = activations.shape
    matrix = activations.reshape(n, h * w, u)
    matrix = matrix - jnp.mean(matrix, 1, keepdims=True) if center else matrix
    turned = jnp.swapaxes(matrix, 1, 2)
    if h * w <= u:
        values, vectors = jnp.linalg.eigh(jnp.matmul(matrix, turned, precision="highest"))
        found = vectors[:, :, -1] * jnp.sqrt(jnp.maximum(values[:, -1:], 0))
    else:
        _, vectors = jnp.linalg.eigh(jnp.matmul(turned, matrix, precision="highest"))
        found = jnp.einsum("npu,nu->np", matrix, vectors[:, :, -1], precision="highest")
    along = jnp.einsum("np,npu->n", found, matrix)
    largest = jnp.take_along_axis(found, jnp.argmax(jnp.abs(found), 1)[:, None], 1)[:, 0]
    sign = jnp.where(jnp.where(along == 0, largest, along) < 0, -1, 1)
    return (found * sign[:, None]).reshape(n, h, w)


def _layerwise_maps(question: Question, x: Array, *, layer: Any, missing: str) -> dict[str, Array]:
    jax.eval_shape(question.scores, x)  # refuses a target that makes no sense
    names = chosen(question.model, x, layer)
    found = accelerate(tap(question.model, names))(x)
    scales = {name: normalization_scale(question.model, x, name) for name in names}
    absent = [name for name, scale in scales.items() if scale is None]
    if absent and missing == "error":
        raise ValueError(
            f"layer '{absent[0]}' has no normalization between it and the convolution before, so no scale weighs its "
            "units: name a layer that ends in a batch norm (with its ReLU or residual sum), say missing='ones' to "
            "weigh all units alike, or use eigen_cam, which needs no class either"
        )

    def summed(activations: Array, scale: Array | None) -> Array:
        return jnp.sum(activations, -1) if scale is None else jnp.einsum("nhwu,u->nhw", activations, scale)

    return {name: summed(found[name], scales[name]) for name in names}
