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
# # A rule and a method of your own, in ten lines each
#
# Methods here are functions of functions. So a new one needs no class to register and no hook to write: compose what is there, then
# hold it against the same tests as the others. Two examples: a *rule* for layer-wise relevance propagation, and an *attribution method*.

# %%
import dataclasses
import tempfile

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx

import jaxcam as jc
from jaxcam import viewing

jax.config.update("jax_default_prng_impl", "rbg")  # compiles ten times faster on a CPU than the default

train, test = (jc.data.load("digits", split, image_size=16) for split in ("train", "test"))
key = jax.random.key(0)


class Net(nnx.Module):
    def __init__(self, rngs):
        self.conv1 = nnx.Conv(1, 12, (3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(12, 24, (3, 3), rngs=rngs)
        self.dense = nnx.Linear(24 * 4 * 4, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.conv1(x)), (2, 2), (2, 2))
        x = nnx.max_pool(nnx.relu(self.conv2(x)), (2, 2), (2, 2))
        return self.dense(x.reshape(len(x), -1))


model = Net(nnx.Rngs(0))
with tempfile.TemporaryDirectory() as out:
    history = jc.training.train(model, train, test, out=out, epochs=4, batch=64, learning_rate=3e-3, progress=False)
x = jnp.asarray(test.images[:12])
print(f"{history[-1].test_accuracy:.1%}")

# %% [markdown]
# ## A rule
#
# A rule says how an affine map y = W·x + b shares the relevance of its outputs among its inputs, in three steps: which *terms* to send
# through the map, how to *share* the relevance among them, how to *collect* what comes back. Here is one that no library has: inputs
# share in proportion to the **size** of their contribution, Rᵢ = Σⱼ |xᵢWᵢⱼ| / Σᵢ |xᵢWᵢⱼ| · Rⱼ, so what speaks against an output counts as much as
# what speaks for it.


# %%
@dataclasses.dataclass(frozen=True)
class Size:
    """Inputs share in proportion to the size of what they contribute; the bias gets nothing."""

    def terms(self, part):
        return [(jnp.abs(part.x), jnp.abs(part.kernel), jnp.zeros_like(part.bias))]

    def share(self, relevance, outputs):
        return [relevance / (outputs[0] + 1e-9)]

    def collect(self, inputs, pulled):
        return inputs[0] * pulled[0]


mine = jc.composites.Composite(conv=Size(), dense=Size())

# %% [markdown]
# It is a value like any other rule, so everything that takes a composite takes it. `audit` says, before anything runs, which equation
# gets which rule; `conservation` says how much relevance each received and handed on.

# %%
for row in jc.audit(model, x[:1], mine):
    print(f"{row.layer or 'input':8} {row.kind:11} {row.rule}")
for balance in jc.conservation(model, x, composite=mine):
    share = float((balance.passed / balance.received).mean())
    print(f"{balance.row.layer:8} {balance.row.kind:11} hands on {share:.1%}")
    assert 0.9 < share < 1.0001

# %% [markdown]
# The rule has no bias to keep a share and no sign to cancel, so all should be handed on. Almost: where all inputs of an output are 0, in the
# black border of a digit, there is nobody to hand it to. That is the kind of thing to know of a rule before looking at its pictures.

# %%
composites = {"z⁺ and ε": "epsilon_plus", "αβ and ε": "epsilon_alpha2_beta1", "mine": mine}
relevance = {name: jc.lrp(model, x, composite=composite) for name, composite in composites.items()}
viewing.contact_sheet(np.asarray(x[:3]), {name: np.asarray(values[:3]) for name, values in relevance.items()})

# %% [markdown]
# ## A method
#
# Any function `(model, x, target) ↦ maps` is a method. This one asks where the gradient is not only large, but *reliable* under noise: the
# mean of SmoothGrad divided by its standard deviation, a signal-to-noise ratio, times the image. Both halves are there already.


# %%
def reliable_gradient(model, x, target=None):
    """x · mean / standard deviation of the gradient under noise."""
    mean, variance = (
        jc.smooth_grad(model, x, target, key=key, samples=16, sigma=0.1, kind=kind) for kind in ("mean", "variance")
    )
    return x * mean / jnp.sqrt(variance + 1e-3 * variance.max((1, 2, 3), keepdims=True))


# %% [markdown]
# ## Is it any good?
#
# Ask what every method here is asked. **Deletion**: black out the pixels a map holds important, most important first; the probability should fall
# fast (a small area). **Randomization**: destroy the network layer by layer; the maps of a method that explains the network must change with it
# (a rank correlation near 0).

# %%
methods = {
    "reliable_gradient": reliable_gradient,
    "saliency": jc.saliency,
    "guided_backprop": jc.guided_backprop,
    "lrp, my rule": lambda model, x, target=None: jc.lrp(model, x, target, composite=mine),
}
maps = {name: method(model, x) for name, method in methods.items()}
maps["random"] = jax.random.normal(key, x.shape)
deletion = {name: np.asarray(jc.quality.deletion(model, x, values, steps=8).area) for name, values in maps.items()}
kept = {}
for name, method in methods.items():
    kept[name] = float(np.abs(np.asarray(jc.quality.randomization_check(model, x, method, key=key).rank)[-1]).mean())

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3), sharey=True)
order = sorted(deletion, key=lambda name: -deletion[name].mean())
axes[0].barh(order, [deletion[n].mean() for n in order], color="#9db7d5")
for place, name in enumerate(order):
    axes[0].plot(deletion[name], np.full(len(x), place), ".", color="#2467a8", ms=3)
axes[0].set(xlabel="deletion: area under the probability\n(small is good)")
axes[1].barh(order, [kept.get(n, 0) for n in order], color="#d5b79d")
axes[1].set(xlabel="|rank correlation| with maps of the randomized network\n(near 0 is good)", xlim=(0, 1))
figure.tight_layout()
plt.show()

# %%
viewing.contact_sheet(np.asarray(x[:2]), {name: np.asarray(values[:2]) for name, values in maps.items()})

# %%
better = deletion["reliable_gradient"] < deletion["random"]
print(f"better than random on {better.sum()} of {len(better)} images")
assert better.mean() > 0.7, "a method should beat noise"

# %% [markdown]
# ## When it misleads
#
# - Twelve digits and one small network: enough to see that a method is not noise, not that it is better than another. `jaxcam compare` does this on
#   photographs, with random maps beside; [Methods](../docs/methods.md) says what each figure misses.
# - Deletion favors methods that multiply by the image: on a black background only the stroke can be deleted.
# - A rule that conserves relevance need not explain anything. This one does not tell for from against, and its maps stay the same when the
#   network is destroyed (right panel): it draws the stroke. Without the check they would have looked convincing.
