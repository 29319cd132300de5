"""On eight virtual devices: everything that is shared among devices, on one, two and eight of them.

Prints, as JSON, for each piece of work the largest difference from one device, relative to its largest number, and how
many devices held the answer of eight.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxcam as jc
from jaxcam.data import load
from jaxcam.training import train

KEY = jax.random.key(0)
COUNTS = (1, 2, 8)


class Net(nnx.Module):
    """Convolution, ReLU, pooling, a block with a sum, a dense layer."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.conv1 = nnx.Conv(1, 8, (3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(8, 8, (3, 3), rngs=rngs)
        self.conv3 = nnx.Conv(8, 8, (3, 3), rngs=rngs)
        self.head = nnx.Linear(8, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.conv1(x)), (2, 2), (2, 2))
        x = nnx.relu(x + self.conv3(nnx.relu(self.conv2(x))))
        return self.head(x.mean((1, 2)))


def trained(data, folder):
    net = Net()
    history = train(net, data, data, out=folder, epochs=1, batch=48, progress=False)
    assert all(len(leaf.devices()) == 1 for leaf in jax.tree.leaves(nnx.state(net)))
    return {"loss": history[0].train_loss, "weights": net.conv1.kernel[...]}


def work(folder):
    net, data = Net(), load("digits", "train", image_size=8, limit=100)
    x = jnp.asarray(data.images[:8])
    loss = jc.studies.classification_loss(x, data.labels[:8])
    few = {"key": KEY, "samples": 20}
    return {
        "saliency": lambda: jc.saliency(net, x, 3),
        "saliency of six images": lambda: jc.saliency(net, x[:6], 3),
        "grad_cam": lambda: jc.grad_cam(net, x, 3, layer="conv1"),
        "integrated_gradients": lambda: jc.integrated_gradients(net, x[:1], 3, steps=20),
        "smooth_grad": lambda: jc.smooth_grad(net, x[:1], 3, **few),
        "rise": lambda: jc.rise(net, x[:1], 3, key=KEY, masks=50, grid=3),
        "score_cam": lambda: jc.score_cam(net, x[:1], 3, layer="conv1"),
        "occlusion": lambda: jc.occlusion(net, x[:1], 3, window=3),
        "units": lambda: jc.neurons.similarity(net, x[:1], rule="deconv"),
        "maps": lambda: jc.neurons.maps(net, x[:1], "conv3", range(5), rule="deconv"),
        "landscape": lambda: jc.studies.landscape(loss, net, key=KEY, points=3).values,
        "training": lambda: trained(data, Path(folder) / str(len(os.listdir(folder)))),
    }


def main():
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, call in work(folder).items():
            answers = []
            for count in COUNTS:
                with jc.devices(count):
                    answers.append(call())
            held = max(
                (len(leaf.devices()) for leaf in jax.tree.leaves(answers[-1]) if isinstance(leaf, jax.Array)), default=1
            )
            differences = [jax.tree.map(difference, answers[0], a) for a in answers[1:]]
            found[name] = {"difference": max(map(float, jax.tree.leaves(differences))), "held by": held}
    sys.stdout.write(json.dumps(found))


def difference(one, other):
    one, other = np.asarray(one), np.asarray(other)
    return float(np.abs(one - other).max() / max(np.abs(one).max(), 1e-30))


if __name__ == "__main__":
    main()
