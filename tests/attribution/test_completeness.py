"""A map that breaks its method's own completeness is an error: what a faulty kernel computes looks like any map."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam as jc
from jaxcam.attribution import completeness, paths
from jaxcam.attribution.asking import Question
from jaxcam.program.trace import trace_model

KEY = jax.random.key(3)
X = jax.random.uniform(jax.random.key(0), (2, 6, 6, 3))
KERNEL = jax.random.normal(jax.random.key(1), (3, 3, 3, 4))
WEIGHTS = jax.random.normal(jax.random.key(2), (4, 3))


def net(x):
    z = jax.nn.relu(jax.lax.conv_general_dilated(x, KERNEL, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")))
    return z.mean((1, 2)) @ WEIGHTS


@jax.custom_vjp
def faulty(x):
    """x, with a backward pass as of memory that nobody wrote; the second image's is right."""
    return x


faulty.defvjp(lambda x: (x, None), lambda _, d: (d * jnp.array([1e16, 1.0]).reshape(2, 1, 1, 1)[: len(d)],))

PATHS = {
    "integrated_gradients": lambda model, x, **o: jc.integrated_gradients(model, x, 1, steps=4, **o),
    "blur_integrated_gradients": lambda model, x, **o: jc.blur_integrated_gradients(model, x, 1, steps=4, **o),
    "guided_integrated_gradients": lambda model, x, **o: jc.guided_integrated_gradients(model, x, 1, steps=4, **o),
}
EXACT = {
    "deep_lift": lambda x: jc.deep_lift(net, x, 1),
    "shapley_values": lambda x: jc.shapley_values(net, x, 1, segments="grid"),
    "kernel_shap, all": lambda x: jc.kernel_shap(net, x, 1, segments=jnp.arange(36).reshape(1, 6, 6).repeat(2, 0) // 6),
    "kernel_shap": lambda x: jc.kernel_shap(
        net, x, 1, segments=jnp.arange(36).reshape(1, 6, 6).repeat(2, 0) // 4, samples=40, key=KEY
    ),
}


@pytest.mark.parametrize("name", PATHS)
def test_a_path_with_impossible_gradients_is_an_error(name):
    assert np.isfinite(PATHS[name](net, X)).all()
    with pytest.raises(ValueError, match=rf"^{name}: the map of image 0 sums to -?\d.*e\+1\d, and .* take more steps"):
        PATHS[name](lambda x: net(faulty(x)), X)


@pytest.mark.parametrize("name", PATHS)
def test_so_is_one_asked_for_its_gap(name):
    with pytest.raises(ValueError, match="must sum to"):
        PATHS[name](lambda x: net(faulty(x)), X, completeness=True)


@pytest.mark.parametrize("name", PATHS)
def test_what_is_traced_is_not_held_to_it(name):
    assert np.abs(jax.jit(lambda x: PATHS[name](lambda x: net(faulty(x)), x))(X)).max() > 1e10


def test_only_the_mean_over_several_baselines_owes_anything():
    starts = jnp.stack([jnp.zeros_like(X), jnp.ones_like(X)])
    assert np.isfinite(jc.integrated_gradients(net, X, 1, baseline=starts)).all()


def test_a_coarse_quadrature_is_no_error():
    steep = lambda x: jax.nn.sigmoid(300 * (x.mean((1, 2)) - 0.31))
    _, gap = jc.integrated_gradients(steep, X, 0, steps=2, completeness=True)
    assert np.abs(gap).max() > 0.3


@pytest.mark.parametrize("name", EXACT)
def test_exact_methods_are_held_to_rounding(name, monkeypatch):
    assert np.isfinite(EXACT[name](X)).all()
    # As if what they return were not what they computed.
    monkeypatch.setattr(completeness, "ROUNDING", -1.0)
    with pytest.raises(
        ValueError, match=rf"^{name.split(',')[0]}: the map of image \d sums to .* no rounding explains"
    ):
        EXACT[name](X)


SIDES = tuple(np.array(numbers) for numbers in ([1.0, 2.0], [1.0, 2.0], [1.0, 1.0], [0.0, 0.0]))


def change(side, image, value):
    return tuple(np.where([i == image for i in range(2)], value, p) if n == side else p for n, p in enumerate(SIDES))


@pytest.mark.parametrize("eps", [2.0**-52, 2.0**-23, 2.0**-8])
def test_what_is_more_than_rounding(eps):
    allowed = 8 * eps**0.5
    completeness.check_complete("m", change(0, 1, 2 + 0.9 * allowed), eps)
    completeness.check_complete("m", change(0, 1, 2 - 0.9 * allowed), eps)
    for wrong in (2 + 1.1 * allowed, 2 - 1.1 * allowed, np.nan, np.inf):
        with pytest.raises(ValueError, match=r"^m: the map of image 1 sums to .* must sum to 2: no rounding explains"):
            completeness.check_complete("m", change(0, 1, wrong), eps)
    slack = np.array([0.0, 0.5])
    completeness.check_complete("m", (*change(0, 1, 2.5 + 0.9 * allowed)[:3], slack), eps)
    with pytest.raises(ValueError, match="too few steps"):
        completeness.check_complete("m", (*change(0, 1, 2.5 + 1.1 * allowed)[:3], slack), eps)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_the_coarsest_numbers_of_a_program_set_its_rounding(dtype):
    found = completeness.unit_roundoff(trace_model(lambda x: net(x.astype(dtype).astype(jnp.float32)), X)[0])
    assert found == float(jnp.finfo(dtype).eps)


def test_an_accelerator_rounds_products_of_float32_to_bfloat16(monkeypatch):
    program = trace_model(net, X)[0]
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert completeness.unit_roundoff(program) == 2.0**-7
    whole = trace_model(lambda x: (x > 0).sum((1, 2)), X.astype(jnp.float16))[0]
    assert completeness.unit_roundoff(whole) == 2.0**-10


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_path_is_held_to_how_far_the_score_moves_on_it_up_or_down(sign):
    question = Question(lambda x: sign * x.sum((1, 2, 3))[:, None], jnp.asarray(0))
    x, zero = jnp.full((2, 4, 4, 1), 0.5), jnp.zeros((2, 4, 4, 1))
    rest = (5, "riemann_middle", 2, False)
    straight = paths._integrated_gradients(question, x, zero, *rest)
    several = paths._integrated_gradients(question, x, jnp.stack([zero, -zero]), *rest)
    guided = paths._guided_integrated_gradients(question, x, zero, jnp.asarray(0.25), jnp.asarray(0.1), 5, False)
    for found, moved in ((straight, 4.0), (several, 4.0), (guided, 3.2)):  # of 8; the guided path asks at its left ends
        np.testing.assert_allclose(found.owed, 8 * sign, rtol=1e-6)
        np.testing.assert_allclose(found.total, 8 * sign, rtol=1e-6)
        np.testing.assert_allclose(found.slack, 1000 * (moved + 8), rtol=1e-5)
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 1)), jnp.float32)
    blurry = paths._blur_integrated_gradients(
        Question(lambda x: sign * (x * kernel[: len(x)]).sum((1, 2, 3))[:, None], jnp.asarray(0)),
        kernel,
        jnp.asarray(1.0),
        *rest,
    )
    assert (blurry.owed * sign > 0).all()
    assert (blurry.slack > 1000 * jnp.abs(blurry.owed) * 1.05).all()
