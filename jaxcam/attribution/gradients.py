"""Methods that are one backward pass: the gradient, and the gradient under another rule at the rectifiers."""

from __future__ import annotations

from typing import Any

from jaxtyping import Array, Float

from jaxcam.attribution.asking import Question, ask
from jaxcam.attribution.targets import Target
from jaxcam.program.transform import check_rectifies, deconv, guided


def saliency(model: Any, x: Array, target: Target = None) -> Float[Array, "n h w c"]:
    """How the score changes with each number of the image: the plain gradient, with its sign.

    M(x) = ∂s(x)/∂x, with s the target's score.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float, as the model takes them.
        target: a class for all images or one for each, None for the predicted class, or a callable outputs -> (n,).

    Returns:
        Raw maps (n, h, w, c), signed, in units of score per unit of x.

    Raises:
        TypeError: images or target of a wrong kind.
        ValueError: images of a wrong shape or with NaN, a target out of range, a model whose images mix.

    Example:
        >>> import jax.numpy as jnp
        >>> net = lambda x: x.sum((1, 2)) @ jnp.array([[1.0, -2.0]])
        >>> saliency(net, jnp.ones((1, 1, 2, 1)), target=1)[0, 0, :, 0].tolist()
        [-2.0, -2.0]

    Simonyan et al., "Deep Inside Convolutional Networks", 2014. Differs from: the paper's maximum of absolute values
    over the channels is left to the display edge (`jaxcam.viewing`).
    """
    return ask(_gradient, model, x, target)


def input_x_gradient(model: Any, x: Array, target: Target = None) -> Float[Array, "n h w c"]:
    """What each number of the image contributes, were the model linear: input times gradient.

    M(x) = x · ∂s(x)/∂x. On a network of ReLUs and max pools without biases it sums to the score.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float, as the model takes them.
        target: a class for all images or one for each, None for the predicted class, or a callable outputs -> (n,).

    Returns:
        Raw maps (n, h, w, c), signed, in units of the score.

    Raises:
        TypeError: images or target of a wrong kind.
        ValueError: images of a wrong shape or with NaN, a target out of range, a model whose images mix.

    Example:
        >>> import jax.numpy as jnp
        >>> net = lambda x: x.sum((1, 2)) @ jnp.array([[1.0, -2.0]])
        >>> input_x_gradient(net, 3 * jnp.ones((1, 1, 2, 1)), target=1)[0, 0, :, 0].tolist()
        [-6.0, -6.0]

    Shrikumar et al., "Not Just a Black Box", 2016.
    """
    return ask(_input_x_gradient, model, x, target)


def guided_backprop(model: Any, x: Array, target: Target = None) -> Float[Array, "n h w c"]:
    """The gradient that lets only positive evidence back through each ReLU.

    M(x) = ∂s/∂x, where at every ReLU y = max(z, 0) the gradient R becomes max(R, 0) · [z > 0].

    Args:
        model: any callable `x -> outputs`, of linear operations, rectifiers and max pooling.
        x: images (n, h, w, c), float, as the model takes them.
        target: a class for all images or one for each, None for the predicted class, or a callable outputs -> (n,).

    Returns:
        Raw maps (n, h, w, c), signed, in units of score per unit of x.

    Raises:
        TypeError: images or target of a wrong kind.
        ValueError: what `saliency` raises; an operation the rule says nothing about; a model without any rectifier.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> net = lambda x: -jax.nn.relu(x).sum((1, 2))
        >>> guided_backprop(net, jnp.ones((1, 1, 1, 1)), target=0).tolist()
        [[[[0.0]]]]

    Springenberg et al., "Striving for Simplicity: The All Convolutional Net", 2015. When it misleads: it hardly
    changes when the weights are randomized (Adebayo et al. 2018; `jc.quality.randomization_check`), so it shows the
    image's edges more than the network's reasons.
    """
    return ask(_guided_backprop, model, x, target)


def deconvnet(model: Any, x: Array, target: Target = None) -> Float[Array, "n h w c"]:
    """The gradient whose ReLUs treat the backward pass as the forward one.

    M(x) = ∂s/∂x, where at every ReLU the gradient R becomes max(R, 0), whatever its input was.

    Args:
        model: any callable `x -> outputs`, of linear operations, rectifiers and max pooling.
        x: images (n, h, w, c), float, as the model takes them.
        target: a class for all images or one for each, None for the predicted class, or a callable outputs -> (n,).

    Returns:
        Raw maps (n, h, w, c), signed, in units of score per unit of x.

    Raises:
        TypeError: images or target of a wrong kind.
        ValueError: what `saliency` raises; an operation the rule says nothing about; a model without any rectifier.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> net = lambda x: jax.nn.relu(x).sum((1, 2))
        >>> deconvnet(net, -jnp.ones((1, 1, 1, 1)), target=0).tolist()
        [[[[1.0]]]]

    Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014. Differs from: the paper starts
    from a unit's activation; this starts from one, as Captum does.
    """
    return ask(_deconvnet, model, x, target)


def _gradient(question: Question, x: Array) -> Array:
    return question.gradient(x)


def _guided_backprop(question: Question, x: Array) -> Array:
    check_rectifies(question.model, x, "guided_backprop")
    return question.of(guided(question.model)).gradient(x)


def _deconvnet(question: Question, x: Array) -> Array:
    check_rectifies(question.model, x, "deconvnet")
    return question.of(deconv(question.model)).gradient(x)


def _input_x_gradient(question: Question, x: Array) -> Array:
    return x * question.gradient(x)
