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
# # Exact linear pieces
#
# A network of ReLUs and max pools is not *approximately* linear around an image, it *is* linear, up to the first ReLU that switches.
# Inside that polytope the explanation is no matter of opinion: f(x) = W·x + b, exactly. So what does W look like, how far does it reach, and
# what do LIME and SHAP, which also fit a linear model, make of the same image?

# %%
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


class Net(nnx.Module):
    def __init__(self, rngs):
        self.conv1 = nnx.Conv(1, 8, (3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(8, 16, (3, 3), rngs=rngs)
        self.dense1 = nnx.Linear(16 * 4 * 4, 32, rngs=rngs)
        self.dense2 = nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.avg_pool(nnx.relu(self.conv1(x)), (2, 2), (2, 2))
        x = nnx.avg_pool(nnx.relu(self.conv2(x)), (2, 2), (2, 2))
        return self.dense2(nnx.relu(self.dense1(x.reshape(len(x), -1))))


model = Net(nnx.Rngs(0))
with tempfile.TemporaryDirectory() as out:
    history = jc.training.train(model, train, test, out=out, epochs=4, batch=64, learning_rate=3e-3, progress=False)
print(f"{history[-1].test_accuracy:.1%}")

# %% [markdown]
# ## The piece
#
# One call gives W for every output and every pixel, b, and the polytope's name. `error` is what rounding leaves of W·x + b − f(x).

# %%
x = jnp.asarray(test.images[:6])
piece = jc.studies.linear_piece(model, x)
print("W", piece.W.shape, " b", piece.b.shape, " polytope of the first image:", piece.polytope[0])
print("largest error, of the largest output:", f"{piece.error.max():.0e}")
assert piece.error.max() < 1e-5

# %% [markdown]
# ## How far does it reach?
#
# Walk from an image towards one of another class, and compare the network with its own linear piece at the start. `region_size` says
# beforehand, exactly, at which step the first switch changes. Up to there the two differ by rounding only.

# %%
here, there = x[:1], jnp.asarray(test.images[test.labels == 8][:1])
reach = jc.studies.region_size(model, here, there - here)
k = int(model(here).argmax())
edge = float(reach.distance[0])
far = jnp.geomspace(edge / 10, 1, 200)
walk = here + far[:, None, None, None] * (there - here)
network, line = model(walk)[:, k], (piece.W[0, k] * walk).sum((1, 2, 3)) + piece.b[0, k]
figure, axes = plt.subplots(1, 2, figsize=(9, 3))
axes[0].plot(far, network, color="#2467a8", label="the network")
axes[0].plot(far, line, "--", color="#c2413b", label="its piece at the start")
axes[0].set(xlabel="share of the way to an eight", ylabel=f"score of class {k}")
axes[1].loglog(far, jnp.abs(network - line) + 1e-9, color="#22252b")
axes[1].set(xlabel="share of the way to an eight", ylabel="|network − piece|")
axes[1].axvline(edge, color="gray", ls=":", label="end of the polytope")
for axis in axes:
    axis.legend(fontsize=8)
figure.tight_layout()
plt.show()
print(f"the first switch changes after {edge:.3%} of the way, in layer {reach.layer[0]}")

# %% [markdown]
# ## What it looks like, and who shares it
#
# In the rows: the images, W for the predicted class, and W·x pixel by pixel, which sums to the score less b. Below: at which depth images
# share their switches.

# %%
predicted = np.asarray(piece.values).argmax(1)
shared = jc.studies.polytopes(model, jnp.asarray(test.images[:200]))
weights = np.asarray(piece.W)[np.arange(6), predicted]
viewing.linear_pieces(np.asarray(x), weights, shared, titles=[f"called {k}" for k in predicted])

# %% [markdown]
# No two images share the whole polytope. But deep in the network many do: those that agree from the last hidden layer up are sorted by one
# and the same linear function of its input.
#
# ## LIME and SHAP on the same question
#
# All three are linear models of the score around the image. `surrogates` asks each what replacing a segment does: by a step so small that
# it stays in the polytope (*inside*), and by all of it (*removal*). Errors are relative: 0 is exact, 1 no better than claiming nothing.

# %%
found = jc.studies.surrogates(model, x[:3], key=jax.random.key(0), samples=150)
print(f"{'':14}{'inside':>8}{'removal':>9}{'redrawn':>9}{'seconds':>9}")
for name, claim in found.items():
    inside, removal, redrawn = (np.nanmedian(v) for v in (claim.inside, claim.removal, claim.redrawn))
    print(f"{name:14}{inside:8.3f}{removal:9.3f}{redrawn:9.3f}{claim.seconds:9.3f}")

# %% [markdown]
# ## When it misleads
#
# - The piece is exact for the next breath of noise and says nothing of what happens without a whole stroke: that is the *removal* column,
#   where SHAP is asked the right question and the piece is not. Choose the explanation by the question.
# - LIME and SHAP draw at random: with another key they claim something else (*redrawn*). The piece has no key.
# - Polytopes are tiny. A W full of detail is no evidence that the network sees that detail in the next image.
# - An image with flat parts lies *on* a facet of every max pool there (its window has more than one maximum), and may have a polytope of size 0
#   in some directions. This network pools by averages, which has no switches.
# - Sigmoid, softmax and attention are not piecewise linear: an error names the first such operation. Explain logits.
