"""From a configuration to a network."""

import difflib
from collections.abc import Callable

import numpy as np
from flax import nnx
from jaxtyping import Float

from jaxcam.models.alexnet import AlexNet
from jaxcam.models.chain import ChainNetwork
from jaxcam.models.config import CONVOLUTIONS, Config
from jaxcam.models.resnet import ResNet50
from jaxcam.models.squeezenet import SqueezeNet
from jaxcam.models.state import filled, weights_of
from jaxcam.models.vgg import VGG11

Network = ChainNetwork | SqueezeNet | ResNet50

CLASSES: dict[str, Callable[..., Network]] = {
    "alexnet": AlexNet,
    "vgg11": VGG11,
    "squeezenet1_1": SqueezeNet,
    "resnet50": ResNet50,
}

LAST = {"squeezenet1_1": "classifier.conv", "resnet50": "fc"}
"""The last layer of each network that is no chain."""


def names() -> tuple[str, ...]:
    """The names that `load` knows.

    Returns:
        The networks, the fewest convolutions first.

    Example:
        >>> names()
        ('alexnet', 'vgg11', 'squeezenet1_1', 'resnet50')
    """
    return tuple(CONVOLUTIONS)


def check_name(name: str) -> None:
    """Raises where no model has this name.

    Raises:
        ValueError: with the closest name.

    Example:
        >>> check_name("resnet5")
        Traceback (most recent call last):
        ValueError: no model 'resnet5'; did you mean 'resnet50'? jaxcam layers lists alexnet, ...
    """
    if name not in CLASSES:
        close = difflib.get_close_matches(name.lower(), names(), n=1)
        meant = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"no model {name!r}; {meant}jaxcam layers lists {', '.join(names())}")


def blueprint(config: Config, seed: int = 0) -> Network:
    """A network whose weights are only shapes, to be filled.

    Args:
        config: which network, for which images.
        seed: of dropout.

    Returns:
        The network with `jax.ShapeDtypeStruct`s for weights, in evaluation mode.

    Example:
        >>> blueprint(Config("vgg11")).classifier.dense0.kernel.shape
        (25088, 4096)
    """
    network: Network = nnx.eval_shape(lambda: CLASSES[config.name](config, rngs=nnx.Rngs(params=0, dropout=0)))
    network.eval()
    nnx.reseed(network, dropout=seed)
    return network


def build(config: Config, seed: int = 0) -> Network:
    """A network with random weights, in evaluation mode.

    Args:
        config: which network, for which images.
        seed: of the weights and of dropout.

    Returns:
        The network.

    Example:
        >>> network = build(Config("vgg11", classes=10, image_size=32, convolutions=1), seed=3)
        >>> network(np.zeros((2, 32, 32, 3), np.float32)).shape
        (2, 10)
    """
    network = blueprint(config, seed)
    if isinstance(network, ChainNetwork):
        last = f"classifier.dense{len(network.classifier.head.hidden)}"
    else:
        last = LAST[config.name]
    arrays = {
        path: first_weights(path, tuple(array.shape), seed, fan_out=config.name == "resnet50", last=last)
        for path, array in weights_of(network).items()
    }
    return filled(network, arrays)


def first_weights(
    path: str, shape: tuple[int, ...], seed: int, *, fan_out: bool = False, last: str = ""
) -> Float[np.ndarray, "..."]:
    """The weights that one layer starts training with.

    Kernels are normal with variance 2 / fan, which keeps the size of what a ReLU lets through (He et al. 2015); the
    last layer, which no ReLU follows, 1 / fan. Biases and means are 0, scales and variances 1. Each array has its own
    random stream, named by seed and path: a cut network starts with the same first layers as the whole one.

    NumPy draws them: XLA compiles a random generator for every shape, 5 s where NumPy needs 0.1 s.

    Args:
        path: the array's name.
        shape: its shape, inputs before outputs.
        seed: 0 or more.
        fan_out: the fan counts outputs in place of inputs, as torchvision's ResNet has it for convolutions.
        last: the name of the last layer.

    Returns:
        float32 of that shape.

    Paper: He, Zhang, Ren & Sun, "Delving deep into rectifiers", ICCV 2015.

    Example:
        >>> kernel = first_weights("features.conv3.kernel", (3, 3, 200, 100), seed=0)
        >>> round(float(kernel.var()) * 9 * 200, 1)
        2.0
    """
    module, _, parameter = path.rpartition(".")
    if parameter != "kernel":
        return np.full(shape, parameter in ("scale", "var"), np.float32)
    positions = int(np.prod(shape[:-2]))
    fan = positions * (shape[-1] if fan_out and module != last else shape[-2])
    deviation = ((1 if module == last else 2) / fan) ** 0.5
    generator = np.random.default_rng([seed, *path.encode()])
    return generator.standard_normal(shape, np.float32) * np.float32(deviation)
