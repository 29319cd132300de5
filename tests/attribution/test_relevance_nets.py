"""Relevance on whole networks: whoever wrote them, however they call their parts; composites, audit and errors."""

import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from jax.tree_util import Partial

import jaxcam as jc
from jaxcam.attribution import rules
from jaxcam.attribution.composites import COMPOSITES, Composite

sys.path.append(str(Path(__file__).parents[1] / "program"))
from program_nets import HARDEST_FIRST, IMAGES, KINDS, convolve, weights

KERNEL, BIAS, HEAD = weights((3, 3, 3, 4)), jnp.array([0.1, -0.1, 0.2, 0.0]), weights((4, 5), 2)
SQUARE = weights((3, 3, 4, 4), 3)


# One network in the words of each library, with the same weights.


def plain(x):
    return jax.nn.relu(convolve(x, KERNEL) + BIAS).mean((1, 2)) @ HEAD


class Nnx(nnx.Module):
    def __init__(self):
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0))
        self.head = nnx.Linear(4, 5, use_bias=False, rngs=nnx.Rngs(0))
        self.conv.kernel[...], self.conv.bias[...], self.head.kernel[...] = KERNEL, BIAS, HEAD

    def __call__(self, x):
        return self.head(nnx.relu(self.conv(x)).mean((1, 2)))


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.relu(linen.Conv(4, (3, 3), name="conv")(x))
        return linen.Dense(5, use_bias=False, name="head")(x.mean((1, 2)))


def from_linen():
    params = {"conv": {"kernel": KERNEL, "bias": BIAS}, "head": {"kernel": HEAD}}
    return Partial(Linen().apply, {"params": params})


class Equinox(eqx.Module):
    conv: eqx.nn.Conv2d
    head: eqx.nn.Linear

    def __init__(self):
        conv = eqx.nn.Conv2d(3, 4, 3, padding=1, key=jax.random.key(0))
        head = eqx.nn.Linear(4, 5, use_bias=False, key=jax.random.key(0))
        new = jnp.transpose(KERNEL, (3, 2, 0, 1)), BIAS[:, None, None]
        self.conv = eqx.tree_at(lambda c: (c.weight, c.bias), conv, new)
        self.head = eqx.tree_at(lambda h: h.weight, head, HEAD.T)

    def __call__(self, x):
        one = lambda image: self.head(jax.nn.relu(self.conv(jnp.moveaxis(image, -1, 0))).mean((1, 2)))
        return jax.vmap(one)(x)


SAME = {"nnx": Nnx, "linen": from_linen, "equinox": Equinox}


@pytest.mark.parametrize("library", SAME)
@pytest.mark.parametrize("composite", ["epsilon_alpha2_beta1_flat", "epsilon_gamma_box"])
def test_a_network_has_the_same_relevance_in_every_library(library, composite):
    wanted = jc.lrp(plain, IMAGES, [0, 3], composite=composite)
    ours = jc.lrp(SAME[library](), IMAGES, [0, 3], composite=composite)
    np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("kind", HARDEST_FIRST)
def test_the_account_adds_up_whoever_wrote_the_model(kind):
    model = KINDS[kind]()
    balances = jc.conservation(model, IMAGES, 1)
    kept = sum(np.asarray(balance.received - balance.passed) for balance in balances)
    total = np.asarray(jc.lrp(model, IMAGES, 1)).sum((1, 2, 3))
    np.testing.assert_allclose(total + kept, model(IMAGES)[:, 1], rtol=1e-4, atol=1e-4)


# However the parts are called.


def same_relevance(one, other, x=IMAGES, composite="epsilon_plus"):
    a, b = (np.asarray(jc.lrp(model, x, 1, composite=composite)) for model in (one, other))
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())


class Reused(nnx.Module):
    """One ReLU, one convolution and one batch norm, each called twice."""

    def __init__(self):
        self.conv = nnx.Conv(3, 3, (3, 3), rngs=nnx.Rngs(0))
        self.norm = nnx.BatchNorm(3, use_running_average=True, rngs=nnx.Rngs(0))
        self.norm.mean[...], self.norm.scale[...] = jnp.array([0.1, -0.2, 0.3]), jnp.array([1.0, -0.5, 2.0])
        self.act = nnx.relu

    def __call__(self, x):
        x = self.act(self.norm(self.conv(x)))
        return self.act(self.norm(self.conv(x))).mean((1, 2))


def test_parts_that_are_used_twice_have_a_rule_each_time():
    net = Reused()
    kernel, bias = net.conv.kernel[...], net.conv.bias[...]
    mean, scale = net.norm.mean[...], net.norm.scale[...]

    def written_out(x):
        for _ in range(2):
            z = (convolve(x, kernel) + bias - mean) / jnp.sqrt(1 + 1e-5) * scale
            x = jnp.where(z > 0, z, 0)
        return x.mean((1, 2))

    same_relevance(net, written_out)
    names = [row.layer for row in jc.audit(net, IMAGES) if row.kind == "conv"]
    assert names == ["conv", "conv@2"]


def test_a_model_in_a_model_is_looked_into():
    inner = Nnx()
    outer = lambda x: jax.jit(inner)((x - 0.5) / 2)
    same_relevance(outer, lambda x: plain((x - 0.5) / 2))
    same_relevance(jax.checkpoint(lambda x: plain(x)), plain)


def test_a_scan_over_blocks_is_looked_into():
    kernels = jnp.stack([SQUARE, weights((3, 3, 4, 4), 4)])
    block = lambda x, kernel: jax.nn.relu(x + convolve(x, kernel))

    def scanned(x):
        return jax.lax.scan(lambda x, k: (block(x, k), None), convolve(x, KERNEL), kernels)[0].mean((1, 2))

    same_relevance(scanned, lambda x: block(block(convolve(x, KERNEL), kernels[0]), kernels[1]).mean((1, 2)))


def test_a_concatenation_gives_each_part_its_own():
    def joined(x):
        return jnp.concatenate([convolve(x, KERNEL), convolve(x, SQUARE[:, :, :3])], -1).sum((1, 2)) @ weights((8, 2))

    def apart(x):
        head = weights((8, 2))
        both = jnp.concatenate([KERNEL, SQUARE[:, :, :3]], -1)
        return convolve(x, both).sum((1, 2)) @ head

    same_relevance(joined, apart)


def test_global_average_pooling_may_be_written_in_any_way():
    body = lambda x: jax.nn.relu(convolve(x, KERNEL))
    window = lambda x: jax.lax.reduce_window(body(x), 0.0, jax.lax.add, (1, 8, 8, 1), (1, 1, 1, 1), "VALID")
    same_relevance(lambda x: (window(x) / 64).reshape(2, 4) @ HEAD, lambda x: body(x).mean((1, 2)) @ HEAD)
    same_relevance(lambda x: nnx.avg_pool(body(x), (8, 8)).reshape(2, 4) @ HEAD, lambda x: body(x).mean((1, 2)) @ HEAD)
    same_relevance(lambda x: body(x).sum((1, 2)) * (1 / 64) @ HEAD, lambda x: body(x).mean((1, 2)) @ HEAD)


def test_a_hidden_unit_is_explained_through_tap():
    ours = jc.lrp(jc.tap(plain, "conv_0"), IMAGES, 2, composite=Composite(conv=rules.Epsilon(1e-9)))
    active = (jc.tap(plain, "conv_0")(IMAGES)[..., 2] > 0).sum((1, 2))
    wanted = jc.tap(plain, "conv_0")(IMAGES)[..., 2].sum((1, 2)) - active * BIAS[2]
    np.testing.assert_allclose(ours.sum((1, 2, 3)), wanted, rtol=1e-3)


# The house's habits.


@pytest.mark.slow
@pytest.mark.parametrize("composite", COMPOSITES)
def test_a_batch_is_its_images_one_by_one(composite):
    model = KINDS["nnx"]()
    whole = jc.lrp(model, IMAGES, [1, 2], composite=composite)
    single = [jc.lrp(model, IMAGES[i : i + 1], i + 1, composite=composite) for i in range(2)]
    np.testing.assert_allclose(whole, jnp.concatenate(single), rtol=1e-4, atol=1e-5 * np.abs(whole).max())


@pytest.mark.slow
def test_relevance_can_be_jitted_and_vmapped():
    model = jc.relevance(KINDS["dict"](), "epsilon_gamma_box")
    pull = lambda model, x, R: jax.vjp(model, x)[1](R)[0]
    R = jnp.stack([jnp.eye(5)[:2], jnp.ones((2, 5))])
    plainly = [pull(model, IMAGES, r) for r in R]
    np.testing.assert_allclose(jax.jit(pull)(model, IMAGES, R[0]), plainly[0], rtol=1e-4, atol=1e-6)
    many = jax.vmap(pull, (None, None, 0))(model, IMAGES, R)
    np.testing.assert_allclose(many, jnp.stack(plainly), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model(IMAGES), KINDS["dict"]()(IMAGES), rtol=1e-5)


def test_relevance_starts_from_the_score():
    model = lambda x: x.sum((1, 2)) @ weights((3, 4))
    z = model(IMAGES)
    score = lambda target: np.asarray(jc.lrp(model, IMAGES, target)).sum((1, 2, 3))
    np.testing.assert_allclose(score(2), z[:, 2], rtol=1e-3)
    np.testing.assert_allclose(score(None), z.max(-1), rtol=1e-3)
    np.testing.assert_allclose(score(jc.contrast(0, 3)), z[:, 0] - z[:, 3], rtol=1e-3, atol=1e-3)


# Composites.


def rules_of(model, composite, kinds=("conv", "dense")):
    found = [row for row in jc.audit(model, IMAGES, composite) if row.kind in kinds]
    return {row.layer: row.rule.partition("(")[0] for row in found}


def test_composites_give_zennits_rules():
    model = KINDS["nnx"]()
    first, rest = ["stem"], ["block.conv"]
    wanted = {
        "epsilon_plus": ("ZPlus", "ZPlus"),
        "epsilon_plus_flat": ("Flat", "ZPlus"),
        "epsilon_alpha2_beta1": ("AlphaBeta", "AlphaBeta"),
        "epsilon_alpha2_beta1_flat": ("Flat", "AlphaBeta"),
        "epsilon_gamma_box": ("ZBox", "Gamma"),
    }
    assert wanted.keys() == COMPOSITES.keys()
    for name, (one, other) in wanted.items():
        assert rules_of(model, name) == dict.fromkeys(first, one) | dict.fromkeys(rest, other) | {"head": "Epsilon"}


def test_the_flat_rule_is_for_any_first_layer_the_box_for_a_convolution():
    dense = lambda x: jax.nn.relu(x.reshape(2, -1) @ weights((192, 4))) @ HEAD
    assert rules_of(dense, "epsilon_plus_flat") == {"dense_0": "Flat", "dense_1": "Epsilon"}
    assert rules_of(dense, "epsilon_gamma_box") == {"dense_0": "Epsilon", "dense_1": "Epsilon"}


def test_rules_go_by_name_pattern_and_kind():
    model = KINDS["nnx"]()
    composite = jc.composites.epsilon_plus_flat().with_rules({"block.*": rules.Gamma(), "dense": rules.ZPlus()})
    assert rules_of(model, composite) == {"stem": "Flat", "block.conv": "Gamma", "head": "ZPlus"}
    assert rules_of(model, composite.with_rules({"stem": rules.WSquare()}))["stem"] == "WSquare"
    assert rules_of(model, composite.with_rules({"first": None}))["stem"] == "ZPlus"
    assert hash(composite) == hash(
        jc.composites.epsilon_plus_flat().with_rules(dict(composite.named) | {"dense": rules.ZPlus()})
    )


def test_the_audit_lists_every_equation_with_its_rule():
    found = [(row.layer, row.kind, row.rule, row.equations) for row in jc.audit(KINDS["dict"](), IMAGES)]
    z, e, norm = (repr(rule) for rule in (rules.ZPlus(), rules.Epsilon(), rules.Norm()))
    assert found == [
        ("stem", "conv", z, ("conv_general_dilated", "add")),
        ("stem", "activation", "pass", ("max",)),
        ("pool_0", "select", "winner", ("reduce_window_max",)),
        ("conv", "conv", z, ("conv_general_dilated",)),
        ("add_0", "add", norm, ("add",)),
        ("add_0", "activation", "pass", ("gt", "select_n")),
        ("pool_1", "mean", norm, ("reduce_sum", "div")),
        ("head", "dense", e, ("dot_general",)),
    ]


def test_the_audit_needs_shapes_only():
    shape = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    assert jc.audit(KINDS["nnx"](), shape)[0].layer == "stem"


# What has no rule.

REFUSED = {
    "softmax": (lambda x: jax.nn.softmax(convolve(x, KERNEL).mean((1, 2))), "after layer 'pool_0'"),
    "a product": (lambda x: convolve(x, KERNEL) * x.mean(-1, keepdims=True), "'mul'"),
    "attention": (lambda x: jnp.einsum("nhwc,nhwd->ncd", x, x), "'dot_general'"),
    "layer norm": (lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True), "'div'"),
    "a while loop": (lambda x: jax.lax.fori_loop(0, jnp.int32(x.sum()), lambda i, y: y * 2, x), "'while'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_operation_without_a_rule_is_named(name):
    model, message = REFUSED[name]
    with pytest.raises(ValueError, match="no rule of relevance for equation") as caught:
        jc.relevance(model)(IMAGES)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "no rule" in [row.rule for row in jc.audit(model, IMAGES)]


def test_what_no_output_depends_on_needs_no_rule():
    def model(x):
        jax.nn.softmax(x)
        return x.mean((1, 2))

    assert jc.lrp(model, IMAGES, 0).shape == IMAGES.shape


def test_a_box_behind_a_layer_is_refused():
    composite = jc.composites.epsilon_gamma_box().with_rules({"block.conv": rules.ZBox()})
    with pytest.raises(ValueError, match=r"before layer 'block.conv' there is more than a normalization"):
        jc.lrp(KINDS["nnx"](), IMAGES, 0, composite=composite)


@pytest.mark.parametrize(
    ("composite", "error", "message"),
    [
        ("epsilon_pluss", ValueError, "no composite 'epsilon_pluss'; did you mean 'epsilon_plus'"),
        (jc.composites.epsilon_plus().with_rules({"stm": rules.Flat()}), ValueError, "did you mean 'stem'"),
        (jc.composites.epsilon_plus().with_rules({"add_0": rules.Flat()}), TypeError, "has no weights"),
        (jc.composites.epsilon_plus().with_rules({"stem": rules.Norm()}), TypeError, "takes a rule such as ZPlus"),
    ],
)
def test_a_composite_that_does_not_fit_is_refused(composite, error, message):
    with pytest.raises(error, match=message):
        jc.lrp(KINDS["nnx"](), IMAGES, 0, composite=composite)
