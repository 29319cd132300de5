"""The rules of relevance in matrix form, in float64 numpy, from their papers; and affine maps to try them on.

A map y = W·x + b is a dense matrix here, whatever it was: W is read off its Jacobian, b is its value at zero.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam.attribution import rules

EPSILON = 1e-6
LAYOUT = ("NHWC", "HWIO", "NHWC")


def dense(function, shape):
    """W (outputs, inputs) and b (outputs,) of an affine function of one image."""
    zero = jnp.zeros((1, *shape))
    matrix = np.asarray(jax.jacobian(function)(zero), np.float64)
    bias = np.asarray(function(zero), np.float64).ravel()
    return matrix.reshape(bias.size, -1), bias


def without_bias(twin):
    return lambda W, b, x, R: twin(W, np.zeros_like(b), x, R)


def sign(y):
    return np.where(y < 0, -1.0, 1.0)


def shared(contributions, total, relevance, epsilon=EPSILON):
    """Rᵢ = Σⱼ cⱼᵢ / (zⱼ + ε sign zⱼ) · Rⱼ."""
    return (contributions / (total + epsilon * sign(total))[:, None] * relevance[:, None]).sum(0)


def epsilon_rule(W, b, x, R, epsilon=EPSILON):
    return shared(W * x, W @ x + b, R, epsilon)


def zplus(W, b, x, R):
    c = np.maximum(W * x, 0)
    return shared(c, c.sum(1) + np.maximum(b, 0), R)


def alpha_beta(W, b, x, R, alpha=2.0, beta=1.0):
    up, down = np.maximum(W * x, 0), np.minimum(W * x, 0)
    favor = shared(up, up.sum(1) + np.maximum(b, 0), R)
    return alpha * favor - beta * shared(down, down.sum(1) + np.minimum(b, 0), R)


def gamma(W, b, x, R, gamma=0.25):
    y, total = W @ x + b, np.zeros(x.size)
    for side, part in ((1.0, np.maximum), (-1.0, np.minimum)):
        c = W * x + gamma * part(W * x, 0)
        here = np.where(side * y > 0, R, 0)
        total += shared(c, c.sum(1) + b + gamma * part(b, 0), here)
    return total


def in_favor(W, b, x, R):
    """γ → ∞: where y > 0 only positive contributions count, where y < 0 only negative ones."""
    y, total = W @ x + b, np.zeros(x.size)
    for side, part in ((1.0, np.maximum), (-1.0, np.minimum)):
        c = part(W * x, 0)
        total += shared(c, c.sum(1) + part(b, 0), np.where(side * y > 0, R, 0))
    return total


def flat(W, b, x, R):
    read = (W != 0).astype(float)
    return shared(read, read.sum(1), R)


def w_square(W, b, x, R):
    return shared(W**2, (W**2).sum(1) + b**2, R)


def box(W, b, x, R, low=-1.0, high=1.5):
    c = W * x - np.maximum(W, 0) * low - np.minimum(W, 0) * high
    return shared(c, c.sum(1), R)


def norm(W, b, x, R):
    return shared(W * x, W @ x, R)


# By name: the package's rule, and its twin.
RULES = {
    "epsilon": (rules.Epsilon(), epsilon_rule),
    "epsilon of a tenth": (rules.Epsilon(0.1), lambda W, b, x, R: epsilon_rule(W, b, x, R, 0.1)),
    "zplus": (rules.ZPlus(), zplus),
    "alpha 2 beta 1": (rules.AlphaBeta(), alpha_beta),
    "alpha 1.5 beta 0.5": (rules.AlphaBeta(1.5, 0.5), lambda W, b, x, R: alpha_beta(W, b, x, R, 1.5, 0.5)),
    "gamma": (rules.Gamma(), gamma),
    "gamma of infinity": (rules.Gamma(np.inf), in_favor),
    "zplus without bias": (rules.ZeroBias(rules.ZPlus()), without_bias(zplus)),
    "flat": (rules.Flat(), flat),
    "w square": (rules.WSquare(), w_square),
    "box": (rules.ZBox(-1.0, 1.5), box),
}


def random(*shape, seed=0):
    """Numbers away from zero, of both signs: no output of a map is nearly zero by accident of one weight."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0.2, 1.0, shape) * rng.choice([-1.0, 1.0], shape)


def convolve(x, kernel, strides=(1, 1), padding=((1, 1), (1, 1)), **options):
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=LAYOUT, **options)


def batch_norm(z):
    """Inference mode, with factors of both signs."""
    mean, variance, scale, shift = (random(z.shape[-1], seed=seed) for seed in (11, 12, 13, 14))
    return (z - mean) / jnp.sqrt(jnp.abs(variance) + 1e-5) * scale + shift


IMAGE = (4, 4, 2)
# By name: an affine function of images (n, 4, 4, 2).
MAPS = {
    "conv": lambda x: convolve(x, random(3, 3, 2, 3)),
    "conv with bias": lambda x: convolve(x, random(3, 3, 2, 3)) + random(3, seed=1),
    "strided": lambda x: convolve(x, random(2, 2, 2, 3), (2, 2), ((0, 0), (0, 0))) + random(3, seed=1),
    "grouped": lambda x: convolve(x, random(3, 3, 1, 4), feature_group_count=2) + random(4, seed=1),
    "dilated": lambda x: convolve(x, random(2, 2, 2, 3), rhs_dilation=(2, 2)) + random(3, seed=1),
    "transposed": lambda x: convolve(x, random(3, 3, 2, 3), lhs_dilation=(2, 2)) + random(3, seed=1),
    "batch norm": lambda x: batch_norm(convolve(x, random(3, 3, 2, 3))),
    "bias and batch norm": lambda x: batch_norm(convolve(x, random(3, 3, 2, 3)) + random(3, seed=1)),
    "dense": lambda x: x.reshape(len(x), -1) @ random(32, 5),
    "dense with bias": lambda x: x.reshape(len(x), -1) @ random(32, 5) + random(5, seed=1),
    "dense with batch norm": lambda x: batch_norm(x.reshape(len(x), -1) @ random(32, 5)),
    "dense, kernel first": lambda x: (random(5, 32) @ x.reshape(len(x), -1).T).T + random(5, seed=1),
    # What stands before a kernel belongs to it; where that is padded with zeros, a shift is no constant after it.
    "batch norm before": lambda x: convolve(batch_norm(x), random(3, 3, 2, 3)) + random(3, seed=1),
    "between two batch norms": lambda x: batch_norm(convolve(batch_norm(x), random(3, 3, 2, 3))),
    "batch norm before groups": lambda x: convolve(batch_norm(x), random(3, 3, 1, 4), feature_group_count=2),
    "batch norm before padding": lambda x: convolve(
        jnp.pad(batch_norm(x), ((0, 0), (1, 1), (2, 0), (0, 0))), random(3, 3, 2, 3), padding=((0, 0), (0, 0))
    ),
    "batch norm before a dense layer": lambda x: batch_norm(x).reshape(len(x), -1) @ random(32, 5),
    "shifts of their own for each pixel": lambda x: convolve((x - random(4, 4, 2, seed=2)) / 3, random(3, 3, 2, 3)),
    "channels moved": lambda x: convolve(jnp.moveaxis(batch_norm(x), -1, 1).transpose(0, 2, 3, 1), random(3, 3, 2, 3)),
    # And what stands beside no kernel is a map of its own.
    "batch norm alone": batch_norm,
    "a shift alone": lambda x: x - random(2, seed=1),
    "scales and shifts of their own for each pixel": lambda x: x * random(4, 4, 2, seed=2) + random(4, 4, 2, seed=3),
}
