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
# # Every neuron of a network you just trained
#
# A network has hundreds or thousands of units. What did each of them learn, and which of them matter? Here a small network is trained
# on handwritten digits, *all* its units are measured on all classes in one call, and pruning tells whether the measure means anything.

# %%
import tempfile

import jax
from flax import nnx

import jaxcam as jc
from jaxcam import viewing

jax.config.update("jax_default_prng_impl", "rbg")  # compiles ten times faster on a CPU than the default

train, test = (jc.data.load("digits", split, image_size=16) for split in ("train", "test"))


class Net(nnx.Module):
    def __init__(self, rngs):
        self.conv1 = nnx.Conv(1, 16, (3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(16, 32, (3, 3), rngs=rngs)
        self.conv3 = nnx.Conv(32, 48, (3, 3), rngs=rngs)
        self.dense = nnx.Linear(48, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.conv1(x)), (2, 2), (2, 2))
        x = nnx.max_pool(nnx.relu(self.conv2(x)), (2, 2), (2, 2))
        return self.dense(nnx.relu(self.conv3(x)).mean((1, 2)))


model = Net(nnx.Rngs(0))
runs = tempfile.TemporaryDirectory()
history = jc.training.train(
    model, train, test, out=f"{runs.name}/train", epochs=8, batch=64, learning_rate=4e-3, progress=False
)
print(f"{history[-1].test_accuracy:.1%} of the test images are recognized")

# %% [markdown]
# ## What can be named
#
# jaxcam found the layers by itself: the names are those of the attributes, a layer's value is the one after its ReLU.

# %%
for layer in jc.layers(model, test.images[:1]):
    print(layer)

# %% [markdown]
# ## What a class looks like
#
# A unit is shown the average image of each class. There are four kinds of average; here are three of them: the mean of all (stretched), the mean of
# the images the network is *most* and *least* sure of.

# %%
kinds = {
    kind: jc.neurons.class_averages(train.images, train.labels, kind, model=model, k=20, progress=False) for kind in ("most", "least")
}
kinds["simple"] = jc.neurons.class_averages(train.images, train.labels, "simple", progress=False)
viewing.averages(kinds, test.names)

# %% [markdown]
# ## All units, all classes
#
# For every unit u and class average x: its map Mᵤ(x) by guided backpropagation, and the cosine between map and image. `sweep` writes
# all of it to a store that survives any interruption; for one batch of images, `jc.neurons.similarity(model, x)` gives the same numbers
# in memory.

# %%
found = jc.neurons.sweep(model, kinds["most"], f"{runs.name}/neurons.zarr", classes=test.names, progress=False)
similarity = {layer: found.similarity(layer) for layer in found.layers}
dead = {layer: found.dead(layer) for layer in found.layers}
for layer in found.layers:
    classes, units = similarity[layer].shape
    print(f"{layer}: {units} units × {classes} classes, {dead[layer].all(0).sum()} units dead for every class")

# %%
viewing.similarity_curves(similarity, test.names)

# %% [markdown]
# A thin line for each class, the thick one their mean: how similar the layer's units are to the class, first layer to last. A unit that
# an average does not activate at all is *dead* there: its map is black and its similarity 0.
#
# ## The two ends of one layer
#
# The units of `conv2` least and most similar to a three: their maps, beside the average they were shown.

# %%
units, maps = found.extremes("conv2")
viewing.extreme_units(
    found.average[3], units[3], maps[3], similarity["conv2"][3][units[3]], layer="conv2", name="3"
)

# %% [markdown]
# ## Does the measure mean anything?
#
# Remove the 40 % most similar units of a layer, or the 40 % least similar ones, and look at the accuracy. Two controls belong to it: as
# many units at random, and the same comparison among *live* units only. Without the second, "least similar" is another word for "dead".

# %%
rows = jc.neurons.pruning_study(model, test.images, test.labels, similarity, dead, seeds=5, progress=False)
viewing.pruning(rows)

# %%
for row in jc.neurons.summarize_pruning(rows):
    print(
        f"{row.layer}: {row.none:.0%} whole; among live units {row.most_live:.0%} without the most similar, "
        f"{row.least_live:.0%} without the least, {row.random_live_mean:.0%} ± {row.random_live_sd:.0%} without random ones; "
        f"ranks them beyond chance: {row.beyond_random_live}"
    )

# %%
runs.cleanup()

# %% [markdown]
# ## What it says, and when it misleads
#
# - Look at the right panel first. Similarity *ranks* units if the most and the least similar ones lie on either side of random, further apart than
#   random choices do among themselves: that is what the last line says of each layer. Do not expect it of a network as small and as alive as
#   this one: when this was written it did so in one layer of three, and there the *least* similar units were the ones it needed. In the large networks
#   of the thesis the left panel shows a great difference, and much of it is dead units: [Papers reproduced](../docs/reproduction.md).
# - The maps are guided backpropagation: they say what in the image excites a unit, not what the unit is for. They hardly depend on the
#   layers above ([Adebayo et al. 2018](https://arxiv.org/abs/1810.03292)).
# - 359 test images are few: an accuracy here is known to ± 3 %.
#
# The same from the command line, with a report to click through: `jaxcam demo`.
