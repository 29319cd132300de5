"""The guided and the deconvnet backward pass, against slow twins written from the papers' formulas in plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from program_nets import HARDEST_FIRST, IMAGES, KINDS, convolve, max_pool

from jaxcam.program import deconv, guided, layers, patch, tap

RULES = {"gradient": lambda model: model, "guided": guided, "deconv": deconv}


def rectify_back(rule, z, r):
    """What passes a ReLU on the way back, from its input z and the relevance r of its output.

    Gradient: r where z > 0. Deconvnet (Zeiler and Fergus, 2014): r where r > 0. Guided (Springenberg et al., 2015,
    figure 1): r where both.
    """
    return {"gradient": r * (z > 0), "deconv": r * (r > 0), "guided": r * (z > 0) * (r > 0)}[rule]


def convolve_slowly(x, kernel, bias):
    """Cross-correlation with a border of one zero, image by image, pixel by pixel."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    z = np.zeros((*x.shape[:3], kernel.shape[3]))
    for n, i, j in np.ndindex(*x.shape[:3]):
        for u in range(kernel.shape[3]):
            z[n, i, j, u] = np.sum(padded[n, i : i + 3, j : j + 3] * kernel[..., u]) + bias[u]
    return z


def convolve_back(r, kernel, shape):
    """Every output's relevance goes to the pixels under its kernel, in proportion to the kernel."""
    padded = np.zeros((shape[0], shape[1] + 2, shape[2] + 2, shape[3]))
    for n, i, j, u in np.ndindex(*r.shape):
        padded[n, i : i + 3, j : j + 3] += r[n, i, j, u] * kernel[..., u]
    return padded[:, 1:-1, 1:-1]


def pool_slowly(x):
    pooled = np.zeros((x.shape[0], x.shape[1] // 2, x.shape[2] // 2, x.shape[3]))
    winners = {}
    for n, i, j, u in np.ndindex(*pooled.shape):
        window = x[n, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, u]
        place = int(np.argmax(window))  # the first on ties
        pooled[n, i, j, u] = window.flat[place]
        winners[n, i, j, u] = (n, 2 * i + place // 2, 2 * j + place % 2, u)
    return pooled, winners


def pool_back(r, winners, shape):
    """Unpooling with the switches: relevance goes where the maximum was."""
    back = np.zeros(shape)
    for place, winner in winners.items():
        back[winner] += r[place]
    return back


class Twin:
    """Convolution, ReLU, max pool, convolution, sum with a skip, ReLU, dense, ReLU, dense; by hand."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        shapes = {"first": (3, 3, 2, 3), "second": (3, 3, 3, 3), "hidden": (27, 6), "head": (6, 4)}
        self.p = {name: rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1]) / 2) for name, shape in shapes.items()}
        self.p |= {f"{name}_bias": rng.normal(size=shape[-1]) / 4 for name, shape in shapes.items()}
        self.x = rng.normal(size=(2, 6, 6, 2))

    def forward(self):
        p, s = self.p, {}
        s["z1"] = convolve_slowly(self.x, p["first"], p["first_bias"])
        s["pooled"], s["winners"] = pool_slowly(np.maximum(s["z1"], 0))
        s["z2"] = s["pooled"] + convolve_slowly(s["pooled"], p["second"], p["second_bias"])
        s["flat"] = np.maximum(s["z2"], 0).reshape(2, -1)
        s["z3"] = s["flat"] @ p["hidden"] + p["hidden_bias"]
        return np.maximum(s["z3"], 0) @ p["head"] + p["head_bias"], s

    def back(self, rule, relevance):
        """Relevance of the outputs (2, 4) ↦ of the image; and of the pooled value on the way."""
        p, (_, s) = self.p, self.forward()
        r = rectify_back(rule, s["z3"], relevance @ p["head"].T)
        r = rectify_back(rule, s["z2"], (r @ p["hidden"].T).reshape(s["z2"].shape))
        r = r + convolve_back(r, p["second"], s["pooled"].shape)
        pooled = r
        r = rectify_back(rule, s["z1"], pool_back(r, s["winners"], s["z1"].shape))
        return convolve_back(r, p["first"], self.x.shape), pooled

    def model(self, relu=jax.nn.relu):
        def apply(p, x):
            x = max_pool(relu(convolve(x, p["first"]) + p["first_bias"]))
            x = relu(x + convolve(x, p["second"]) + p["second_bias"])
            x = relu(x.reshape(x.shape[0], -1) @ p["hidden"] + p["hidden_bias"])
            return x @ p["head"] + p["head_bias"]

        return Partial(apply, {name: jnp.asarray(value) for name, value in self.p.items()})


@pytest.mark.evidence("guided_backprop", "deconvnet", "guided", "deconv", kind="twin", source="numpy, layer by layer")
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("rule", RULES)
def test_a_rule_equals_its_slow_twin(rule, seed):
    with jax.enable_x64(True):
        twin = Twin(seed)
        x, model = jnp.asarray(twin.x), twin.model()
        ruled = RULES[rule](model)
        relevance = np.random.default_rng(9).normal(size=(2, 4))
        image, pooled = twin.back(rule, relevance)
        outputs, pull = jax.vjp(ruled, x)
        np.testing.assert_allclose(outputs, twin.forward()[0], atol=1e-12)
        np.testing.assert_allclose(pull(jnp.asarray(relevance))[0], image, atol=1e-12)
        value = tap(model, "pool_0")(x)
        _, pull = jax.vjp(lambda a: patch(ruled, "pool_0")(x, a), value)
        np.testing.assert_allclose(pull(jnp.asarray(relevance))[0], pooled, atol=1e-12)


ZERO, ZEROS = np.zeros(1), jnp.zeros(1)
RELUS = {
    "jax.nn.relu": jax.nn.relu,
    "maximum(x, 0)": lambda x: jnp.maximum(x, 0),
    "maximum(0, x)": lambda x: jnp.maximum(0.0, x),
    "where(x > 0, x, 0)": lambda x: jnp.where(x > 0, x, 0),
    "where(x >= 0, x, 0)": lambda x: jnp.where(x >= 0, x, 0),
    "where(x < 0, 0, x)": lambda x: jnp.where(x < 0, 0, x),
    "where(less(0, x), x, 0)": lambda x: jnp.where(jnp.less(0, x), x, 0),
    "x * (x > 0)": lambda x: x * (x > 0),
    "(x > 0) * x": lambda x: (x > 0).astype(x.dtype) * x,
    "clip(x, min=0)": lambda x: jnp.clip(x, 0),
    "clamp(0, x, inf)": lambda x: jax.lax.clamp(jnp.zeros((), x.dtype), x, jnp.array(jnp.inf, x.dtype)),
    "maximum(x, zeros_like(x))": lambda x: jnp.maximum(x, jnp.zeros_like(x)),
    "maximum(x, a NumPy array of zeros)": lambda x: jnp.maximum(x, ZERO),
    "maximum(x, a JAX array of zeros)": lambda x: jnp.maximum(x, ZEROS.astype(x.dtype)),
    "select(x > 0, x, 0)": lambda x: jax.lax.select(x > 0, x, jnp.zeros_like(x)),
    "under jit": jax.jit(jax.jit(lambda x: jnp.maximum(x, 0))),
    "under checkpoint": jax.checkpoint(jax.nn.relu),
    "under vmap": jax.vmap(jax.nn.relu),
    "in a scan": lambda x: jax.lax.scan(lambda c, _: (jax.nn.relu(c), None), x, length=2)[0],
    "twice": lambda x: jax.nn.relu(jax.nn.relu(x)),
}


@pytest.mark.parametrize("name", RELUS)
def test_a_relu_is_found_however_it_is_written(name):
    with jax.enable_x64(True):
        twin = Twin(0)
        x, model = jnp.asarray(twin.x), twin.model(RELUS[name])
        relevance = np.random.default_rng(9).normal(size=(2, 4))
        for rule in ("guided", "deconv"):
            outputs, pull = jax.vjp(RULES[rule](model), x)
            np.testing.assert_allclose(outputs, twin.forward()[0], atol=1e-12)
            np.testing.assert_allclose(pull(jnp.asarray(relevance))[0], twin.back(rule, relevance)[0], atol=1e-12)


def test_a_relu_belongs_to_its_layer_however_it_is_written():
    for name in RELUS.keys() - {"twice", "in a scan"}:
        found = [layer.name for layer in layers(Twin(0).model(RELUS[name]), jnp.ones((2, 6, 6, 2)))]
        assert found == ["first", "pool_0", "second", "add_0", "hidden", "head"], name


def test_one_relu_object_used_twice_is_replaced_at_both_places():
    relu = jax.jit(jax.nn.relu)
    model = lambda x: relu(-relu(x))
    x = jnp.array([[1.0, -1.0]])
    r = jnp.array([[1.0, 1.0]])
    # Back through the outer ReLU nothing passes (its input is −1 and 0), through a deconvnet's ReLU everything positive
    # does; then the sign turns, so the inner one stops all of it.
    np.testing.assert_array_equal(jax.vjp(guided(model), x)[1](r)[0], [[0, 0]])
    np.testing.assert_array_equal(jax.vjp(deconv(model), x)[1](r)[0], [[0, 0]])
    np.testing.assert_array_equal(jax.vjp(deconv(model), x)[1](-r)[0], [[0, 0]])


CLIPPED = {
    "jax.nn.relu6": jax.nn.relu6,
    "clip(x, 0, 6)": lambda x: jnp.clip(x, 0, 6),
    "clamp(0, x, 6)": lambda x: jax.lax.clamp(0.0, x, 6.0),
    "minimum(maximum(x, 0), 6)": lambda x: jnp.minimum(6, jnp.maximum(x, 0)),
    "maximum(minimum(x, 6), 0)": lambda x: jnp.maximum(0, jnp.minimum(x, 6)),
    "minimum(relu(x), 6)": lambda x: jnp.minimum(jax.nn.relu(x), 6.0),
}
LEAKY = {
    "jax.nn.leaky_relu": lambda x: jax.nn.leaky_relu(x, 0.25),
    "maximum(x, x / 4)": lambda x: jnp.maximum(x, x / 4),
    "maximum(0.25 x, x)": lambda x: jnp.maximum(0.25 * x, x),
    "where(x > 0, x, 0.25 x)": lambda x: jnp.where(x > 0, x, 0.25 * x),
    "where(x < 0, 0.25 x, x)": lambda x: jnp.where(x < 0, 0.25 * x, x),
}


@pytest.mark.parametrize("name", CLIPPED)
def test_relu6_is_one_rectifier_however_it_is_written(name):
    rectify = CLIPPED[name]
    model = lambda x: rectify(x @ jnp.eye(3))
    x, r = jnp.array([[-1.0, 3.0, 9.0]] * 2), jnp.array([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]])
    np.testing.assert_array_equal(tap(model, "dense_0")(x), [[0, 3, 6]] * 2)
    assert len(layers(model, x)) == 1
    np.testing.assert_array_equal(jax.vjp(guided(model), x)[1](r)[0], [[0, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(jax.vjp(deconv(model), x)[1](r)[0], [[1, 1, 1], [0, 0, 0]])


@pytest.mark.parametrize("name", LEAKY)
def test_leaky_relu_is_one_rectifier_however_it_is_written(name):
    rectify = LEAKY[name]
    model = lambda x: rectify(x @ jnp.eye(2))
    x, r = jnp.array([[-4.0, 4.0]] * 2), jnp.array([[1.0, 1.0], [-1.0, -1.0]])
    np.testing.assert_array_equal(tap(model, "dense_0")(x), [[-1, 4]] * 2)
    np.testing.assert_array_equal(jax.vjp(guided(model), x)[1](r)[0], [[0.25, 1], [0, 0]])
    np.testing.assert_array_equal(jax.vjp(deconv(model), x)[1](r)[0], [[1, 1], [0, 0]])


def test_a_relu_read_before_its_clipping_keeps_both_readers():
    def model(x):
        y = jax.nn.relu(x)
        return jnp.minimum(y, 6) + y

    x, r = jnp.array([[-1.0, 3.0, 9.0]]), jnp.ones((1, 3))
    np.testing.assert_array_equal(guided(model)(x), model(x))
    np.testing.assert_array_equal(jax.vjp(guided(model), x)[1](r)[0], [[0, 2, 1]])
    np.testing.assert_array_equal(patch(model, "add_0")(x, tap(model, "add_0")(x)), model(x))


@pytest.mark.parametrize("kind", HARDEST_FIRST)
def test_a_rule_changes_no_value_and_holds_under_jit_vmap_and_grad(kind):
    model = KINDS[kind]()
    # Equinox compiles its own vmap, a replay does not: the last bit of a sum may differ.
    np.testing.assert_allclose(deconv(model)(IMAGES), model(IMAGES), rtol=1e-6)
    ruled = guided(model)
    np.testing.assert_allclose(ruled(IMAGES), model(IMAGES), rtol=1e-6)
    gradient = jax.jit(jax.grad(lambda x: ruled(x)[:, 1].sum()))(IMAGES)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient - jax.jit(jax.grad(lambda x: model(x)[:, 1].sum()))(IMAGES)).max() > 1e-4
    one = jax.jit(jax.vmap(jax.grad(lambda image: ruled(image[None])[0, 1])))(IMAGES)
    np.testing.assert_allclose(one, gradient, atol=1e-5)


def test_a_rule_reaches_the_layers_below_a_tap():
    twin = Twin(0)
    model, x = twin.model(), jnp.asarray(twin.x, jnp.float32)
    seed = jnp.zeros((2, 3, 3, 3)).at[..., 1].set(1.0)
    for one in (tap(guided(model), "add_0"), guided(tap(model, "add_0"))):
        np.testing.assert_allclose(
            jax.vjp(one, x)[1](seed)[0], jax.vjp(tap(guided(model), "add_0"), x)[1](seed)[0], atol=1e-6
        )
    assert np.abs(jax.vjp(tap(model, "add_0"), x)[1](seed)[0] - jax.vjp(one, x)[1](seed)[0]).max() > 1e-3


REFUSED = {
    "tanh": (jnp.tanh, "tanh"),
    "softmax": (jax.nn.softmax, "exp"),
    "gelu": (jax.nn.gelu, "integer_pow|mul"),
    "sigmoid": (jax.nn.sigmoid, "logistic"),
    "softplus": (jax.nn.softplus, "custom_jvp_call"),
    "elu": (jax.nn.elu, "select_n"),
    "hard_tanh": (jax.nn.hard_tanh, "select_n"),
    "abs": (jnp.abs, "abs"),
    "square": (lambda x: x * x, "mul"),
    "minimum(x, 0)": (lambda x: jnp.minimum(x, 0), "min"),
    "where(x > 1, x, 0)": (lambda x: jnp.where(x > 1, x, 0), "select_n"),
    "clip(x, -1, 1)": (lambda x: jnp.clip(x, -1, 1), "max|clamp"),
    "a cond": (lambda x: jax.lax.cond(x.sum() > 0, jax.nn.relu, jnp.negative, x), "cond"),
    "a while loop": (lambda x: jax.lax.while_loop(lambda c: c.sum() > 5, lambda c: c / 2, x), "while"),
    "attention": (lambda x: jnp.einsum("nhwc,nhwd->nhwcd", x, x).sum(-1), "dot_general|mul"),
}


@pytest.mark.parametrize("rule", ["guided", "deconv"])
@pytest.mark.parametrize("name", REFUSED)
def test_an_operation_without_a_rule_is_refused_by_its_name_and_layer(name, rule):
    bend, operation = REFUSED[name]
    model = lambda x: bend(convolve(x, jnp.ones((3, 3, 3, 2)))).mean((1, 2))
    with pytest.raises(
        ValueError, match=rf"the {rule} rule .* equation \d+, '({operation})' .* layer 'conv_0'"
    ) as error:
        RULES[rule](model)(IMAGES)
    assert "\n" not in str(error.value)


def test_a_learned_slope_is_refused_and_not_taken_for_linear():
    model = Partial(lambda slope, x: jnp.where(x > 0, x, slope * x), jnp.full(3, 0.25))
    with pytest.raises(ValueError, match=r"'select_n'.*after the input"):
        guided(model)(IMAGES)


def test_what_is_linear_or_selects_needs_no_rule():
    def model(x):
        x = jnp.pad(x[:, ::2], ((0, 0), (1, 1), (0, 0), (0, 0))) / 2 - 1
        x = jnp.concatenate([x, jnp.flip(x, 1)], -1).at[:, 0].set(0.0)
        x = jnp.maximum(x, jnp.roll(x, 1, axis=2))  # maxout
        x = jnp.stack([x, 2 * x]).sum(0) + jnp.cumsum(x, 1) + jnp.sort(x, 1)
        x = jnp.where(np.arange(6) % 2 > 0, x, 0)
        return x.max((1, 2)) @ jnp.ones((6, 2)) + x.reshape(x.shape[0], -1)[:, jnp.array([0, 5])]

    both = lambda function: jax.jit(jax.value_and_grad(lambda x: function(x).sum()))(IMAGES)
    for rule in ("guided", "deconv"):
        for found, expected in zip(both(RULES[rule](model)), both(model), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.evidence("guided", "deconv", kind="axiom", source="a linear model has its gradient")
def test_a_rule_on_a_linear_model_is_its_gradient():
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5)), jnp.float32)
    model = lambda x: x.mean((1, 2)) @ kernel
    for rule in RULES.values():
        gradient = jax.grad(lambda x, rule=rule: rule(model)(x)[:, 0].sum())(IMAGES)
        np.testing.assert_allclose(gradient, np.broadcast_to(kernel[:, 0] / 64, IMAGES.shape), rtol=1e-5)


def test_a_users_own_derivative_is_kept_by_the_guided_rule():
    @jax.custom_vjp
    def doubling_relu(x):
        return jnp.maximum(x, 0)

    doubling_relu.defvjp(lambda x: (doubling_relu(x), x > 0), lambda mask, r: (2 * r * mask,))
    x, r = jnp.array([[1.0, -1.0]] * 2), jnp.array([[1.0, 1.0], [-1.0, -1.0]])
    np.testing.assert_array_equal(jax.vjp(guided(doubling_relu), x)[1](r)[0], [[2, 0], [0, 0]])
