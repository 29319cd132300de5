"""Adam with L2 in the gradient, as PyTorch has it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcam.training import adam

TARGET = np.random.default_rng(0).normal(size=(5, 3))
START = np.random.default_rng(1).normal(size=(5, 3))
RATE, DECAY = 0.05, 0.01


def ours(steps, dtype):
    optimizer, target = adam(RATE, DECAY), jnp.asarray(TARGET, dtype)
    theta = jnp.asarray(START, dtype)
    moments = optimizer.init(theta)
    for _ in range(steps):
        gradient = jax.grad(lambda theta: jnp.sum(jnp.cos(theta - target)))(theta)
        updates, moments = optimizer.update(gradient, moments, theta)
        theta = optax.apply_updates(theta, updates)
    return np.asarray(theta)


@pytest.mark.parity
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 2e-5)])
def test_the_weights_follow_torchs_adam_with_weight_decay(dtype, tolerance):
    torch = pytest.importorskip("torch")
    target = torch.tensor(TARGET, dtype=getattr(torch, dtype))
    theta = torch.tensor(START, dtype=getattr(torch, dtype), requires_grad=True)
    optimizer = torch.optim.Adam([theta], lr=RATE, weight_decay=DECAY)
    for _ in range(25):
        optimizer.zero_grad()
        torch.cos(theta - target).sum().backward()
        optimizer.step()
    with jax.enable_x64(dtype == "float64"):
        result = ours(25, dtype)
    assert result.dtype == dtype
    np.testing.assert_allclose(result, theta.detach().numpy(), rtol=0, atol=tolerance)


def test_the_weights_follow_the_papers_formula():
    theta, m, v = START.copy(), 0, 0
    for t in range(1, 11):
        gradient = -np.sin(theta - TARGET) + DECAY * theta
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        theta = theta - RATE * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    with jax.enable_x64(True):
        np.testing.assert_allclose(ours(10, "float64"), theta, rtol=0, atol=1e-12)
