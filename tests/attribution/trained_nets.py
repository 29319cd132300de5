"""Trained networks, written the ways a user would write them, and pictures to explain.

SqueezeNet 1.1 (ImageNet) and the CIFAR-10 ResNets, in Flax NNX, in Flax Linen and as plain functions of a dict of
arrays; the weights are one file in PyTorch's names and layout. Nothing here imports jaxcam: these are models that know
nothing of explanations. Where the data are missing, `data()` skips the test that asks.
"""

import functools
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from flax import linen, nnx
from jax.tree_util import Partial
from safetensors.numpy import load_file

DATA = Path(os.environ.get("JAXCAM_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
FIRES = (3, 4, 6, 7, 9, 10, 11, 12)  # positions in torchvision's `features`; a max-pool stands before 3, 6 and 9
POOLED = (3, 6, 9)
STAGES = ((1, 16), (2, 32), (3, 64))


def data(*parts: str) -> Path:
    """A file or folder of the real data; skips the test where it is missing."""
    path = DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"no {'/'.join(parts)} in the data folder (JAXCAM_TEST_DATA)")
    return path


# The weights: a kernel (o, i, h, w) becomes (h, w, i, o), a matrix (o, i) becomes (i, o).


def _kernel(array):
    return jnp.asarray(array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T)


@functools.cache
def squeezenet_weights():
    return load_file(data("squeezenet", "squeezenet1_1.safetensors"))


@functools.cache
def resnet_weights(depth):
    return load_file(data("cifar10_resnet", f"resnet{depth}.safetensors"))


# SqueezeNet 1.1 as a plain function of a dict of arrays.


def convolve(x, p, stride=1, padding=0):
    pads = [(padding, padding)] * 2
    z = jax.lax.conv_general_dilated(x, p["kernel"], (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return z + p["bias"] if "bias" in p else z


def ceil_pool(x):
    """A 3×3 max-pool of stride 2 whose last window may reach over the edge (torch's ceil_mode)."""
    pads = ((0, 0), *((0, (size - 3) % 2) for size in x.shape[1:3]), (0, 0))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), pads)


def squeezenet_apply(p, x):
    x = jnp.maximum(convolve(x, p["features.0"], stride=2), 0)
    for i in FIRES:
        x = ceil_pool(x) if i in POOLED else x
        y = jnp.maximum(convolve(x, p[f"features.{i}.squeeze"]), 0)
        left = jnp.maximum(convolve(y, p[f"features.{i}.expand1x1"]), 0)
        right = jnp.maximum(convolve(y, p[f"features.{i}.expand3x3"], padding=1), 0)
        x = jnp.concatenate([left, right], -1)
    return jnp.maximum(convolve(x, p["classifier.1"]), 0).mean((1, 2))


@functools.cache
def squeezenet_plain():
    weights = squeezenet_weights()
    names = {name.rpartition(".")[0] for name in weights}
    p = {n: {"kernel": _kernel(weights[f"{n}.weight"]), "bias": jnp.asarray(weights[f"{n}.bias"])} for n in names}
    return Partial(squeezenet_apply, p)


# SqueezeNet 1.1 in Flax Linen.


class Fire(linen.Module):
    squeeze: int
    expand: int

    @linen.compact
    def __call__(self, x):
        y = linen.relu(linen.Conv(self.squeeze, (1, 1), name="squeeze")(x))
        one = linen.relu(linen.Conv(self.expand, (1, 1), name="expand1x1")(y))
        three = linen.relu(linen.Conv(self.expand, (3, 3), name="expand3x3")(y))
        return jnp.concatenate([one, three], -1)


class SqueezeNet(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.relu(linen.Conv(64, (3, 3), strides=2, padding="VALID", name="features_0")(x))
        for i, width in zip(FIRES, (16, 16, 32, 32, 48, 48, 64, 64), strict=True):
            if i in POOLED:
                rest = [(0, (size - 3) % 2) for size in x.shape[1:3]]
                x = linen.max_pool(x, (3, 3), (2, 2), padding=rest)
            x = Fire(width, 4 * width, name=f"features_{i}")(x)
        x = linen.Dropout(0.5, deterministic=True)(x)
        return linen.relu(linen.Conv(1000, (1, 1), name="classifier_1")(x)).mean((1, 2))


@functools.cache
def squeezenet_linen():
    params = {}
    for name, array in squeezenet_weights().items():
        *path, last = name.split(".")
        place = params.setdefault("_".join(path[:2]), {})
        for key in path[2:]:
            place = place.setdefault(key, {})
        place["kernel" if last == "weight" else last] = _kernel(array) if array.ndim > 1 else jnp.asarray(array)
    return Partial(SqueezeNet().apply, {"params": params})


# The CIFAR-10 ResNets in Flax NNX.


class Block(nnx.Module):
    def __init__(self, inputs, outputs, rngs):
        self.stride = 1 if inputs == outputs else 2
        pads = ((1, 1), (1, 1))
        self.conv1 = nnx.Conv(inputs, outputs, (3, 3), self.stride, padding=pads, use_bias=False, rngs=rngs)
        self.bn1 = nnx.BatchNorm(outputs, rngs=rngs)
        self.conv2 = nnx.Conv(outputs, outputs, (3, 3), padding=pads, use_bias=False, rngs=rngs)
        self.bn2 = nnx.BatchNorm(outputs, rngs=rngs)

    def __call__(self, x):
        y = nnx.relu(self.bn1(self.conv1(x)))
        return nnx.relu(self.bn2(self.conv2(y)) + shortcut(x, y))


def shortcut(x, y):
    """Every second pixel, and as many channels of zeros on both sides as are needed."""
    if x.shape == y.shape:
        return x
    more = (y.shape[-1] - x.shape[-1]) // 2
    return jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (more, more)))


class ResNet(nnx.Module):
    def __init__(self, depth, rngs):
        self.conv1 = nnx.Conv(3, 16, (3, 3), padding=((1, 1), (1, 1)), use_bias=False, rngs=rngs)
        self.bn1 = nnx.BatchNorm(16, rngs=rngs)
        inputs = 16
        for stage, outputs in STAGES:
            sizes = [inputs, *[outputs] * ((depth - 2) // 6 - 1)]
            setattr(self, f"layer{stage}", nnx.List([Block(size, outputs, rngs) for size in sizes]))
            inputs = outputs
        self.linear = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.bn1(self.conv1(x)))
        for stage, _ in STAGES:
            for block in getattr(self, f"layer{stage}"):
                x = block(x)
        return self.linear(x.mean((1, 2)))


@functools.cache
def resnet_nnx(depth=20):
    weights = resnet_weights(depth)
    model = ResNet(depth, nnx.Rngs(0))
    model.eval()
    names = {"weight": "scale", "running_mean": "mean", "running_var": "var"}
    for name, array in weights.items():
        *path, last = name.split(".")
        place = model
        for key in path:
            place = place[int(key)] if key.isdigit() else getattr(place, key)
        attribute = "kernel" if array.ndim > 1 else names.get(last, last)
        getattr(place, attribute)[...] = _kernel(array) if array.ndim > 1 else jnp.asarray(array)
    return model


# The same in Flax Linen.


class LinenBlock(linen.Module):
    outputs: int

    @linen.compact
    def __call__(self, x):
        stride = 1 if x.shape[-1] == self.outputs else 2
        options = {"use_bias": False, "padding": ((1, 1), (1, 1))}
        norm = functools.partial(linen.BatchNorm, use_running_average=True)
        y = linen.Conv(self.outputs, (3, 3), stride, name="conv1", **options)(x)
        y = linen.relu(norm(name="bn1")(y))
        y = norm(name="bn2")(linen.Conv(self.outputs, (3, 3), name="conv2", **options)(y))
        return linen.relu(y + shortcut(x, y))


class LinenResNet(linen.Module):
    blocks: int

    @linen.compact
    def __call__(self, x):
        x = linen.Conv(16, (3, 3), padding=((1, 1), (1, 1)), use_bias=False, name="conv1")(x)
        x = linen.relu(linen.BatchNorm(use_running_average=True, name="bn1")(x))
        for stage, outputs in STAGES:
            for i in range(self.blocks):
                x = LinenBlock(outputs, name=f"layer{stage}_{i}")(x)
        return linen.Dense(10, name="linear")(x.mean((1, 2)))


@functools.cache
def resnet_linen(depth=20):
    collections = {"params": {}, "batch_stats": {}}
    names = {"running_mean": "mean", "running_var": "var"}
    for name, array in resnet_weights(depth).items():
        *path, last = name.split(".")
        path = [f"{path[0]}_{path[1]}", *path[2:]] if len(path) > 2 else path
        place = collections["batch_stats" if last in names else "params"]
        for key in path:
            place = place.setdefault(key, {})
        if array.ndim > 1:
            place["kernel"] = _kernel(array)
        else:
            place[names.get(last, "scale" if last == "weight" else last)] = jnp.asarray(array)
    return Partial(LinenResNet((depth - 2) // 6).apply, collections)


# The same as a plain function of a dict of arrays.


def normalize(x, p):
    return (x - p["running_mean"]) / jnp.sqrt(p["running_var"] + 1e-5) * p["weight"] + p["bias"]


def resnet_apply(p, x):
    x = jax.nn.relu(normalize(convolve(x, p["conv1"], padding=1), p["bn1"]))
    blocks = sorted({name.rpartition(".")[0] for name in p if name.startswith("layer")}, key=_position)
    for block in blocks:
        stride = 1 if p[f"{block}.conv1"]["kernel"].shape[2] == p[f"{block}.conv1"]["kernel"].shape[3] else 2
        y = jax.nn.relu(normalize(convolve(x, p[f"{block}.conv1"], stride, 1), p[f"{block}.bn1"]))
        x = jax.nn.relu(normalize(convolve(y, p[f"{block}.conv2"], padding=1), p[f"{block}.bn2"]) + shortcut(x, y))
    return x.mean((1, 2)) @ p["linear"]["kernel"] + p["linear"]["bias"]


def _position(block):
    stage, number = block.removeprefix("layer").split(".")
    return int(stage), int(number)


@functools.cache
def resnet_plain(depth=20):
    p = {}
    for name, array in resnet_weights(depth).items():
        module, _, last = name.rpartition(".")
        p.setdefault(module, {})["kernel" if array.ndim > 1 else last] = (
            _kernel(array) if array.ndim > 1 else jnp.asarray(array)
        )
    return Partial(resnet_apply, p)


RESNETS = {"nnx": resnet_nnx, "linen": resnet_linen, "plain": resnet_plain}
SQUEEZENETS = {"linen": squeezenet_linen, "plain": squeezenet_plain}


# Pictures.


@functools.cache
def cifar10():
    """The first 1,000 test images of CIFAR-10, normalized (1000, 32, 32, 3), and their labels."""
    mosaic = np.asarray(PIL.Image.open(data("cifar10", "test_00.webp")).convert("RGB"))
    tiles = mosaic.reshape(25, 32, 40, 32, 3).transpose(0, 2, 1, 3, 4).reshape(-1, 32, 32, 3)
    return (tiles / np.float32(255) - MEAN) / STD, np.load(data("cifar10", "test_00_labels.npy"))


def photographs(*names, folder="sample100", size=224):
    """Photographs by the start of their names, as ImageNet networks take them (n, size, size, 3)."""
    files = [next(data("imagenet", folder).glob(f"{name}*")) for name in names]
    return jnp.stack([_photograph(file, size) for file in files])


def _photograph(file, size):
    picture = PIL.Image.open(file).convert("RGB")
    side = min(picture.size)
    left, top = ((length - side) // 2 for length in picture.size)
    picture = picture.crop((left, top, left + side, top + side)).resize((size, size), PIL.Image.Resampling.BILINEAR)
    return (np.asarray(picture, np.float32) / 255 - MEAN) / STD


@functools.cache
def imagenet_classes():
    """The class of each WordNet number."""
    lines = data("imagenet", "imagenet_classes.tsv").read_text("utf-8").splitlines()
    return {wnid: int(index) for index, wnid, *_ in (line.split("\t") for line in lines)}
