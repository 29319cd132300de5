"""Chunks: the same answer for any size, a size that fits, and a word where nothing does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam as jc
from jaxcam.attribution import budget
from jaxcam.program.trace import trace_model

VARIANTS = {"a": jnp.arange(7.0), "b": jnp.arange(14.0).reshape(7, 2)}
IMAGES = jnp.ones((2, 8, 8, 3))


def function(variant):
    return {"square": variant["a"] ** 2, "sum": variant["a"] + variant["b"].sum()}


def network(x):
    return jax.nn.relu(x @ jnp.ones((3, 4))).mean((1, 2)) @ jnp.ones((4, 5))


@pytest.mark.parametrize("chunk", [1, 2, 3, 6, 7, 8, 1000])
def test_mapped_is_one_after_the_other_for_any_chunk(chunk):
    found = budget.mapped(function, VARIANTS, chunk)
    assert found["square"].tolist() == [float(i * i) for i in range(7)]
    assert found["sum"].tolist() == [float(i + 4 * i + 1) for i in range(7)]


@pytest.mark.parametrize("chunk", [1, 2, 3, 6, 7, 8, 1000])
def test_summed_is_the_sum_for_any_chunk(chunk):
    found = budget.summed(function, VARIANTS, chunk)
    assert float(found["square"]) == sum(i * i for i in range(7))
    assert float(found["sum"]) == sum(5 * i + 1 for i in range(7))


def test_summed_never_holds_all_values_at_once():
    big = jax.make_jaxpr(lambda v: budget.summed(lambda a: a * jnp.ones(100), v, 2))(jnp.arange(50.0))
    assert "50,100]" not in str(big)
    assert "2,100]" in str(big)


def test_sums_and_maps_have_gradients_and_batches():
    assert jax.grad(lambda a: budget.summed(lambda v: v**2, a, 2))(jnp.arange(5.0)).tolist() == [0, 2, 4, 6, 8]
    batched = jax.vmap(lambda a: budget.summed(lambda v: v**2, a, 2))(jnp.arange(10.0).reshape(2, 5))
    assert batched.tolist() == [30, 255]


def test_the_size_asked_for_is_taken_but_never_more_than_there_are():
    assert budget.chunk_size(network, IMAGES, 10, 3) == 3
    assert budget.chunk_size(network, IMAGES, 10, 30) == 10


def test_less_memory_means_smaller_chunks_and_at_least_one():
    per_pass = budget.bytes_per_pass(trace_model(network, IMAGES)[0])
    assert budget.chunk_size(network, IMAGES, 1000) == budget.LARGEST
    assert budget.chunk_size(network, IMAGES, 1000, memory=5 * per_pass) == 5
    assert budget.chunk_size(network, IMAGES, 1000, memory=1) == 1


def test_a_pass_keeps_the_image_and_what_convolutions_and_rectifiers_give():
    per_pass = budget.bytes_per_pass(trace_model(network, IMAGES)[0])
    image, hidden, logits = 2 * 8 * 8 * 3, 2 * 8 * 8 * 4, 2 * 5
    assert per_pass == 4 * (image + 2 * hidden + logits)  # before and after the rectifier


def test_images_that_do_not_fit_are_refused_with_how_many_would(monkeypatch):
    per_pass = budget.bytes_per_pass(trace_model(network, IMAGES)[0])
    monkeypatch.setattr(budget, "total_bytes", lambda: per_pass // 2)
    x = IMAGES + 0
    with pytest.raises(ValueError, match="explain at most 1 at once") as error:
        jc.saliency(lambda x: network(x), x)
    assert "\n" not in str(error.value)
    monkeypatch.setattr(budget, "total_bytes", lambda: 100)
    with pytest.raises(ValueError, match="explain smaller images"):
        jc.saliency(lambda x: network(x), x)


def test_there_is_memory():
    assert budget.total_bytes() > 1 << 28
    assert np.isfinite(budget.total_bytes())
