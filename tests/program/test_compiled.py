"""Sums of products of two spread arrays, which XLA for CPUs computes wrongly: by `compiled`, and in all methods.

These tests run with XLA's optimizations: without them there is no fusion to go wrong.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam as jc
from jaxcam.attribution.targets import score, select_output
from jaxcam.program.compiled import compiled

pytestmark = pytest.mark.optimized
X = jnp.asarray(np.random.default_rng(0).random((2, 12, 12, 3)), jnp.float32)


def dirty(shape):
    """Leaves numbers in the memory that the next array may get."""
    for seed in range(3):
        jax.block_until_ready(jnp.asarray(np.random.default_rng(seed).random(shape) * 1e5 + 7, jnp.float32))


def spread_and_summed(u, w, shape):
    return jax.vmap(lambda a: a * jnp.broadcast_to(u.reshape(-1, *[1] * (len(shape) - 1)), shape))(w).sum(0)


@pytest.mark.parametrize("count", [4, 8, 32])
@pytest.mark.parametrize("shape", [(2, 12, 12, 3), (3, 32, 32, 3), (2, 3, 144), (2, 36, 12)])
def test_a_sum_of_products_of_two_spread_arrays(shape, count):
    u, w = jnp.arange(1.0, shape[0] + 1), jnp.linspace(0.1, 1, count)
    run = compiled(spread_and_summed, static_argnums=2)
    expected = np.broadcast_to(np.asarray(u).reshape(-1, *[1] * (len(shape) - 1)) * np.sum(w), shape)
    for _ in range(3):
        dirty(shape)
        np.testing.assert_allclose(run(u, w, shape), expected, rtol=1e-5)


def test_compiled_works_within_every_transformation():
    square = compiled(lambda x: jnp.sum(x**2))
    x = jnp.arange(3.0)
    assert float(square(x)) == 5
    assert float(jax.jit(square)(x)) == 5
    assert float(jax.jit(lambda: square(x))()) == 5
    assert jax.grad(square)(x).tolist() == [0, 2, 4]
    assert jax.jit(jax.grad(square))(x).tolist() == [0, 2, 4]
    assert jax.vmap(square)(x[:, None]).tolist() == [0, 1, 4]
    assert jax.lax.map(square, x[:, None]).tolist() == [0, 1, 4]
    assert jax.eval_shape(square, x).shape == ()
    assert jax.hessian(square)(x).tolist() == (2 * np.eye(3)).tolist()


SLOPES = jnp.array([[4.0, 5, 6], [1, 2, 3]])[:, None, None] / 144


def one_output(x):
    return x.sum((1, 2, 3))[:, None]


def two_outputs(x):
    return x.sum((1, 2, 3))[:, None] * jnp.array([1.0, -2.0])


def mean_and_head(x):
    return x.mean((1, 2)) @ jnp.array([[1.0, 4], [2, 5], [3, 6]])


LINEAR = {
    "one output": (one_output, 0, lambda x: jnp.ones_like(x)),
    "one output, one target each": (one_output, [0, 0], lambda x: jnp.ones_like(x)),
    "two outputs, one target each": (two_outputs, [0, 1], lambda x: jnp.ones_like(x).at[1].set(-2)),
    "a mean and a dense layer": (
        mean_and_head,
        [1, 0],
        lambda x: SLOPES,
    ),
    "the predicted class": (one_output, None, lambda x: jnp.ones_like(x)),
    "no class axis": (lambda x: x.sum((1, 2, 3)), None, lambda x: jnp.ones_like(x)),
}


@pytest.mark.parametrize("steps", [8, 32])
@pytest.mark.parametrize("name", LINEAR)
def test_integrated_gradients_of_linear_models(name, steps):
    model, target, weights = LINEAR[name]
    expected = np.asarray(X * weights(X))
    for run in (
        jc.integrated_gradients,
        jax.jit(jc.integrated_gradients, static_argnames=("model", "target", "steps")),
    ):
        dirty(X.shape)
        chosen = tuple(target) if isinstance(target, list) and run is not jc.integrated_gradients else target
        found = run(model, X, chosen, steps=steps)
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max(), err_msg=str(run))


@pytest.mark.parametrize("name", list(LINEAR)[2:4])
def test_other_methods_of_linear_models(name):
    """A linear model's map is its weights, or these times the difference from the baseline."""
    model, target, weights = LINEAR[name]
    w = np.broadcast_to(weights(X), X.shape)
    key = jax.random.key(0)
    found = {
        "saliency": (jc.saliency(model, X, target), w),
        "smooth_grad": (jc.smooth_grad(model, X, target, key=key, samples=8), w),
        "squared": (jc.smooth_grad(model, X, target, key=key, samples=8, kind="squared"), w**2),
        "trapezoid": (jc.integrated_gradients(model, X, target, method="trapezoid", steps=8, chunk=3), w * X),
        "two baselines": (jc.integrated_gradients(model, X, target, baseline=jnp.stack([X * 0, X / 2])), w * X * 0.75),
        "guided": (jc.guided_integrated_gradients(model, X, target, steps=8), w * X),
        "deep_lift": (jc.deep_lift(model, X, target), w * X),
    }
    for method, (maps, expected) in found.items():
        np.testing.assert_allclose(maps, expected, atol=2e-5 * np.abs(expected).max(), err_msg=method)


def test_confidence_maps_of_one_output():
    found = jc.neurons.similarity(
        lambda x: jc.tag(x, "images").sum((1, 2, 3))[:, None], X, ["images"], rule="integrated", against="confidence"
    )
    assert np.isfinite(found["images"]).all()


def test_a_chosen_output_does_not_mind_the_others():
    outputs = jnp.array([[1.0, jnp.nan, 3.0], [jnp.inf, 5.0, -jnp.inf]])
    index = jnp.array([2, 1])
    assert select_output(outputs, index).tolist() == [3, 5]
    slopes = jax.grad(lambda z: jnp.sum(score(z, index)))(outputs)
    assert slopes.tolist() == [[0, 0, 1], [0, 1, 0]]
    assert jax.jit(select_output)(outputs, jnp.asarray(0)).tolist() == [1, np.inf]


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.int8])
def test_a_chosen_output_keeps_its_type(dtype):
    outputs = jnp.array([[1, 2, 100]], dtype)
    assert select_output(outputs, jnp.array([2])).dtype == dtype
    assert float(select_output(outputs, jnp.array([2]))[0]) == 100


@pytest.mark.parametrize("index", [-1, 3])
def test_a_traced_target_out_of_range_is_nan_and_no_other_class(index):
    outputs = jnp.array([[1.0, 2.0, 3.0]])
    value, slopes = jax.jit(jax.value_and_grad(lambda z, i: jnp.sum(score(z, i))))(outputs, jnp.asarray(index))
    assert np.isnan(value)
    assert not np.isfinite(slopes).any()
