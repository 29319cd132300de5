"""Networks for the tests of class activation maps, and the maps again: slowly, in numpy float64, from the papers.

Each network is a convolution with its ReLU and then a head; gradients of the heads, which are piecewise linear, are
central differences, place by place.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

RNG = np.random.default_rng(7)
KERNEL = RNG.normal(size=(3, 3, 3, 5)) / 3
BIAS = RNG.normal(size=5) / 5
POOLED = RNG.normal(size=(5, 4))
POOLED_BIAS = RNG.normal(size=4)
FLAT = RNG.normal(size=(6 * 5 * 5, 8)) / 8
HIDDEN = RNG.normal(size=(8, 4))
IMAGES = RNG.random((2, 6, 5, 3))
CLASSES = (3, 1)


def pool_head(a, xp):
    """Global average pool and a dense layer."""
    return a.mean((1, 2)) @ xp.asarray(POOLED, a.dtype) + xp.asarray(POOLED_BIAS, a.dtype)


def deep_head(a, xp):
    """A dense layer with ReLU over all places, and another."""
    return xp.maximum(a.reshape(a.shape[0], -1) @ xp.asarray(FLAT, a.dtype), 0) @ xp.asarray(HIDDEN, a.dtype)


def smooth_head(a, xp):
    """Pool, tanh, dense: not piecewise linear."""
    return xp.tanh(a.mean((1, 2)) @ xp.asarray(POOLED, a.dtype)) @ xp.asarray(HIDDEN[:4], a.dtype)


HEADS = {"pool": pool_head, "deep": deep_head, "smooth": smooth_head}


def _apply(head, p, x):
    y = jax.lax.conv_general_dilated(x, p["conv"]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return HEADS[head](jax.nn.relu(y + p["conv"]["bias"]), jnp)


def net(head):
    """The network in JAX; its layer is `conv`. To be made where doubles are on."""
    return Partial(Partial(_apply, head), {"conv": {"kernel": jnp.asarray(KERNEL), "bias": jnp.asarray(BIAS)}})


def activations(x):
    """What `conv` gives, tap by tap (n, h, w, u)."""
    _, h, w, _ = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = sum(padded[:, i : i + h, j : j + w] @ KERNEL[i, j] for i in range(3) for j in range(3))
    return np.maximum(y + BIAS, 0)


def scores(head, a, classes):
    outputs = HEADS[head](a, np)
    return np.array([outputs[i, k] for i, k in enumerate(classes)])


def gradients(head, a, classes):
    """∂s/∂a by central differences."""
    found, step = np.zeros_like(a), 1e-6
    for place in np.ndindex(*a.shape[1:]):
        up, down = a.copy(), a.copy()
        up[(slice(None), *place)] += step
        down[(slice(None), *place)] -= step
        found[(slice(None), *place)] = (scores(head, up, classes) - scores(head, down, classes)) / (2 * step)
    return found


def weighted(a, weights):
    return np.array([sum(w * a[i, :, :, u] for u, w in enumerate(row)) for i, row in enumerate(weights)])


def grad_cam(head, x, classes):
    a = activations(x)
    return np.maximum(weighted(a, gradients(head, a, classes).mean((1, 2))), 0)


def hires_cam(head, x, classes):
    a = activations(x)
    return (gradients(head, a, classes) * a).sum(-1)


def layer_cam(head, x, classes):
    a = activations(x)
    return np.maximum((np.maximum(gradients(head, a, classes), 0) * a).sum(-1), 0)


def grad_cam_plus_plus(head, x, classes):
    a = activations(x)
    g = gradients(head, a, classes)
    weights = np.zeros((a.shape[0], a.shape[3]))
    for n, i, j, u in np.ndindex(*a.shape):
        first = g[n, i, j, u]
        below = 2 * first**2 + a[n, :, :, u].sum() * first**3
        if below:
            weights[n, u] += first**2 / below * max(first, 0)
    return np.maximum(weighted(a, weights), 0)


def true_plus_plus_of_the_smooth_head(x, classes):
    """Grad-CAM++ with the derivatives of exp(s) themselves, s = Σⱼ vⱼ tanh(cⱼ), written out."""
    a = activations(x)
    _, h, w, _ = a.shape
    t = np.tanh(a.mean((1, 2)) @ POOLED)  # (n, 4)
    slope = POOLED / (h * w)  # ∂cⱼ/∂a, the same at each place
    tanhs = (1 - t**2, -2 * t * (1 - t**2), (1 - t**2) * (6 * t**2 - 2))
    v = HIDDEN[:4][:, list(classes)].T  # (n, 4)
    s1, s2, s3 = (((v * d) @ (slope**k).T) for k, d in enumerate(tanhs, start=1))  # each (n, u)
    y1, y2, y3 = s1, s1**2 + s2, s1**3 + 3 * s1 * s2 + s3
    alpha = y2 / (2 * y2 + a.sum((1, 2)) * y3)
    return np.maximum(weighted(a, h * w * alpha * np.maximum(y1, 0)), 0)


def bilinear(image, size):
    """One map upsampled, pixel by pixel: centers of places are where centers of blocks of pixels are."""
    h, w = image.shape
    large = np.zeros(size)
    for i, j in np.ndindex(*size):
        y = min(max((i + 0.5) * h / size[0] - 0.5, 0), h - 1)
        x = min(max((j + 0.5) * w / size[1] - 0.5, 0), w - 1)
        top, left = min(int(y), max(h - 2, 0)), min(int(x), max(w - 2, 0))
        for di, dj in np.ndindex(min(h, 2), min(w, 2)):
            large[i, j] += max(0, 1 - abs(y - top - di)) * max(0, 1 - abs(x - left - dj)) * image[top + di, left + dj]
    return large


def score_cam(head, x, classes, softmax=True):
    a = activations(x)
    weights = np.zeros((a.shape[0], a.shape[3]))
    for n, u in np.ndindex(*weights.shape):
        mask = bilinear(a[n, :, :, u], x.shape[1:3])
        mask = (mask - mask.min()) / ((mask.max() - mask.min()) or 1)
        weights[n, u] = scores(head, activations(x[n : n + 1] * mask[:, :, None]), classes[n : n + 1])[0]
    if softmax:
        weights = np.exp(weights) / np.exp(weights).sum(1, keepdims=True)
    else:
        weights = weights - scores(head, activations(np.zeros_like(x)), classes)[:, None]
    return np.maximum(weighted(a, weights), 0)


def ablation_cam(head, x, classes):
    a = activations(x)
    whole = scores(head, a, classes)
    weights = np.zeros((a.shape[0], a.shape[3]))
    for u in range(a.shape[3]):
        without = a.copy()
        without[..., u] = 0
        weights[:, u] = (whole - scores(head, without, classes)) / whole
    return np.maximum(weighted(a, weights), 0)


def eigen_cam(x, center=False):
    maps = []
    for a in activations(x):
        matrix = a.reshape(-1, a.shape[-1])
        matrix = matrix - matrix.mean(0) if center else matrix
        left, sizes, _ = np.linalg.svd(matrix, full_matrices=False)
        found = left[:, 0] * sizes[0]
        maps.append((found * (1 if found @ matrix.sum(1) > 0 else -1)).reshape(a.shape[:2]))
    return np.array(maps)
