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
# # Is my network cheating?
#
# A network that scores well may have learned a shortcut: a watermark, a ruler in the picture, the color of the background. This notebook
# plants two shortcuts, so that the right answer is known, and looks for them in two ways: **leak check**, for a region one suspects, and
# **SpRAy**, for when one suspects nothing.

# %%
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxcam as jc
from jaxcam import viewing

jax.config.update("jax_default_prng_impl", "rbg")  # compiles ten times faster on a CPU than the default

key = jax.random.key(0)
train, test = (jc.data.load("digits", split, image_size=16) for split in ("train", "test"))
noise = np.random.default_rng(1)
hard, hard_test = (
    np.clip(data.images + noise.normal(0, 0.5, data.images.shape), 0, 1).astype(np.float32) for data in (train, test)
)


class Net(nnx.Module):
    def __init__(self, rngs, channels=3):
        self.conv1 = nnx.Conv(channels, 16, (3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(16, 32, (3, 3), rngs=rngs)
        self.dense = nnx.Linear(32 * 4 * 4, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.conv1(x)), (2, 2), (2, 2))
        x = nnx.max_pool(nnx.relu(self.conv2(x)), (2, 2), (2, 2))
        return self.dense(x.reshape(len(x), -1))


def fit(images, labels, epochs=3):
    model = Net(nnx.Rngs(0), images.shape[-1])
    data = jc.data.Dataset(np.asarray(images, np.float32), labels, train.names)
    with tempfile.TemporaryDirectory() as out:
        jc.training.train(model, data, data, out=out, epochs=epochs, batch=64, learning_rate=2e-3, progress=False)
    return model


# %% [markdown]
# ## A leak one suspects
#
# Every image gets a rectangle in the color of its class. `leak_check` trains one network on these and one on the images as they are,
# then shows both the same test images, rectangle and all. The digits are noisy, so that the color is the easier way. Of all attribution, how much lies in the rectangle, which has 4 % of the area? And
# what is left of the accuracy when the rectangle goes, or takes the color of another class?

# %%
methods = {"saliency": jc.saliency, "lrp": lambda model, x: jc.lrp(model, x)}
found = jc.studies.leak_check(
    fit, hard, train.labels, hard_test, test.labels, key=key, methods=methods, explained=40
)
for name, check in (("leaking", found.leaking), ("clean", found.clean)):
    times = ", ".join(f"{method} {value:.1f}× its area" for method, value in check.times_area.items())
    print(f"{name:8} accuracy {check.accuracy:.0%}, without the rectangle {check.removed:.0%}, with another's {check.moved:.0%}")
    print(f"{'':8} the rectangle has {times}")

# %%
viewing.leaks({"leaking": found.leaking, "clean": found.clean})

# %%
some = found.leaking.explained[:3]
maps = {f"{method}, {name}": check.maps[method][:3] for method in methods for name, check in (("leaking", found.leaking), ("clean", found.clean))}
viewing.contact_sheet(found.images[some], maps, channels="absolute")

# %% [markdown]
# The leaking network is the better one until the rectangle goes, and wrong on most images whose rectangle has another class's color; many of
# them become that class. Its maps give the rectangle several times its area, the clean network's about its area: the figure to read is the
# *pair*, since a bright rectangle may excite any network.
#
# ## A leak nobody suspects: SpRAy
#
# Now only half of the images of one class, the eights, carry a mark, as if one of two photographers had signed. The network is right either
# way, so accuracy says nothing. SpRAy clusters the *heat maps* of the class: how many ways are there by which the network comes to "8"?

# %%
eight, rng = 8, np.random.default_rng(0)


def signed(images, labels):
    images, marked = images.copy(), (labels == eight) & (rng.random(len(labels)) < 0.5)
    images[marked, 12:15, 1:4] = 1.0
    return images, marked


images, marked = signed(train.images, train.labels)
model = fit(images, train.labels)
eights = train.labels == eight
heat = jc.lrp(model, jnp.asarray(images[eights]), target=eight)
groups = jc.studies.heatmap_clusters(heat, key=key)
print(f"{groups.count} groups of {groups.sizes.tolist()} maps")
for group in range(groups.count):
    print(f"group {group}: {marked[eights][groups.labels == group].mean():.0%} of its images carry the mark")

# %%
viewing.heatmap_groups(groups, images[eights])

# %% [markdown]
# On the left each image, near those whose heat maps are alike; below on the right what each group looks at. One group looks at a corner
# where no digit is. SpRAy does not know about marks: it says *look here*. Whether it is a leak is the next question: `region_check` fills the
# corner, and a forged mark in the corner of other digits shows what it is worth.

# %%
tested, signed_tests = signed(test.images, test.labels)
check = jc.studies.region_check(
    model, tested, test.labels, (12, 1, 3, 3), key=key, methods={"lrp": lambda model, x: jc.lrp(model, x)}
)
plain = test.images[(test.labels != eight)][:200]
forged = plain.copy()
forged[:, 12:15, 1:4] = 1.0
called = lambda pictures: float((model(jnp.asarray(pictures)).argmax(-1) == eight).mean())
print(f"accuracy with the marks as they are {check.accuracy:.1%}, with the corner filled {check.removed:.1%}")
print(f"other digits called an 8: {called(plain):.1%}; the same with a forged mark: {called(forged):.1%}")

# %% [markdown]
# Filling the corner changes next to nothing: an eight without its mark is still an eight. The forged mark tells: it makes eights of other digits.
# Accuracy without the region finds a network that *needs* the shortcut, a forgery finds one that *takes* it.
#
# ## When it misleads
#
# - Some gap between eigenvalues is always the widest, so there are always groups. They may be poses, thickness or size. Look at the mean maps,
#   then test with a forged or a removed region, as above, before calling anything a leak.
# - Objects fill the middle of a picture, so a clean network gives a corner less than its share; compare with it, not with 1.
# - A shortcut that fills the whole image (a blur, a color cast) has no region. Neither way finds it.
# - Accuracy on test images with the same shortcut says nothing at all: it was high throughout.
