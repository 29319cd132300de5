"""DeepLIFT: the paper's own numbers, slow numpy twins in float64, sums to the difference, whatever the network."""

import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from numpy.testing import assert_allclose

import jaxcam as jc
from jaxcam.program.transform import RuleError

sys.path.append(str(Path(__file__).parents[1] / "program"))
import program_nets as nets

RULES = ["rescale", "reveal_cancel"]
RNG = np.random.default_rng(0)
IMAGES = RNG.random((2, 6, 6, 3))


def normal(*shape):
    return RNG.normal(size=shape) * np.sqrt(2 / np.prod(shape[:-1]))


P = {
    "stem": normal(3, 3, 3, 4),
    "bias": 0.2 * RNG.normal(size=4),
    "inner": normal(3, 3, 4, 4),
    "scale": np.array([1.5, -0.7, 0.9, -1.2]),
    "mean": 0.3 * RNG.normal(size=4),
    "head": normal(4, 5),
    "wide": normal(8, 5),
}


def stem(p, x):
    return nets.convolve(x, p["stem"]) + p["bias"]


def norm(p, x):
    return (x - p["mean"]) * p["scale"] / jnp.sqrt(jnp.abs(p["mean"]) + 0.5) + p["bias"]


def max_pooled(p, x):
    return nets.max_pool(jax.nn.relu(stem(p, x))).mean((1, 2)) @ p["head"]


def overlapping_pool(p, x):
    return nets.max_pool(stem(p, x), 3, 2, "SAME").max((1, 2)) @ p["head"]


def residual(p, x):
    y = jax.nn.relu(stem(p, x))
    return jax.nn.relu(y + norm(p, nets.convolve(y, p["inner"]))).mean((1, 2)) @ p["head"] - 1.0


def functional_relu_used_twice(p, x):
    relu = lambda z: jnp.where(z > 0, z, 0)
    return relu(0.3 - relu(norm(p, stem(p, x)))).sum((1, 2)) @ p["head"]


def concatenated(p, x):
    y = stem(p, x)
    return jnp.concatenate([jax.nn.relu(y), jnp.tanh(-y)], -1).mean((1, 2)) @ p["wide"]


def average_pooled(p, x):
    y = jax.lax.reduce_window(jax.nn.relu6(9 * stem(p, x)), 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return jax.nn.leaky_relu(2.0 - y / 4).mean((1, 2)) @ p["head"]


NETS = [max_pooled, overlapping_pool, residual, functional_relu_used_twice, concatenated, average_pooled]


def net(function, dtype=jnp.float32):
    return Partial(function, {name: jnp.asarray(values, dtype) for name, values in P.items()})


def check_sums(model, x, baseline, rule, tolerance, target=2):
    maps = jc.deep_lift(model, x, target, baseline=baseline, rule=rule)
    expected = (model(x) - model(jnp.full_like(x, baseline)))[:, target]
    assert maps.shape == x.shape
    assert maps.dtype == x.dtype
    assert np.abs(expected).min() > 1e-3
    assert_allclose(maps.sum((1, 2, 3)), expected, rtol=0, atol=tolerance * max(1, np.abs(expected).max()))
    return maps


@pytest.mark.slow
@pytest.mark.evidence("deep_lift", kind="axiom", source="summation to delta")
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("function", NETS, ids=lambda f: f.__name__)
def test_maps_sum_to_the_difference_of_scores(function, rule):
    if rule == "rescale":
        check_sums(net(function), jnp.float32(IMAGES), 0.25, rule, 1e-5)
    with jax.enable_x64(True):
        check_sums(net(function, jnp.float64), jnp.asarray(IMAGES), 0.25, rule, 1e-10)


@pytest.mark.parametrize("kind", ["nnx", "equinox"])
def test_every_librarys_network_is_explained(kind):
    check_sums(nets.KINDS[kind](), nets.IMAGES, 0.5, "rescale", 1e-5)


ACTIVATIONS = {
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
    "elu": jax.nn.elu,
    "softplus": jax.nn.softplus,
    "mish": jax.nn.mish,
    "sigmoid": jax.nn.sigmoid,
    "hard swish": jax.nn.hard_swish,
    "square": lambda x: x * x,
    "mask": lambda x: x * (x > 0),
    "step": lambda x: (x > 0).astype(x.dtype),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_function_of_one_number_has_the_rule_however_it_is_written(name):
    def function(p, x):
        return ACTIVATIONS[name](stem(p, x)).mean((1, 2)) @ p["head"]

    with jax.enable_x64(True):
        model, x = net(function, jnp.float64), jnp.asarray(IMAGES)
        found = check_sums(model, x, 0.25, "rescale", 1e-10)
        # By hand: the quotient of differences after the convolution, sent back through it.
        z, start = stem(model.args[0], x), stem(model.args[0], jnp.full_like(x, 0.25))
        f = ACTIVATIONS[name]
        multiplier = (f(z) - f(start)) / (z - start) * model.args[0]["head"][:, 2] / 36
        back = jax.vjp(lambda x: nets.convolve(x, model.args[0]["stem"]), x)[1](multiplier)[0]
        assert_allclose(found, back * (x - 0.25), rtol=0, atol=1e-11)


def relu(z):
    return np.maximum(z, 0)


def rescale_in_numpy(x, start, layers):
    """Multipliers of a chain of dense layers with ReLUs between, one output."""
    zs, starts = [], []
    for w, b in layers:
        x, start = x @ w + b, start @ w + b
        zs, starts = [*zs, x], [*starts, start]
        x, start = relu(x), relu(start)
    multiplier = layers[-1][0][:, 0]
    for (w, _), z, z0 in zip(layers[-2::-1], zs[-2::-1], starts[-2::-1], strict=True):
        quotient = [(relu(a) - relu(b)) / (a - b) if a != b else float(a > 0) for a, b in zip(z, z0, strict=True)]
        multiplier = w @ (quotient * multiplier)
    return multiplier


def reveal_cancel_in_numpy(x, start, layers):
    """The same by the paper's equations, every Δ⁺ and Δ⁻ on its own."""
    ways, ratios = [x - start], []
    for w, b in layers[:-1]:
        way, z0 = ways[-1], start @ w + b
        products = w * way[:, None]  # what input i does to unit j
        up, low = np.where(products > 0, products, 0).sum(0), np.where(products < 0, products, 0).sum(0)
        rise = (relu(z0 + up) - relu(z0) + relu(z0 + low + up) - relu(z0 + low)) / 2
        fall = (relu(z0 + low) - relu(z0) + relu(z0 + up + low) - relu(z0 + up)) / 2
        slope = (z0 + up + low > 0) * 1.0
        each = [
            np.divide(change, part, out=slope.copy(), where=part != 0) for change, part in ((rise, up), (fall, low))
        ]
        ratios.append(each)
        whole = rise + fall
        ways.append(np.where(np.abs(whole) < 1e-13, 0, whole))  # what rounding leaves of nothing
        start = relu(z0)
    multiplier = layers[-1][0][:, 0]
    for (w, _), way, (rise, fall) in zip(layers[-2::-1], ways[-2::-1], ratios[::-1], strict=True):
        below = np.zeros(len(w))
        for i, j in np.ndindex(w.shape):
            product = w[i, j] * way[i]
            share = rise[j] if product > 0 else fall[j] if product < 0 else (rise[j] + fall[j]) / 2
            below[i] += w[i, j] * share * multiplier[j]
        multiplier = below
    return multiplier


@pytest.mark.evidence("deep_lift", kind="twin", source="both rules in numpy, from the paper")
@pytest.mark.parametrize(("rule", "twin"), list(zip(RULES, (rescale_in_numpy, reveal_cancel_in_numpy), strict=True)))
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_dense_layers_are_the_slow_twins(rule, twin, depth):
    rng = np.random.default_rng(depth)
    widths = [12, 9, 7, 8][:depth]
    layers = [
        (rng.normal(size=(a, b)) / np.sqrt(a), 0.2 * rng.normal(size=b))
        for a, b in zip(widths, [*widths[1:], 1], strict=True)
    ]
    x, start = rng.random((2, 2, 2, 3)), rng.random((2, 2, 2, 3))
    start[0, 0, 0] = x[0, 0, 0]  # no difference at all

    def dense(layers, x):
        x = x.reshape(len(x), -1)
        for i, (w, b) in enumerate(layers):
            x = (jax.nn.relu(x) if i else x) @ w + b
        return x

    with jax.enable_x64(True):
        found = jc.deep_lift(Partial(dense, layers), jnp.asarray(x), 0, baseline=start, rule=rule)
    expected = [
        ((a - b).ravel() * twin(a.ravel(), b.ravel(), layers)).reshape(a.shape) for a, b in zip(x, start, strict=True)
    ]
    assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_a_convolution_with_batch_norm_is_the_matrix_that_it_is(rule):
    """Convolution, norm with scales of both signs and ReLU: the twin, on the dense Jacobian of the affine map."""
    rng = np.random.default_rng(3)
    x, start = rng.random((1, 4, 4, 3)), rng.random((1, 4, 4, 3))

    def function(p, x):
        return jax.nn.relu(norm(p, nets.convolve(x, p["stem"]))).mean((1, 2)) @ p["head"]

    with jax.enable_x64(True):
        p = net(function, jnp.float64).args[0]
        affine = lambda flat: norm(p, nets.convolve(flat.reshape(1, 4, 4, 3), p["stem"])).ravel()
        zero = jnp.zeros(48)
        first = (np.asarray(jax.jacobian(affine)(zero)).T, np.asarray(affine(zero)))
        last = (np.tile(P["head"][:, 2:3] / 16, (16, 1)), np.zeros(1))
        found = jc.deep_lift(net(function, jnp.float64), jnp.asarray(x), 2, baseline=start, rule=rule)
    twin = rescale_in_numpy if rule == "rescale" else reveal_cancel_in_numpy
    expected = (x - start).ravel() * twin(x.ravel(), start.ravel(), [first, last])
    assert_allclose(np.ravel(found), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("rule", "expected"), [("rescale", [0, 3]), ("reveal_cancel", [1.5, 1.5])])
def test_the_minimum_of_two_inputs_is_as_in_the_paper(rule, expected):
    """Shrikumar et al., section 3.5.2: min(a, b) = a − relu(a − b), of 5 and 3, from 0."""
    model = lambda x: x[:, 0, 0] - jax.nn.relu(x.reshape(-1, 2) @ jnp.array([[1.0], [-1.0]]))
    x = jnp.array([5.0, 3.0]).reshape(1, 1, 2, 1)
    assert_allclose(jc.deep_lift(model, x, 0, rule=rule).ravel(), expected, atol=1e-6)


def test_a_maximum_is_due_to_its_winners_then_and_now():
    model = lambda x: x.max((1, 2))
    rising = jc.deep_lift(model, jnp.array([1.0, 6.0]).reshape(1, 1, 2, 1), 0, baseline=np.float32([[[[4], [2]]]]))
    falling = jc.deep_lift(model, jnp.array([1.0, 2.0]).reshape(1, 1, 2, 1), 0, baseline=np.float32([[[[4], [2]]]]))
    assert rising.ravel().tolist() == [0, 2]
    assert falling.ravel().tolist() == [-2, 0]


@pytest.mark.evidence("deep_lift", kind="axiom", source="exact on a linear net")
@pytest.mark.parametrize("rule", RULES)
def test_on_a_linear_net_it_is_input_times_gradient(rule):
    model = net(lambda p, x: norm(p, stem(p, x)).mean((1, 2)) @ p["head"])
    x = jnp.float32(IMAGES)
    assert_allclose(jc.deep_lift(model, x, 1, rule=rule), jc.input_x_gradient(model, x, 1), rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_near_the_image_the_multipliers_are_the_gradient():
    with jax.enable_x64(True):
        model, x = net(residual, jnp.float64), jnp.asarray(IMAGES)
        found = jc.deep_lift(model, x, 1, baseline=IMAGES - 1e-9) / 1e-9
        assert_allclose(found, jc.saliency(model, x, 1), rtol=1e-4, atol=1e-6)


@pytest.mark.evidence("deep_lift", kind="axiom", source="its own baseline gets nothing")
@pytest.mark.parametrize("rule", RULES)
def test_the_image_as_its_own_baseline_gets_nothing(rule):
    maps = jc.deep_lift(net(max_pooled), jnp.float32(IMAGES), 1, baseline=np.float32(IMAGES), rule=rule)
    assert not maps.any()


@pytest.mark.slow
def test_nets_that_compute_the_same_are_explained_the_same():
    ways = [
        lambda z: jnp.maximum(z, 0),
        lambda z: jnp.where(z > 0, z, 0),
        lambda z: z * (z > 0),
        lambda z: (z + jnp.abs(z)) / 2,
        lambda z: jnp.clip(z, 0),
    ]
    found = [
        jc.deep_lift(
            net(functools.partial(lambda f, p, x: f(stem(p, x)).mean((1, 2)) @ p["head"], f)), jnp.float32(IMAGES), 1
        )
        for f in ways
    ]
    for other in found[1:]:
        assert_allclose(other, found[0], atol=2e-7)


TARGETS = {
    "per image": ([4, 0], lambda z: jnp.stack([z[0, 4], z[1, 0]])),
    "callable": (lambda z: z[:, 1] - 2 * z[:, 0], lambda z: z[:, 1] - 2 * z[:, 0]),
    "nonlinear": (lambda z: jnp.tanh(z[:, 1]), lambda z: jnp.tanh(z[:, 1])),
    "contrast": (jc.contrast(0, 3), lambda z: z[:, 0] - z[:, 3]),
}


@pytest.mark.parametrize("name", TARGETS)
def test_all_targets_are_explained(name):
    target, score = TARGETS[name]
    model, x = net(max_pooled), jnp.float32(IMAGES)
    maps = jc.deep_lift(model, x, target)
    assert_allclose(maps.sum((1, 2, 3)), score(model(x)) - score(model(0 * x)), atol=1e-5)


def test_a_hidden_unit_is_explained():
    model, x = jc.tap(nets.flax_nnx(), "block.conv"), nets.IMAGES
    maps = jc.deep_lift(model, x, 2)
    assert_allclose(maps.sum((1, 2, 3)), (model(x) - model(0 * x))[..., 2].sum((1, 2)), atol=1e-4)


def test_the_predicted_class_is_that_of_the_image():
    model, x = net(residual), jnp.float32(IMAGES)
    assert_allclose(jc.deep_lift(model, x), jc.deep_lift(model, x, np.asarray(model(x).argmax(-1))), rtol=1e-6)


def test_a_score_that_does_not_depend_on_the_image_gives_nothing():
    assert not jc.deep_lift(lambda x: jnp.ones((len(x), 3)), jnp.float32(IMAGES), 1).any()


WITHOUT_RULE = {
    "softmax": (lambda p, x: jax.nn.softmax(stem(p, x).mean((1, 2))), "'div' .* after layer"),
    "a product": (lambda p, x: (stem(p, x) * stem(p, x[:, ::-1])).mean((1, 2)), "'mul' giving .* after layer"),
    "a gate": (lambda p, x: (stem(p, x) * stem(p, x).mean((1, 2), keepdims=True)).mean((1, 2)), "'mul' giving"),
    "sorting": (lambda p, x: jnp.sort(stem(p, x).mean((1, 2))), "'sort' giving"),
    "a maximum of two": (lambda p, x: jnp.maximum(stem(p, x), stem(p, -x)).mean((1, 2)), "'max' giving"),
}


@pytest.mark.parametrize("name", WITHOUT_RULE)
def test_an_operation_without_a_rule_is_named(name):
    function, message = WITHOUT_RULE[name]
    with pytest.raises(RuleError, match=message) as error:
        jc.deep_lift(net(function), jnp.float32(IMAGES), 1)
    assert "\n" not in str(error.value)


def test_what_the_score_does_not_need_may_be_anything():
    function = lambda p, x: {"logits": max_pooled(p, x), "share": jax.nn.softmax(max_pooled(p, x))}
    maps = jc.deep_lift(net(function), jnp.float32(IMAGES), lambda out: out["logits"][:, 2])
    assert_allclose(maps, jc.deep_lift(net(max_pooled), jnp.float32(IMAGES), 2), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "rescaled"}, "no rule 'rescaled'; there are rescale, reveal_cancel; did you mean 'rescale'"),
        ({"baseline": np.zeros((3, 3))}, r"got shape \(3, 3\)"),
        ({"baseline": np.zeros((4, *IMAGES.shape))}, "a baseline is a number"),
        ({"target": 7}, "target 7 is out of range"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        jc.deep_lift(net(max_pooled), jnp.float32(IMAGES), **options)
    assert "\n" not in str(error.value)
