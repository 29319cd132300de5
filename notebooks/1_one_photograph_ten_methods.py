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
# # One photograph, ten methods
#
# Where did the network look? Ask ten methods, and you get ten pictures. Which of them to believe is hard to say on a photograph,
# because nobody knows where the network *should* look. So here the photograph is made for the question: a collage of four, and a
# network that tells these four apart. Asked "why the cat?", an explanation has to point at the cat, not at the coffee beside it.
#
# Nothing is downloaded: the photographs come with scikit-image.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx
from skimage import data, transform

import jaxcam as jc
from jaxcam import viewing

jax.config.update("jax_default_prng_impl", "rbg")  # compiles ten times faster on a CPU than the default

names = ["cat", "coffee", "astronaut", "rocket"]
photographs = [data.chelsea(), data.coffee(), data.astronaut(), data.rocket()]
photographs = [transform.resize(photo[:, :427], (96, 96), anti_aliasing=True).astype(np.float32) for photo in photographs]

# %% [markdown]
# ## A network that knows four photographs
#
# It sees pieces of 32×32 pixels and says which photograph they are from. It ends in a global average pool, so it takes pictures of
# any size. Any model would do here: for jaxcam it is a function of images.


# %%
class Net(nnx.Module):
    def __init__(self, rngs):
        self.conv1 = nnx.Conv(3, 12, (5, 5), rngs=rngs)
        self.conv2 = nnx.Conv(12, 24, (3, 3), rngs=rngs)
        self.conv3 = nnx.Conv(24, 48, (3, 3), rngs=rngs)
        self.dense = nnx.Linear(48, 4, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.conv1(x - 0.5)), (2, 2), (2, 2))
        x = nnx.max_pool(nnx.relu(self.conv2(x)), (2, 2), (2, 2))
        return self.dense(nnx.relu(self.conv3(x)).mean((1, 2)))


def pieces(rng, n):
    labels = rng.integers(0, 4, n)
    top, left = rng.integers(0, 64, (2, n))
    cut = [photographs[k][i : i + 32, j : j + 32] for k, i, j in zip(labels, top, left, strict=True)]
    return np.stack(cut)[:, :, :: rng.choice([-1, 1])], labels


@nnx.jit
def step(model, optimizer, x, y):
    loss = lambda m: optax.softmax_cross_entropy_with_integer_labels(m(x), y).mean()
    optimizer.update(model, nnx.grad(loss)(model))


rng = np.random.default_rng(0)
model = Net(nnx.Rngs(0))
optimizer = nnx.Optimizer(model, optax.adam(3e-3), wrt=nnx.Param)
for _ in range(80):
    step(model, optimizer, *pieces(rng, 32))

x, y = pieces(rng, 256)
print(f"{(model(x).argmax(-1) == y).mean():.1%} of new pieces are recognized")

# %% [markdown]
# ## The question, and ten answers
#
# Every method is a function `(model, x, target) ↦ map`. The collage is asked about once for each of its four photographs, as a batch
# of four with four targets. Maps are raw, with their sign; `contact_sheet` colors them at the very end: red speaks for the target,
# blue against it.

# %%
collage = np.concatenate([np.concatenate(photographs[:2], 1), np.concatenate(photographs[2:], 1)])[::2, ::2]
x = jnp.asarray(np.stack([collage] * 4))
target = jnp.arange(4)
key = jax.random.key(0)
squares = jnp.broadcast_to(jnp.arange(36).reshape(6, 6).repeat(16, 0).repeat(16, 1), (4, 96, 96))

maps = {
    "saliency": jc.saliency(model, x, target),
    "guided_backprop": jc.guided_backprop(model, x, target),
    "smooth_grad": jc.smooth_grad(model, x, target, key=key, samples=8),
    "integrated_gradients": jc.integrated_gradients(model, x, target, steps=8),
    "deep_lift": jc.deep_lift(model, x, target),
    "lrp": jc.lrp(model, x, target, composite="epsilon_plus"),
    "grad_cam": jc.grad_cam(model, x, target),
    "occlusion": jc.occlusion(model, x, target, window=16, stride=8, baseline="mean"),
    "rise": jc.rise(model, x, target, key=key, masks=64, grid=6),
    "lime": jc.lime(model, x, target, key=key, samples=100, segments=squares, baseline="mean"),
}
two = np.array([0, 3])
shown = {name: values[two] for name, values in maps.items()}
viewing.contact_sheet(x[two], shown, titles=[f"why {names[k]}?" for k in two], columns=5)

# %% [markdown]
# ## Which of them point at the right photograph?
#
# The share of a map's positive part that lies in the right quarter: 25 % is what a map gets that knows nothing. (This is the *grid
# pointing game* of Böhle, Fritz and Schiele 2021.) RISE's maps have the level of the score everywhere, so their least value is taken off first.


# %%
def share_in_its_quarter(values):
    values = np.asarray(values, np.float32)
    values = values.sum(-1) if values.ndim == 4 else values
    evidence = np.maximum(transform.resize(values, (4, 96, 96), order=0), 0)
    quarters = evidence.reshape(4, 2, 48, 2, 48).sum((2, 4)).reshape(4, 4)
    return quarters[np.arange(4), np.arange(4)] / quarters.sum(1)


above = {"rise": maps["rise"] - maps["rise"].min((1, 2), keepdims=True)}
shares = {name: share_in_its_quarter(values) for name, values in (maps | above).items()}
order = sorted(shares, key=lambda name: shares[name].mean())
figure, axes = plt.subplots(figsize=(6.5, 3.2))
axes.barh(order, [shares[name].mean() for name in order], color="#9db7d5")
for place, label in enumerate(names):
    axes.plot([shares[name][place] for name in order], order, "o", ms=4, label=label)
axes.axvline(0.25, color="gray", ls=":", label="chance")
axes.set(xlabel="share of the positive evidence in the right quarter", xlim=(0, 1))
axes.legend(fontsize=8, loc="lower right")
plt.show()

# %%
assert shares["grad_cam"].mean() > 0.4 > 0.25, "Grad-CAM should point at what it is asked about"

# %% [markdown]
# ## What it says, and when it misleads
#
# - Occlusion asks *what does the score lose without this?*; LRP and Grad-CAM keep the sign of the evidence on its way. They find the
#   right quarter. Saliency and SmoothGrad say how the score would *change* with a pixel, which is another question: they fall below
#   chance where a busy neighbor has steeper gradients.
# - RISE and LIME ask the right question of few random pictures: so few draws leave them noisy. More draws cost time, not insight.
# - Guided backpropagation draws the same edges whichever class is asked about. It looks the sharpest, and knows the least about the
#   class: see [`randomization_check`](../docs/methods/quality.md).
# - No method is the best on all four. A small network, four photographs: this measures these maps, not the methods. On photographs
#   without a known answer, `jaxcam compare` measures deletion and insertion beside maps that know nothing.
# - Coarse maps have an easy game: blurred evidence in the right quarter counts like sharp evidence.
