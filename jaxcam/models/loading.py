"""`load`: networks from names and files."""

import dataclasses
import os
import warnings
from pathlib import Path
from typing import Any

from jaxcam.models import hub, sources
from jaxcam.models.config import IMAGENET_CLASSES, LARGEST_SEED, SMALL, Config, Normalization, whole_number
from jaxcam.models.conversion import entries
from jaxcam.models.fitting import converted, is_ours
from jaxcam.models.registry import CLASSES, Network, blueprint, build, check_name
from jaxcam.models.state import filled


class SmallFormWarning(UserWarning):
    """Weights for large photographs were put into a network's form for small images."""


def load(
    name_or_path: str | os.PathLike[str],
    weights: str | os.PathLike[str] | None = None,
    *,
    classes: int | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    seed: int = 0,
    normalize: Normalization = "auto",
    convolutions: int | None = None,
) -> Network:
    """A network by name, with random weights or those of a file; or a whole network from a checkpoint.

    `model(x)` maps images (n, h, w, c), floating point in [0, 1], to logits (n, k). The model is an NNX module in
    evaluation mode: `model.train()` turns dropout and batch statistics on. `model.config` says what was built. Options
    left out take the checkpoint's values, where one is read, and else the values given here.

    Args:
        name_or_path: "alexnet", "vgg11", "squeezenet1_1" or "resnet50"; or a checkpoint that `save` wrote, which knows
            its own network.
        weights: None for random weights; a .safetensors file (torchvision's names, or a checkpoint of ours); a .pth
            file with a state dict, where torch is installed; or `owner/repo` or `owner/repo/file.safetensors` on the
            Hugging Face hub.
        classes: k, 1000.
        image_size: h and w in pixels, 224. Up to 64 a network takes its small-input form.
        channels: c, 3.
        seed: of random weights and of dropout, 0 to 2³² − 1; the same seed gives the same network.
        normalize: what the network does to x first: "auto" is "imagenet" for weights of torchvision's for 1000 classes
            of color images, what the checkpoint says for a checkpoint, and else nothing; None or "none" for nothing;
            "imagenet"; or (mean, std) with one number a channel.
        convolutions: keep only the first so many convolutions of alexnet or vgg11, and the pool that follows.

    Returns:
        The network.

    Raises:
        ValueError: an unknown name, an impossible option, options that contradict the checkpoint, a damaged file, or
            weights that do not fit, with all that does not fit in one line.
        FileNotFoundError: no such file, no such repository, or no network to fetch it through.
        ModuleNotFoundError: a .pth file without torch.

    Example:
        >>> import numpy as np
        >>> model = load("vgg11", classes=10, image_size=32, convolutions=2)
        >>> model(np.zeros((1, 32, 32, 3), np.float32)).shape
        (1, 10)
    """
    seed = whole_number("seed", seed, 0, LARGEST_SEED)
    given = {
        "classes": classes,
        "image_size": image_size,
        "channels": channels,
        "convolutions": convolutions,
    }
    options: dict[str, Any] = {option: value for option, value in given.items() if value is not None}
    automatic = isinstance(normalize, str) and normalize == "auto"
    if not automatic:
        options["normalize"] = None if isinstance(normalize, str) and normalize == "none" else normalize
    name = os.fspath(name_or_path)
    if name not in CLASSES:
        if not is_path(name):
            check_name(name)
        if weights is not None:
            raise ValueError(f"{name} is a checkpoint and has its own weights; give either it or weights={weights}")
        weights, name = name, ""
    if weights is None:
        return build(Config(name, **options), seed)
    path = sources.locate(weights)
    tensors = sources.read(path)
    config = agreed(name, options, tensors.metadata, path)
    if automatic and expects_imagenet(config, tensors):
        config = dataclasses.replace(config, normalize="imagenet")
    network = blueprint(config, seed)
    arrays = converted(tensors.arrays, config, entries(config, network), str(path))
    if config.small and expects_imagenet(config, tensors):
        warnings.warn(
            f"{path} was trained on ImageNet's photographs; for images of "
            f"{config.image_size}×{config.image_size} {config.name} takes its small-input form (up "
            f"to {SMALL} pixels), with other strides, where the answers of these weights mean "
            f"nothing before a training: give image_size={SMALL + 1} or more",
            SmallFormWarning,
            stacklevel=2,
        )
    return filled(network, arrays)


def expects_imagenet(config: Config, tensors: sources.Tensors) -> bool:
    """Whether weights were trained on normalized photographs, as all of torchvision's for ImageNet's classes were.

    Args:
        config: the network they are for.
        tensors: the file; a checkpoint of ours says itself how it normalizes.

    Returns:
        True for torchvision's names, 1000 classes and color images.

    Example:
        >>> import numpy as np
        >>> arrays = {"classifier.1.weight": np.zeros((1000, 512, 1, 1))}
        >>> expects_imagenet(Config("squeezenet1_1"), sources.Tensors(arrays, {}))
        True
    """
    theirs = "config" not in tensors.metadata and not is_ours(tensors.arrays)
    return theirs and (config.classes, config.channels) == (IMAGENET_CLASSES, 3)


def is_path(name: str) -> bool:
    """Whether a user means a file, not the name of a network.

    Example:
        >>> is_path("runs/model.safetensors"), is_path("resnet")
        (True, False)
    """
    return Path(name).suffix in sources.SUFFIXES or os.sep in name or Path(name).is_file() or hub.is_hub_name(name)


def agreed(name: str, options: dict[str, Any], metadata: dict[str, Any], path: Path) -> Config:
    """The configuration that the user's options and the file's metadata agree on.

    Args:
        name: of the network; "" takes the file's.
        options: what the user gave.
        metadata: what the file says of itself, {} if nothing.
        path: the file, for messages.

    Returns:
        The configuration.

    Raises:
        ValueError: they contradict each other, or nobody says which network it is.
    """
    stored = metadata.get("config")
    if stored is None:
        if not name:
            raise ValueError(
                f"{path} does not say which network it is for; give the name and the file: "
                f"load('vgg11', '{path.name}', classes=…, image_size=…)"
            )
        return Config(name, **options)
    try:
        config = Config.from_dict(stored)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} was saved with a configuration that cannot be: {error}") from None
    if name not in ("", config.name):
        raise ValueError(
            f"{path} was saved from {config.name}, not {name}; load it without a name, or as {config.name}"
        )
    asked = dataclasses.replace(config, **options)
    differing = [
        f"{option}={getattr(config, option)!r}, not {getattr(asked, option)!r}"
        for option in options
        if getattr(asked, option) != getattr(config, option)
    ]
    if differing:
        raise ValueError(f"{path} was saved with {'; '.join(differing)}; leave that out, or train another network")
    return config
