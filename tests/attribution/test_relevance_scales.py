"""Batch norms, normalizations and shifts wherever they stand: with ε → 0, relevance is input times gradient.

The score's own gradient is the independent side here: a network of ReLUs is linear around an image, and the ε rule with
ε → 0 hands on xᵢ·∂s/∂xᵢ at every value. Whatever an equation does not hand on is what its bias contributed.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from jax.tree_util import Partial
from relevance_twins import convolve

import jaxcam as jc
from jaxcam.attribution import rules
from jaxcam.attribution.composites import COMPOSITES, Composite
from jaxcam.attribution.rules import Epsilon, Gamma, Norm, ZPlus

relu = jax.nn.relu


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def normal(*shape, seed):
    """Weights at He's scale."""
    return np.random.default_rng(seed).normal(size=shape) * np.sqrt(2 / np.prod(shape[:-1]))


def images(dtype=jnp.float64):
    return jnp.asarray(np.random.default_rng(0).uniform(size=(2, 8, 8, 3)), dtype)


def conv(x, units, seed, size=3, **options):
    groups = options.get("feature_group_count", 1)
    kernel = jnp.asarray(normal(size, size, x.shape[-1] // groups, units, seed=seed), x.dtype)
    return convolve(x, kernel, padding=options.pop("padding", "SAME"), **options)


def statistics(channels, seed, dtype):
    rng = np.random.default_rng(100 + seed)
    mean, scale, shift = (rng.normal(size=channels) * size for size in (0.3, 1.0, 0.5))
    return tuple(jnp.asarray(a, dtype) for a in (mean, rng.uniform(0.5, 2, channels), scale, shift))


def batch_norm(x, seed=0):
    """Inference mode, with factors of both signs."""
    mean, variance, scale, shift = statistics(x.shape[-1], seed, x.dtype)
    return (x - mean) / jnp.sqrt(variance + 1e-5) * scale + shift


def scale_and_shift(x, seed=0):
    *_, scale, shift = statistics(x.shape[-1], seed, x.dtype)
    return x * scale + shift


def head(x):
    x = relu(x).mean((1, 2))
    return x @ jnp.asarray(normal(x.shape[-1], 5, seed=9), x.dtype)


def average_pool(x):
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4


def max_pool(x):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def dense_net(x):
    """Two dense layers and a transition, as DenseNet has them: every batch norm comes before a ReLU."""
    x = conv(x, 4, 1)
    for seed in (2, 5):
        y = conv(relu(batch_norm(x, seed)), 6, seed, 1)
        x = jnp.concatenate([x, conv(relu(batch_norm(y, seed + 1)), 3, seed + 1)], -1)
        if seed == 2:
            x = average_pool(conv(relu(batch_norm(x, 4)), 5, 4, 1))
    return head(batch_norm(x, 30))


def pre_activation(x):
    """Residual blocks whose batch norms and ReLUs come first."""
    x = conv(x, 4, 1)
    for seed in (2, 4):
        y = conv(relu(batch_norm(x, seed)), 4, seed)
        x = x + conv(relu(batch_norm(y, seed + 1)), 4, seed + 1)
    return head(batch_norm(x, 6))


def both_ways(join):
    def net(x):
        z = batch_norm(x)
        return head(join(conv(z, 3, 1), z))

    return net


def after_first(body):
    return lambda x: body(relu(conv(x, 4, 1)))


# By name: a ReLU network with a batch norm, a shift or a normalization in one more place.
NETS = {
    "DenseNet": dense_net,
    "pre-activation": pre_activation,
    "before a convolution": after_first(lambda x: head(conv(batch_norm(x), 4, 2))),
    "before a convolution, x·scale + shift": after_first(lambda x: head(conv(scale_and_shift(x), 4, 2))),
    "before groups": after_first(lambda x: head(conv(batch_norm(x), 4, 2, feature_group_count=2))),
    "before a depthwise convolution": after_first(lambda x: head(conv(batch_norm(x), 8, 2, feature_group_count=4))),
    "before a padding": after_first(
        lambda x: head(conv(jnp.pad(batch_norm(x), ((0, 0), (1, 1), (2, 0), (0, 0))), 4, 2, padding="VALID"))
    ),
    "before a crop": after_first(lambda x: head(conv(batch_norm(x)[:, 1:-1, ::2], 4, 2))),
    "before a pool": after_first(lambda x: head(conv(max_pool(batch_norm(x)), 4, 2))),
    "before an average pool": after_first(lambda x: average_pool(batch_norm(x)).reshape(2, -1) @ normal(64, 5, seed=2)),
    "before a dense layer": after_first(lambda x: batch_norm(x.mean((1, 2))) @ normal(4, 5, seed=2)),
    "before a flattening": after_first(lambda x: batch_norm(x).reshape(2, -1) @ normal(256, 5, seed=2)),
    "before a subtraction": after_first(lambda x: head(conv(0.7 - x, 4, 2))),
    "at the input": lambda x: head(conv(batch_norm(x), 4, 1)),
    "at the input, read twice": both_ways(lambda y, z: y + conv(z, 3, 2)),
    "at the input, read by a skip": both_ways(lambda y, z: y + z),
    "at the input, read by a concatenation": both_ways(lambda y, z: jnp.concatenate([y, z], -1)),
    "a mean image": lambda x: head(conv((x - np.random.default_rng(1).uniform(size=(8, 8, 3))) / 0.3, 4, 1)),
    "a scale for each pixel": lambda x: head(conv((x * np.linspace(1, 2, 8)[:, None, None] - 0.3) * 2 + 0.1, 4, 1)),
    "space to depth": lambda x: head(
        conv(batch_norm(x).reshape(2, 4, 2, 4, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 4, 4, 12), 4, 1)
    ),
    "after an addition": after_first(lambda x: head(batch_norm(x + conv(x, 4, 2)))),
    "a bias after an addition": after_first(lambda x: head(x + conv(x, 4, 2) + normal(4, seed=3))),
    "after a concatenation": after_first(lambda x: head(batch_norm(jnp.concatenate([x, conv(x, 4, 2)], -1)))),
    "after a max pool": after_first(lambda x: head(batch_norm(max_pool(x)))),
    "after a mean": after_first(lambda x: relu(batch_norm(x.mean((1, 2)))) @ normal(4, 5, seed=2)),
    "at the output": after_first(lambda x: batch_norm(x.mean((1, 2)))),
}
FEW = ("pre-activation", "at the input", "before groups")


def vanishing(epsilon):
    return Composite(Epsilon(epsilon), Epsilon(epsilon), Norm(epsilon), Norm(epsilon))


def input_times_gradient(net, x, target=3):
    return np.asarray(x * jax.grad(lambda x: net(x)[:, target].sum())(x), np.float64)


def error(ours, wanted):
    return np.abs(np.asarray(ours, np.float64) - wanted).max() / np.abs(wanted).max()


@pytest.mark.evidence("lrp", kind="axiom", source="ε → 0: input times gradient, batch norms anywhere", tolerance=1e-9)
@pytest.mark.parametrize("name", NETS)
def test_as_epsilon_vanishes_relevance_is_input_times_gradient(name, float64, measured):
    net, x = NETS[name], images()
    found = error(jc.lrp(net, x, 3, composite=vanishing(1e-14)), input_times_gradient(net, x))
    measured("lrp", found)
    assert found < 1e-9


@pytest.mark.parametrize("name", [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in NETS])
def test_in_single_precision_it_is_so_to_a_thousandth(name):
    def net(x):
        return NETS[name](x).astype(jnp.float32)

    x = images(jnp.float32)
    assert error(jc.lrp(net, x, 3, composite=vanishing(1e-9)), input_times_gradient(net, x)) < 1e-3


# In the words of each library.


class Nnx(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.stem = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.norms = nnx.List([nnx.BatchNorm(n, use_running_average=True, rngs=rngs) for n in (3, 4, 8)])
        self.conv = nnx.Conv(4, 4, (3, 3), rngs=rngs)
        self.head = nnx.Linear(8, 5, rngs=rngs)
        for seed, norm in enumerate(self.norms):
            values = statistics(norm.num_features, seed, jnp.float32)
            norm.mean[...], norm.var[...], norm.scale[...], norm.bias[...] = values

    def __call__(self, x):
        x = self.stem(self.norms[0](x))
        x = jnp.concatenate([x, self.conv(nnx.relu(self.norms[1](x)))], -1)
        return self.head(nnx.relu(self.norms[2](x)).mean((1, 2)))


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x):
        norm = functools.partial(linen.BatchNorm, use_running_average=True)
        x = linen.Conv(4, (3, 3), dtype=x.dtype)(norm()(x))
        x = jnp.concatenate([x, linen.Conv(4, (3, 3), dtype=x.dtype)(linen.relu(norm()(x)))], -1)
        return linen.Dense(5, dtype=x.dtype)(linen.relu(norm()(x)).mean((1, 2)))


def from_linen():
    variables = Linen().init(jax.random.key(0), images())
    rng = np.random.default_rng(3)
    shaken = jax.tree_util.tree_map(lambda a: jnp.asarray(a + rng.uniform(0.1, 0.6, a.shape)), variables)
    return Partial(Linen().apply, shaken)


class Equinox(eqx.Module):
    """Channels first, one image at a time, the batch norm's statistics in a state of Equinox's own."""

    stem: eqx.nn.Conv2d
    conv: eqx.nn.Conv2d
    norms: list
    head: eqx.nn.Linear
    state: eqx.nn.State

    def __init__(self):
        keys = jax.random.split(jax.random.key(0), 3)
        self.stem = eqx.nn.Conv2d(3, 4, 3, padding=1, key=keys[0], dtype=jnp.float64)
        self.conv = eqx.nn.Conv2d(4, 4, 3, padding=1, key=keys[1], dtype=jnp.float64)
        self.head = eqx.nn.Linear(8, 5, key=keys[2], dtype=jnp.float64)
        norms = [eqx.nn.BatchNorm(n, "batch", mode="batch", dtype=jnp.float64, inference=True) for n in (3, 4, 8)]
        values = [statistics(norm.input_size, seed, jnp.float64) for seed, norm in enumerate(norms)]
        state = eqx.nn.State(norms)
        for norm, (mean, variance, _, _) in zip(norms, values, strict=True):
            state = state.set(norm.batch_state_index, (mean, variance))
            state = state.set(norm.batch_counter, jnp.array(1))
        change = lambda norm, v: eqx.tree_at(lambda n: (n.weight, n.bias), norm, v[2:])
        self.norms, self.state = [change(norm, v) for norm, v in zip(norms, values, strict=True)], state

    def __call__(self, x):
        def one(image):
            norms = [lambda x, norm=norm: norm(x, self.state)[0] for norm in self.norms]
            x = self.stem(norms[0](jnp.moveaxis(image, -1, 0)))
            x = jnp.concatenate([x, self.conv(relu(norms[1](x)))], 0)
            return self.head(relu(norms[2](x)).mean((1, 2)))

        return jax.vmap(one, axis_name="batch")(x)


LIBRARIES = {"nnx": Nnx, "linen": from_linen, "equinox": Equinox}


@pytest.mark.parametrize(
    "library", ["equinox", *(pytest.param(name, marks=pytest.mark.slow) for name in ("nnx", "linen"))]
)
def test_whoever_wrote_the_batch_norm(library, float64):
    net, x = LIBRARIES[library](), images()
    ours = jc.lrp(net, x, 3, composite=vanishing(1e-14))
    assert error(ours, input_times_gradient(net, x)) < 1e-9
    kinds = [row.kind for row in jc.audit(net, x)]
    assert kinds.count("scale") == 2  # before the ReLUs; the one at the input belongs to the first convolution
    assert "scale" not in kinds[: kinds.index("conv") + 1]


# The account, equation by equation.


@pytest.mark.evidence("conservation", kind="axiom", source="what an equation does not hand on, its biases kept")
@pytest.mark.parametrize("name", [*FEW, pytest.param("DenseNet", marks=pytest.mark.slow)])
def test_an_equation_hands_on_what_it_received_less_what_its_biases_kept(name, float64):
    net, x = NETS[name], images()
    for composite in (vanishing(1e-14), vanishing(1e-14).with_rules({"conv": Gamma(0.25, 1e-14)})):
        balances = jc.conservation(net, x, 3, composite=composite)
        assert [balance.row for balance in balances] == jc.audit(net, x, composite)
        for balance in balances:
            missing = balance.received - balance.passed - balance.biases
            largest = max(1.0, np.abs(balance.received).max(), np.abs(balance.biases).max())
            assert np.abs(missing).max() < 1e-9 * largest, balance.row
            assert balance.row.kind in {"conv", "dense", "scale"} or not np.any(balance.biases)
        total = jc.lrp(net, x, 3, composite=composite).sum((1, 2, 3)) + sum(balance.biases for balance in balances)
        np.testing.assert_allclose(total, net(x)[:, 3], rtol=1e-9)


def test_a_shift_keeps_what_it_contributed(float64):
    """By hand: z = a·x + b with R = z hands on a·x, and b is what is left."""
    *_, scale, shift = statistics(3, 0, jnp.float64)
    net = lambda x: (x * scale + shift).sum((1, 2))
    x = images()
    maps = jc.lrp(net, x, 1, composite=vanishing(1e-14))
    np.testing.assert_allclose(maps[..., 1], x[..., 1] * scale[1], rtol=1e-9)
    scales = [balance for balance in jc.conservation(net, x, 1, composite=vanishing(1e-14)) if balance.biases.any()]
    assert [balance.row.kind for balance in scales] == ["scale"]
    np.testing.assert_allclose(scales[0].biases, 64 * shift[1], rtol=1e-9)


# Which rule a batch norm gets.


def rule_of_scales(composite):
    (found,) = {row.rule for row in jc.audit(pre_activation, images(jnp.float32), composite) if row.kind == "scale"}
    return found


def test_the_rule_of_scales_follows_from_that_of_convolutions():
    tiny = {"stabilizer": 1e-9}
    wanted = {
        Epsilon(0.1): Epsilon(0.1),
        Gamma(0.5): Gamma(0.5),
        rules.Flat(): rules.Flat(),
        ZPlus(**tiny): Gamma(np.inf, **tiny),
        rules.AlphaBeta(**tiny): Gamma(np.inf, **tiny),
        rules.ZeroBias(ZPlus(**tiny)): rules.ZeroBias(Gamma(np.inf, **tiny)),
    }
    for rule, alone in wanted.items():
        assert rule_of_scales(Composite(conv=rule)) == repr(alone)
    assert rule_of_scales(Composite(conv=rules.ZBox())) == "pass"
    assert rule_of_scales(Composite(scale=Epsilon(0.1))) == repr(Epsilon(0.1))
    assert rule_of_scales(jc.composites.epsilon_plus().with_rules({"scale": rules.Pass()})) == "pass"
    named = jc.composites.epsilon_plus().with_rules({"*": Epsilon()})
    assert rule_of_scales(named) == repr(Gamma(np.inf))


@pytest.mark.parametrize(
    ("rule", "message"),
    [(Norm(), r"scale takes a rule such as ZPlus\(\); got Norm"), (3, r"scale takes a rule such as ZPlus\(\); got 3")],
)
def test_a_rule_that_does_not_fit_scales_is_refused(rule, message):
    with pytest.raises(TypeError, match=message):
        jc.composites.epsilon_plus().with_rules({"scale": rule})


def test_the_pass_rule_is_for_scales_alone():
    with pytest.raises(TypeError, match=r"conv takes a rule such as ZPlus\(\); got Pass"):
        Composite(conv=rules.Pass())


AS_CONVOLUTION = {**{name: COMPOSITES[name]().conv for name in COMPOSITES}, "epsilon": Epsilon()}


@pytest.mark.parametrize("name", AS_CONVOLUTION)
def test_a_batch_norm_is_the_depthwise_convolution_that_computes_the_same(name, float64):
    """z = a·x + b for each channel, once as arithmetic and once as a convolution of one pixel with a bias."""
    composite = COMPOSITES[name]() if name in COMPOSITES else vanishing(1e-6)
    composite = composite.with_rules({"scale": composite.conv})
    x = images()

    def net(norm):
        return lambda x: (lambda y: head(conv(relu(norm(y)), 3, 2) + y[..., :3]))(conv(x, 4, 1))

    *_, scale, shift = statistics(4, 0, jnp.float64)
    arithmetic = net(lambda y: y * scale + shift)
    convolution = net(lambda y: convolve(y, scale[None, None, None], padding="SAME", feature_group_count=4) + shift)
    one, other = (jc.lrp(f, x, 1, composite=composite) for f in (arithmetic, convolution))
    np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9 * np.abs(other).max())


def test_a_scale_of_infinite_gamma_never_hands_on_more_than_it_received(float64):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 4, 6)))
    relevance = jnp.asarray(np.random.default_rng(1).normal(size=x.shape))
    handed = jax.vjp(jc.relevance(batch_norm, "epsilon_plus"), x)[1](relevance)[0]
    shares = np.asarray(handed / relevance)
    assert shares.min() >= 0
    assert shares.max() <= 1
    assert ((shares > 0.01) & (shares < 0.99)).any()


# What belongs to which map.


def test_the_audit_says_where_a_batch_norm_went():
    kinds = lambda net: [(row.kind, row.equations) for row in jc.audit(net, images(jnp.float32))]
    (first, *_) = kinds(NETS["at the input"])
    assert first == ("conv", ("sub", "div", "mul", "add", "conv_general_dilated"))
    (factor, first, *_) = kinds(NETS["a scale for each pixel"])
    assert factor == ("factor", ("mul",))
    assert first == ("conv", ("sub", "mul", "add", "conv_general_dilated"))
    (alone, first, *_) = kinds(NETS["at the input, read by a skip"])
    assert alone == ("scale", ("sub", "div", "mul", "add"))
    assert first == ("conv", ("sub", "div", "mul", "add", "conv_general_dilated"))


def test_a_layer_keeps_its_name_with_a_batch_norm_before_it():
    net = Nnx()
    rows = [row.layer for row in jc.audit(net, images(jnp.float32)) if row.kind in {"conv", "dense"}]
    assert rows == ["stem", "conv", "head"]


@pytest.mark.parametrize("name", ["at the input", "before a padding", "space to depth", "a mean image"])
def test_the_outputs_stay_the_models_own(name, float64):
    net, x = NETS[name], images()
    np.testing.assert_allclose(jc.relevance(net)(x), net(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("padded", [False, True])
def test_the_box_takes_values_of_the_images_through_a_normalization(padded, float64):
    """The bounds, normalized by hand, on the part after the normalization: the same map."""
    mean, std = np.array([0.3, 0.5, 0.4]), np.array([0.2, -0.4, 0.3])
    pad = (lambda x: jnp.pad(x, ((0, 0), (1, 0), (1, 0), (0, 0)))) if padded else (lambda x: x)
    after = lambda z: head(conv(relu(conv(pad(z), 4, 1, padding="VALID")), 4, 2))
    x = images()
    ours = jc.lrp(lambda x: after((x - mean) / std), x, 3, composite=jc.composites.epsilon_gamma_box(0.0, 1.0))
    ends = np.sort(np.stack([(0 - mean) / std, (1 - mean) / std]), 0)
    box = jc.composites.epsilon_gamma_box(tuple(ends[0]), tuple(ends[1]))
    wanted = np.asarray(jc.lrp(after, (x - mean) / std, 3, composite=box))
    np.testing.assert_allclose(ours, wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max())
