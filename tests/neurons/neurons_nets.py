"""Small networks of every kind the engine must handle, by name: `NETS["residual"]()` gives a `Net`."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx
from jax.tree_util import Partial

from jaxcam.program import layers, tag


@dataclasses.dataclass(frozen=True)
class Net:
    """A model, one image for it, and the layers whose units are asked."""

    model: Any
    x: jax.Array
    layers: tuple[str, ...]


def convolve(x, p, strides=(1, 1), padding="SAME", dilation=(1, 1), groups=1):
    z = jax.lax.conv_general_dilated(
        x,
        p["kernel"],
        strides,
        padding,
        rhs_dilation=dilation,
        feature_group_count=groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return z + p["bias"] if "bias" in p else z


def max_pool(x, size=2, strides=2, padding="VALID"):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, size, size, 1), (1, strides, strides, 1), padding)


def parameters(rng, inputs, outputs, size=3, bias=True, dtype=np.float32):
    """A convolution's kernel at He's scale, so that signals neither vanish nor explode, and its bias."""
    height, width = (size, size) if isinstance(size, int) else size
    kernel = rng.normal(size=(height, width, inputs, outputs)) * np.sqrt(2 / (height * width * inputs))
    p = {"kernel": kernel} | ({"bias": 0.2 * rng.normal(size=outputs)} if bias else {})
    return {name: jnp.asarray(values, dtype) for name, values in p.items()}


def dense_parameters(rng, inputs, outputs, dtype=np.float32):
    p = {"kernel": rng.normal(size=(inputs, outputs)) * np.sqrt(2 / inputs), "bias": 0.2 * rng.normal(size=outputs)}
    return {name: jnp.asarray(values, dtype) for name, values in p.items()}


def norm_parameters(rng, units, negative=False):
    scale = rng.uniform(0.5, 1.5, units) * np.where(np.arange(units) % 2 if negative else False, -1, 1)
    mean, variance, bias = 0.3 * rng.normal(size=units), rng.uniform(0.5, 2, units), 0.2 * rng.normal(size=units)
    named = {"scale": scale, "bias": bias, "mean": mean, "variance": variance}
    return {name: jnp.asarray(values, jnp.float32) for name, values in named.items()}


def normalize(x, p):
    return (x - p["mean"]) / jnp.sqrt(p["variance"] + 1e-5) * p["scale"] + p["bias"]


def images(shape, seed=1, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(seed).random((1, *shape)), dtype)


def net(function, p, shape=(8, 7, 2), names=None, x=None):
    """A `Net` of a function of (parameters, images); all its layers unless some are named."""
    model = Partial(function, p)
    x = images(shape) if x is None else x
    return Net(model, x, tuple(names or (layer.name for layer in layers(model, x))))


def chain(dtype=np.float32, units=(4, 5, 6), seed=0, names=("conv0", "conv1", "conv2")):
    """Convolution, ReLU, pooling, twice convolution and ReLU."""
    rng = np.random.default_rng(seed)
    p = {f"conv{i}": parameters(rng, a, b, dtype=dtype) for i, (a, b) in enumerate(itertools.pairwise([2, *units]))}
    return net(_chain, p, names=names, x=images((8, 7, 2), dtype=dtype))


def _chain(p, x):
    x = max_pool(jax.nn.relu(convolve(x, p["conv0"])))
    x = jax.nn.relu(convolve(x, p["conv1"]))
    return jax.nn.relu(convolve(x, p["conv2"])).mean((1, 2))


def classifier(shift=0.0):
    """Two convolutions, whose units die as their biases are shifted down, and a dense layer that gives 3 logits."""
    rng = np.random.default_rng(20)
    # More positive than negative weights: a logit that guided backpropagation sends nothing back from shows nothing.
    p = {"a": parameters(rng, 2, 4), "b": parameters(rng, 4, 6), "logits": rng.normal(0.5, size=(6, 3))}
    for name in ("a", "b"):
        p[name]["bias"] = np.asarray(p[name]["bias"]) + shift
    p = jax.tree.map(lambda values: jnp.asarray(values, jnp.float32), p)
    return net(pooled_classifier, p, names=("a", "b"))


def pooled_classifier(p, x):
    x = max_pool(jax.nn.relu(convolve(x, p["a"])))
    return jax.nn.relu(convolve(x, p["b"])).mean((1, 2)) @ p["logits"]


def laid_out(**options):
    """Three convolutions, the middle one laid over the image in an unusual way."""

    def make():
        rng = np.random.default_rng(2)
        p = {"a": parameters(rng, 2, 4), "b": parameters(rng, 4, 5, options.get("size", 3)), "c": parameters(rng, 5, 3)}
        rest = {key: value for key, value in options.items() if key != "size"}

        def function(p, x):
            x = jax.nn.relu(convolve(x, p["a"]))
            x = jax.nn.relu(convolve(x, p["b"], **rest))
            return jax.nn.relu(convolve(x, p["c"])).mean((1, 2))

        return net(function, p, (9, 8, 2), ("b", "c"))

    return make


def unusual_layouts():
    """One convolution after another, each laid over the image in another unusual way."""
    rng = np.random.default_rng(16)
    layouts = {
        "asymmetric": ((3, 2), {"padding": [(2, 0), (0, 3)], "strides": (2, 1)}),
        "dilated": ((3, 3), {"padding": [(4, 3), (3, 5)], "dilation": (2, 3)}),
        "valid": ((2, 4), {"padding": "VALID"}),
        "cropped": ((2, 2), {"padding": [(-1, 0), (1, -2)], "strides": (3, 3)}),
        "same": ((3, 3), {"padding": "SAME", "strides": (2, 1)}),
    }
    p = {name: parameters(rng, 4 if i else 2, 4, size) for i, (name, (size, _)) in enumerate(layouts.items())}

    def function(p, x):
        for name, (_, layout) in layouts.items():
            x = jax.nn.relu(convolve(x, p[name], **layout))
        return x.mean((1, 2))

    return net(function, p, (23, 13, 2), ("dilated", "cropped", "same"))


def overlapping_pools():
    rng = np.random.default_rng(3)
    p = {"a": parameters(rng, 2, 4, 5), "b": parameters(rng, 4, 5), "c": parameters(rng, 5, 4)}

    def function(p, x):
        x = max_pool(jax.nn.relu(convolve(x, p["a"], (2, 2), [(2, 2), (2, 2)])), 3, 2)
        x = max_pool(jax.nn.relu(convolve(x, p["b"])), 3, 2)
        return jax.nn.relu(convolve(x, p["c"])).mean((1, 2))

    return net(function, p, (19, 17, 2), ("b", "c"))


def padded_pools():
    """Pooling that overlaps and reaches over the edge, of values that tie: many are equal to zero."""
    rng = np.random.default_rng(4)
    p = {"a": parameters(rng, 2, 4), "b": parameters(rng, 4, 5)}
    p["a"]["bias"] -= 0.6

    def function(p, x):
        x = max_pool(jax.nn.relu(convolve(x, p["a"])), 3, 2, "SAME")
        x = max_pool(jax.nn.relu(convolve(x, p["b"])), 2, 1, [(0, 0), (1, 0), (0, 1), (0, 0)])
        return x.mean((1, 2))

    return net(function, p, names=("b", "pool_1"))


def negative_scales():
    """Batch norm with a negative scale under every second unit, after a convolution without bias."""
    rng = np.random.default_rng(5)
    p = {f"conv{i}": parameters(rng, 2 if i == 0 else 4, 4, bias=False) for i in range(3)}
    p |= {f"norm{i}": norm_parameters(rng, 4, negative=True) for i in range(3)}

    def function(p, x):
        for i in range(3):
            x = jax.nn.relu(normalize(convolve(x, p[f"conv{i}"]), p[f"norm{i}"]))
            x = max_pool(x) if i == 0 else x
        return x.mean((1, 2))

    return net(function, p, names=("conv1", "conv2"))


def rectified_by(rectifier, scale=1.0):
    def make():
        rng = np.random.default_rng(6)
        p = {"a": parameters(rng, 2, 4), "b": parameters(rng, 4, 5), "c": parameters(rng, 5, 3)}
        p["a"]["kernel"] *= scale

        def function(p, x):
            x = rectifier(convolve(x, p["a"]))
            x = max_pool(rectifier(convolve(x, p["b"])))
            return rectifier(convolve(x, p["c"])).mean((1, 2))

        return net(function, p, names=("b", "c"))

    return make


def no_bias():
    rng = np.random.default_rng(7)
    p = {"a": parameters(rng, 2, 4, bias=False), "b": parameters(rng, 4, 5, bias=False)}

    def function(p, x):
        x = jax.nn.relu(convolve(x, p["a"]))
        return convolve(max_pool(x), p["b"]).mean((1, 2))

    return net(function, p, names=("a", "b"))


def residual():
    """A block with batch norm and a skip past it, tagged; a convolution behind."""
    rng = np.random.default_rng(8)
    p = {"stem": parameters(rng, 2, 4), "one": parameters(rng, 4, 4, bias=False), "two": parameters(rng, 4, 4)}
    p |= {"norm": norm_parameters(rng, 4, negative=True), "last": parameters(rng, 4, 5)}

    def function(p, x):
        x = jax.nn.relu(convolve(x, p["stem"]))
        y = convolve(jax.nn.relu(normalize(convolve(x, p["one"]), p["norm"])), p["two"])
        x = tag(jax.nn.relu(x + y), "block")
        return jax.nn.relu(convolve(max_pool(x), p["last"])).mean((1, 2))

    return net(function, p, names=("two", "block", "last"))


def normalized():
    """The model's first operation is the normalization of its images."""
    rng = np.random.default_rng(9)
    p = {"a": parameters(rng, 3, 4), "b": parameters(rng, 4, 5)}

    def function(p, x):
        x = (x - jnp.array([0.485, 0.456, 0.406])) / jnp.array([0.229, 0.224, 0.225])
        x = tag(jax.nn.relu(convolve(x, p["a"])), "first")
        return jax.nn.relu(convolve(max_pool(x), p["b"])).mean((1, 2))

    return net(function, p, (8, 8, 3), ("first", "b"))


def with_dense():
    rng = np.random.default_rng(10)
    p = {"conv": parameters(rng, 2, 4), "hidden": dense_parameters(rng, 4 * 4 * 3, 6)}
    p["logits"] = dense_parameters(rng, 6, 3)

    def function(p, x):
        x = max_pool(jax.nn.relu(convolve(x, p["conv"]))).reshape(len(x), -1)
        x = jax.nn.relu(x @ p["hidden"]["kernel"] + p["hidden"]["bias"])
        return x @ p["logits"]["kernel"] + p["logits"]["bias"]

    return net(function, p, names=("pool_0", "hidden"))


def grouped():
    """A depthwise convolution, whose units have no kernel slice of all inputs, then a pointwise one."""
    rng = np.random.default_rng(11)
    p = {"a": parameters(rng, 2, 4), "depth": parameters(rng, 1, 4), "point": parameters(rng, 4, 5, 1)}

    def function(p, x):
        x = jax.nn.relu(convolve(x, p["a"]))
        x = jax.nn.relu(convolve(x, p["depth"], groups=4))
        return jax.nn.relu(convolve(x, p["point"])).mean((1, 2))

    return net(function, p, names=("depth", "point"))


def branches():
    """One rectified value read as it is, pooled, and pooled otherwise; and one convolution normalized twice."""
    rng = np.random.default_rng(12)
    p = {"stem": parameters(rng, 2, 4)} | {name: parameters(rng, 4, 3) for name in ("whole", "halved", "thirds")}
    p |= {"twice": parameters(rng, 3, 4), "one": norm_parameters(rng, 4), "other": norm_parameters(rng, 4, True)}
    p |= {name: parameters(rng, 4, 3) for name in ("after_one", "after_other")}

    def function(p, x):
        x = jax.nn.relu(convolve(x, p["stem"]))
        whole = jax.nn.relu(convolve(x, p["whole"]))
        halved = jax.nn.relu(convolve(max_pool(x), p["halved"]))
        thirds = jax.nn.relu(convolve(max_pool(x, 3, 3), p["thirds"]))
        z = convolve(whole, p["twice"])
        one = jax.nn.relu(convolve(jax.nn.relu(normalize(z, p["one"])), p["after_one"]))
        other = jax.nn.relu(convolve(jax.nn.relu(normalize(z, p["other"])), p["after_other"]))
        return sum(value.mean((1, 2)) for value in (whole, halved, thirds, one, other))

    return net(function, p, names=("whole", "halved", "after_one", "after_other"))


def reused():
    """The same convolution and the same ReLU twice."""
    rng = np.random.default_rng(13)
    p = {"a": parameters(rng, 2, 4), "again": parameters(rng, 4, 4)}

    def function(p, x):
        x = jax.nn.relu(convolve(x, p["a"]))
        for _ in range(2):
            x = jax.nn.relu(convolve(x, p["again"]))
        return x.mean((1, 2))

    return net(function, p, names=("again", "again@2"))


def single_pixel():
    """Pooled down to one pixel before the last two convolutions."""
    rng = np.random.default_rng(14)
    p = {"a": parameters(rng, 2, 4), "b": parameters(rng, 4, 5), "c": parameters(rng, 5, 3)}

    def function(p, x):
        x = max_pool(jax.nn.relu(convolve(x, p["a"])), 4, 4)
        x = jax.nn.relu(convolve(x, p["b"]))
        return jax.nn.relu(convolve(x, p["c"]))[:, 0, 0]

    return net(function, p, (4, 4, 2), ("b", "c"))


def closure():
    rng = np.random.default_rng(15)
    a, b = parameters(rng, 2, 4), parameters(rng, 4, 5)

    def model(x):
        x = max_pool(jax.nn.relu(convolve(x, a)))
        return jnp.maximum(convolve(x, b), 0).mean((1, 2))

    return Net(model, images((8, 7, 2)), ("conv_0", "conv_1"))


def drawn(key, shape, dtype=jnp.float32):
    """An initializer that compiles nothing: He's scale, numbers by shape."""
    return jnp.asarray(np.random.default_rng(shape).normal(size=shape) * np.sqrt(2 / np.prod(shape[:-1])), dtype)


class _Flax(nnx.Module):
    def __init__(self):
        rngs, p = nnx.Rngs(0), norm_parameters(np.random.default_rng(17), 4, negative=True)
        self.conv = nnx.Conv(2, 4, (3, 3), use_bias=False, kernel_init=drawn, rngs=rngs)
        self.norm = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)
        self.norm.mean.set_value(p["mean"])
        self.norm.scale.set_value(p["scale"])
        self.features = nnx.List([nnx.Conv(4, 5, (3, 3), padding="VALID", kernel_init=drawn, rngs=rngs)])
        self.dropout = nnx.Dropout(0.5, deterministic=True)
        self.head = nnx.Linear(5, 3, kernel_init=drawn, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.norm(self.conv(x))), (2, 2), (2, 2))
        x = nnx.relu(self.features[0](x)).mean((1, 2))
        return self.head(self.dropout(x))


def flax_nnx():
    return Net(_Flax(), images((8, 8, 2)), ("features.0", "head"))


class _Linen(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.relu(linen.Conv(4, (3, 3), kernel_init=drawn, name="first")(x))
        x = linen.max_pool(x, (2, 2), (2, 2))
        x = linen.relu(linen.Conv(5, (3, 3), kernel_init=drawn, name="second")(x))
        return linen.Dense(3, kernel_init=drawn, name="head")(x.mean((1, 2)))


def flax_linen():
    module, x = _Linen(), images((8, 8, 2))
    return Net(Partial(module.apply, module.init(jax.random.key(0), x)), x, ("second",))


def equinox_nchw():
    """Channels first and one image at a time inside; images (n, h, w, c) outside."""
    import equinox as eqx

    class Model(eqx.Module):
        first: eqx.nn.Conv2d
        second: eqx.nn.Conv2d
        pool: eqx.nn.MaxPool2d

        def __init__(self):
            self.first = eqx.nn.Conv2d(2, 4, 3, padding=1, key=jax.random.key(0))
            self.second = eqx.nn.Conv2d(4, 5, 3, stride=2, padding=1, key=jax.random.key(0))
            self.pool = eqx.nn.MaxPool2d(2, 2)

        def __call__(self, x):
            def one(image):
                image = self.pool(jax.nn.relu(self.first(jnp.moveaxis(image, -1, 0))))
                return jax.nn.relu(self.second(image)).mean((1, 2))

            return jax.vmap(one)(x)

    rng = np.random.default_rng(18)
    shapes = eqx.filter_eval_shape(Model)

    def draw(leaf):
        shaped = isinstance(leaf, jax.ShapeDtypeStruct)
        return jnp.asarray(0.3 * rng.normal(size=leaf.shape), leaf.dtype) if shaped else leaf

    model = jax.tree.map(draw, shapes)
    return Net(model, images((8, 8, 2)), ("first", "second"))


NETS = {
    "chain": chain,
    "unusual layouts": unusual_layouts,
    "strided": laid_out(strides=(2, 3)),
    "dilated": laid_out(dilation=(2, 3)),
    "valid": laid_out(padding="VALID", size=(2, 4)),
    "asymmetric padding": laid_out(padding=[(2, 0), (0, 3)], strides=(2, 1), size=(3, 2)),
    "wide padding": laid_out(padding=[(4, 3), (3, 5)], dilation=(1, 2)),
    "cropped": laid_out(padding=[(-1, 0), (1, -2)]),
    "steps over pixels": laid_out(strides=(3, 3), size=2),
    "overlapping pools": overlapping_pools,
    "padded pools": padded_pools,
    "negative scales": negative_scales,
    "leaky relu": rectified_by(lambda x: jax.nn.leaky_relu(x, 0.1)),
    "relu6": rectified_by(jax.nn.relu6, scale=12.0),
    "no bias": no_bias,
    "residual": residual,
    "normalized": normalized,
    "dense": with_dense,
    "grouped": grouped,
    "branches": branches,
    "reused": reused,
    "single pixel": single_pixel,
    "closure": closure,
    "nnx": flax_nnx,
    "linen": flax_linen,
    "equinox": equinox_nchw,
}


def files(path):
    """Every file of a store and its bytes."""
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(Path(path).rglob("*")) if p.is_file()}
