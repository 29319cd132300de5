"""Class activation maps that weigh a layer's units by gradients: one forward and one backward pass.

All are sums over units of weight times activation, Σᵤ w · aᵤ; they differ in the weights. The backward pass ends at the
layer: no gradient reaches the image.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcam.attribution.asking import Question
from jaxcam.attribution.bricks import upsample
from jaxcam.attribution.layer_maps import (
    Layers,
    Map,
    activations_and_gradients,
    at_layers,
    place_by_place,
    pooled_layers,
    weighted,
)
from jaxcam.attribution.targets import Target
from jaxcam.program.transform import guided


def grad_cam(model: Any, x: Array, target: Target = None, *, layer: Layers = None, relu: bool = True) -> Map:
    """Where a layer's units speak for the target: each unit weighted by its mean gradient.

    M = max(Σᵤ wᵤ aᵤ, 0) with wᵤ the mean of ∂s/∂aᵤ over space.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float, as the model takes them.
        target: a class for all images or one for each, None for the predicted class, or a callable outputs -> (n,).
        layer: a name that `layers` lists, or several in a list; None for the last layer with more than one place that
            is no pooling (the last convolution's, or the sum or concatenation after it).
        relu: whether negative values become 0, as in the paper; False keeps what speaks against the target.

    Returns:
        Maps (n, h, w), h and w the layer's own; for a list of layers a dict of them by name. In units of the score;
        not negative unless relu=False.

    Raises:
        TypeError: images, target or layer of a wrong kind.
        ValueError: what `saliency` raises; no such layer, a layer without space, a model without a convolution.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> net = lambda x: jax.lax.conv(x.transpose(0, 3, 1, 2), jnp.ones((1, 1, 1, 1)), (1, 1), "SAME").sum((2, 3))
        >>> grad_cam(net, jnp.array([[[[1.0], [2.0]]]])).tolist()
        [[[1.0, 2.0]]]

    Selvaraju et al., "Grad-CAM", 2017. Differs from: Captum's `LayerGradCam` leaves negative values unless asked to
    clip; the paper and pytorch-grad-cam clip. When it misleads: the mean over space forgets where a gradient was, so a
    place can be lit for what another place did (`hires_cam` does not).
    """
    return at_layers(_grad_cam, model, x, target, layer, relu=bool(relu))


def hires_cam(model: Any, x: Array, target: Target = None, *, layer: Layers = None, relu: bool = False) -> Map:
    """Where a layer's units speak for the target, each place weighted by its own gradient.

    M = Σᵤ (∂s/∂aᵤ) · aᵤ, place by place. Where what follows the layer is linear and has no bias, it sums to the score.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float, as the model takes them.
        target: a class for all images or one for each, None for the predicted class, or a callable outputs -> (n,).
        layer: see `grad_cam`.
        relu: whether negative values become 0; the paper keeps them.

    Returns:
        Maps (n, h, w), h and w the layer's own; for a list of layers a dict of them by name. Signed, in units of the
        score.

    Raises:
        TypeError: images, target or layer of a wrong kind.
        ValueError: what `grad_cam` raises.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> net = lambda x: -jax.lax.conv(x.transpose(0, 3, 1, 2), jnp.ones((1, 1, 1, 1)), (1, 1), "SAME").sum((2, 3))
        >>> hires_cam(net, jnp.array([[[[1.0], [2.0]]]])).tolist()
        [[[-1.0, -2.0]]]

    Draelos and Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations", 2020. Differs from:
    pytorch-grad-cam clips at the end.
    """
    return at_layers(_hires_cam, model, x, target, layer, relu=bool(relu))


def layer_cam(model: Any, x: Array, target: Target = None, *, layer: Layers = None, relu: bool = True) -> Map:
    """Where a layer's units speak for the target, each place weighted by its positive gradient: for early layers too.

    M = max(Σᵤ max(∂s/∂aᵤ, 0) · aᵤ, 0), place by place.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float, as the model takes them.
        target: a class for all images or one for each, None for the predicted class, or a callable outputs -> (n,).
        layer: see `grad_cam`.
        relu: whether negative values become 0, as in the paper; after a ReLU there are none.

    Returns:
        Maps (n, h, w), h and w the layer's own; for a list of layers a dict of them by name. In units of the score;
        not negative unless relu=False.

    Raises:
        TypeError: images, target or layer of a wrong kind.
        ValueError: what `grad_cam` raises.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> net = lambda x: jax.lax.conv(x.transpose(0, 3, 1, 2), jnp.ones((1, 1, 1, 1)), (1, 1), "SAME").sum((2, 3))
        >>> layer_cam(net, jnp.array([[[[1.0], [-2.0]]]])).tolist()
        [[[1.0, 0.0]]]

    Jiang et al., "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization", 2021.
    """
    return at_layers(_layer_cam, model, x, target, layer, relu=bool(relu))


def guided_grad_cam(
    model: Any, x: Array, target: Target = None, *, layer: Layers = None, relu: bool = True
) -> Float[Array, "n h w c"] | dict[str, Float[Array, "n h w c"]]:
    """What of the image's detail lies where the layer speaks for the target: guided backpropagation times Grad-CAM.

    M = G · up(C), G the map of `guided_backprop`, C that of `grad_cam` upsampled bilinearly to the image.

    Args:
        model: any callable `x -> outputs`, of linear operations, rectifiers and max pooling.
        x: images (n, h, w, c), float, as the model takes them.
        target: a class for all images or one for each, None for the predicted class, or a callable outputs -> (n,).
        layer: see `grad_cam`.
        relu: whether Grad-CAM is clipped at 0, as in the paper.

    Returns:
        Raw maps (n, h, w, c) like x, signed; for a list of layers a dict of them by name.

    Raises:
        TypeError: images, target or layer of a wrong kind.
        ValueError: what `grad_cam` and `guided_backprop` raise.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> def net(x):
        ...     y = jax.lax.conv(x.transpose(0, 3, 1, 2), jnp.ones((1, 1, 1, 1)), (1, 1), "SAME")
        ...     return jax.nn.relu(y).sum((2, 3))
        >>> guided_grad_cam(net, jnp.array([[[[1.0], [-2.0]]]])).tolist()
        [[[[1.0], [0.0]]]]

    Selvaraju et al., "Grad-CAM", 2017. Differs from: Captum upsamples by the nearest value unless asked for
    interpolate_mode="bilinear". When it misleads: as `guided_backprop`, of which it is a masked copy.
    """
    return at_layers(_guided_grad_cam, model, x, target, layer, relu=bool(relu))


def cam(model: Any, x: Array, target: Target = None, *, layer: Layers = None) -> Map:
    """Where the logit comes from, exactly, in a network that ends in a global average pool and a dense layer.

    M = Σᵤ wᵤ aᵤ, w the target's row of the dense layer; the mean of M over space, plus the target's bias, is the
    logit. Where the last convolution gives the classes and is pooled (SqueezeNet), M is the class's own channel.

    Args:
        model: any callable `x -> outputs`, its outputs an affine function of the mean over space of a layer.
        x: images (n, h, w, c), float, as the model takes them.
        target: a class for all images or one for each, None for the predicted class, or a callable outputs -> (n,)
            that is linear, such as `contrast`.
        layer: a name that `layers` lists; None for the last layer whose mean over space the outputs are made of.

    Returns:
        Raw maps (n, h, w), h and w the layer's own; for a list of layers a dict of them by name. Signed, in units of
        the score.

    Raises:
        TypeError: images, target or layer of a wrong kind.
        ValueError: what `saliency` raises; a model without this structure, or a target that is not linear: the
            operation in the way is named.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> net = lambda x: jax.lax.conv(x.transpose(0, 3, 1, 2), jnp.ones((1, 1, 1, 1)), (1, 1), "SAME").mean((2, 3))
        >>> cam(net, jnp.array([[[[1.0], [-2.0]]]])).tolist()
        [[[1.0, -2.0]]]

    Zhou et al., "Learning Deep Features for Discriminative Localization", 2016.
    """
    return at_layers(_cam, model, x, target, layer)


def _grad_cam(question: Question, x: Array, *, layer: Any, relu: bool) -> dict[str, Array]:
    return place_by_place(lambda a, g: weighted(a, jnp.mean(g, (1, 2))), question, x, layer, relu)


def _hires_cam(question: Question, x: Array, *, layer: Any, relu: bool) -> dict[str, Array]:
    return place_by_place(lambda a, g: jnp.sum(g * a, -1), question, x, layer, relu)


def _layer_cam(question: Question, x: Array, *, layer: Any, relu: bool) -> dict[str, Array]:
    return place_by_place(lambda a, g: jnp.sum(jnp.maximum(g, 0) * a, -1), question, x, layer, relu)


def _guided_grad_cam(question: Question, x: Array, *, layer: Any, relu: bool) -> dict[str, Array]:
    maps = _grad_cam(question, x, layer=layer, relu=relu)
    detail = question.of(guided(question.model)).gradient(x)
    return {name: detail * upsample(found, (x.shape[1], x.shape[2]))[..., None] for name, found in maps.items()}


def _cam(question: Question, x: Array, *, layer: Any) -> dict[str, Array]:
    names = pooled_layers(question, x, layer)
    activations, gradients = activations_and_gradients(question, x, names)
    # Behind a mean over h·w places the gradient is w / (h·w) at each of them.
    return {name: weighted(activations[name], jnp.sum(gradients[name], (1, 2))) for name in names}
