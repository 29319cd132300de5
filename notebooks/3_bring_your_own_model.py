# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Bring your own model
#
# For jaxcam a model is a callable of images that is a pytree. It is not told which framework wrote it, and nothing is registered,
# subclassed or hooked. Here one network is written four times, in Flax NNX, Flax Linen, Equinox and plain JAX, given the same weights,
# and asked the same question. Do the four get the same answer?

# %%
import tempfile

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import linen, nnx

import jaxcam as jc
from jaxcam import viewing

jax.config.update("jax_default_prng_impl", "rbg")  # compiles ten times faster on a CPU than the default

train, test = (jc.data.load("digits", split, image_size=16) for split in ("train", "test"))

# %% [markdown]
# ## Flax NNX
#
# An NNX module is a pytree and a callable already. This one has a residual addition and uses the *same* ReLU function twice, which
# trips libraries that hook modules. Train it with anything; `jc.training.train` is a short optax loop.


# %%
class Net(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Conv(1, 16, (3, 3), rngs=rngs)
        self.second = nnx.Conv(16, 16, (3, 3), rngs=rngs)
        self.head = nnx.Linear(16, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.first(x)), (2, 2), (2, 2))
        x = nnx.relu(x + self.second(x))
        return self.head(x.max((1, 2)))


in_nnx = Net(nnx.Rngs(0))
with tempfile.TemporaryDirectory() as out:
    history = jc.training.train(
        in_nnx, train, test, out=out, epochs=4, batch=32, learning_rate=6e-3, progress=False
    )
print(f"{history[-1].test_accuracy:.1%}")
weights = {name: (getattr(in_nnx, name).kernel[...], getattr(in_nnx, name).bias[...]) for name in ("first", "second", "head")}

# %% [markdown]
# ## Flax Linen
#
# A Linen module keeps its variables apart, so the model is `apply` with the variables bound by `jax.tree_util.Partial`: a pytree whose
# parameters name the layers by their paths. (`functools.partial` works as well, with layers named by order.)


# %%
class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.max_pool(linen.relu(linen.Conv(16, (3, 3), name="first")(x)), (2, 2), (2, 2))
        x = linen.relu(x + linen.Conv(16, (3, 3), name="second")(x))
        return linen.Dense(10, name="head")(x.max((1, 2)))


variables = {"params": {name: {"kernel": kernel, "bias": bias} for name, (kernel, bias) in weights.items()}}
in_linen = jax.tree_util.Partial(LinenNet().apply, variables)

# %% [markdown]
# ## Equinox
#
# Equinox works on one image with its channels first, and jaxcam on batches with channels last. A function around it says so; what is
# inside is found all the same, under its own names.


# %%
class EquinoxNet(eqx.Module):
    first: eqx.nn.Conv2d
    second: eqx.nn.Conv2d
    head: eqx.nn.Linear

    def __call__(self, x):
        x = eqx.nn.MaxPool2d(2, 2)(jax.nn.relu(self.first(x)))
        x = jax.nn.relu(x + self.second(x))
        return self.head(x.max((1, 2)))


def with_weights(layer, kernel, bias):
    shaped = kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
    return eqx.tree_at(lambda l: (l.weight, l.bias), layer, (shaped, bias.reshape(layer.bias.shape)))


keys = jax.random.split(jax.random.key(0), 3)
equinox_net = EquinoxNet(
    with_weights(eqx.nn.Conv2d(1, 16, 3, padding=1, key=keys[0]), *weights["first"]),
    with_weights(eqx.nn.Conv2d(16, 16, 3, padding=1, key=keys[1]), *weights["second"]),
    with_weights(eqx.nn.Linear(16, 10, key=keys[2]), *weights["head"]),
)


class ChannelsLast(eqx.Module):
    net: EquinoxNet

    def __call__(self, x):
        return jax.vmap(self.net)(x.transpose(0, 3, 1, 2))


in_equinox = ChannelsLast(equinox_net)

# %% [markdown]
# ## Plain JAX
#
# A closure will do. Its layers have no parameter path, so they are called by kind and order (`conv_0`); `jc.tag` names any value, and
# changes nothing.


# %%
def in_plain_jax(x):
    def conv(x, kernel, bias):
        axes = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=axes) + bias

    x = jnp.maximum(conv(x, *weights["first"]), 0)
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    y = x + conv(x, *weights["second"])
    x = jc.tag(jnp.where(y > 0, y, 0), "second")  # a ReLU, whoever wrote it
    return x.max((1, 2)) @ weights["head"][0] + weights["head"][1]


models = {"nnx": in_nnx, "linen": in_linen, "equinox": in_equinox, "plain jax": in_plain_jax}

# %% [markdown]
# ## The same answers?
#
# Layers first: what can be named in each. Then one guided backpropagation and one integrated gradient for each, of the same three digits.

# %%
x = jnp.asarray(test.images[:3])
for name, model in models.items():
    print(f"{name:10}", ", ".join(f"{layer.name} {layer.shape}" for layer in jc.layers(model, x[:1])))

# %%
guided = {name: np.asarray(jc.guided_backprop(model, x)) for name, model in models.items()}
paths = {name: np.asarray(jc.integrated_gradients(model, x, steps=16)) for name, model in models.items()}
for name in models:
    apart = [np.abs(m[name] - m["nnx"]).max() / np.abs(m["nnx"]).max() for m in (guided, paths)]
    print(f"{name:10} differs from nnx by {apart[0]:.0e} (guided), {apart[1]:.0e} (integrated), of the largest value")
    assert max(apart) < 1e-4

# %%
viewing.contact_sheet(np.asarray(x), {f"guided, {name}": values for name, values in guided.items()})

# %% [markdown]
# ## A hidden unit is a target like any other
#
# `jc.tap` makes a model of the part up to a layer; its outputs are the layer's units. So every method explains hidden units too, in every framework.

# %%
unit = jc.saliency(jc.tap(in_linen, "second"), x, target=5)
figure, axes = plt.subplots(1, 3, figsize=(6, 2.2))
for axis, values in zip(axes, np.asarray(unit), strict=True):
    axis.imshow(values[..., 0], cmap="RdBu_r", vmin=-np.abs(unit).max(), vmax=np.abs(unit).max())
    axis.set_axis_off()
figure.suptitle("what excites unit 5 of 'second' in each digit")
plt.show()

# %% [markdown]
# ## When it misleads, and when it refuses
#
# - A model in training mode mixes the images of a batch (batch norm) or rolls dice (dropout): the first is refused with a line that
#   says so; call `model.eval()` in NNX, `train=False` in Linen, `eqx.nn.inference_mode` in Equinox.
# - The same function may have more than one derivative. Where several pixels of a window are equally large, a max *pool* sends the gradient
#   to the first of them and a `max` over reshaped axes shares it: same outputs, other maps, on images with flat parts.
# - An operation that a rule says nothing about is an error that names it, not silently the plain gradient:

# %%
try:
    jc.guided_backprop(lambda x: jnp.tanh(x).sum((1, 2)) * jax.nn.relu(x).sum((1, 2)), x)
except ValueError as error:
    print(error)
