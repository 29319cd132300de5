"""Every rule of relevance against its matrix form, and the limits in which rules become one another."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from relevance_twins import (
    IMAGE,
    MAPS,
    RULES,
    batch_norm,
    convolve,
    dense,
    epsilon_rule,
    norm,
    random,
    zplus,
)

import jaxcam as jc
from jaxcam.attribution import rules
from jaxcam.attribution.composites import COMPOSITES, Composite


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def everywhere(rule):
    return Composite(conv=rule, dense=rule, scale=rule)


def pulled_back(model, composite, x, relevance):
    return np.asarray(jax.vjp(jc.relevance(model, composite), jnp.asarray(x))[1](jnp.asarray(relevance))[0])


@pytest.mark.evidence("lrp", "relevance", kind="twin", source="each rule in matrix form", tolerance=1e-9)
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("affine", MAPS)
def test_a_rule_is_its_matrix_form(affine, name):
    function, (rule, twin) = MAPS[affine], RULES[name]
    x = random(2, *IMAGE, seed=5)
    y = np.asarray(function(jnp.asarray(x)))
    relevance = random(*y.shape, seed=6)
    W, b = dense(function, IMAGE)
    ours = pulled_back(function, everywhere(rule), x, relevance)
    for i in range(2):
        wanted = twin(W, b, x[i].ravel(), relevance[i].ravel()).reshape(IMAGE)
        np.testing.assert_allclose(ours[i], wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max())


@pytest.mark.parametrize("affine", MAPS)
def test_the_value_is_the_models_own(affine):
    x = jnp.asarray(random(2, *IMAGE, seed=5))
    model = jc.relevance(MAPS[affine], "epsilon_alpha2_beta1")
    np.testing.assert_allclose(model(x), MAPS[affine](x), rtol=1e-12, atol=1e-12)


POOLS = {
    "average": lambda x: jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4,
    "sum": lambda x: jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 3, 3, 1), (1, 1, 1, 1), "SAME"),
    "global": lambda x: x.mean((1, 2)),
    "global, axes kept": lambda x: x.mean((1, 2), keepdims=True),
}


@pytest.mark.parametrize("pool", POOLS)
def test_average_pooling_shares_by_contribution(pool):
    x = random(1, *IMAGE, seed=5)
    W, b = dense(POOLS[pool], IMAGE)
    relevance = random(*POOLS[pool](jnp.asarray(x)).shape, seed=6)
    wanted = norm(W, b, x.ravel(), relevance.ravel()).reshape(x.shape)
    np.testing.assert_allclose(pulled_back(POOLS[pool], "epsilon_plus", x, relevance), wanted, rtol=1e-9)


def test_a_residual_addition_shares_by_contribution():
    x = random(1, *IMAGE, seed=5)
    kernel = random(3, 3, 2, 2)
    relevance = random(*x.shape, seed=6)
    W, b = dense(lambda x: convolve(x, kernel), IMAGE)
    y = (W @ x.ravel()).reshape(x.shape)
    total = x + y
    portion = relevance / (total + np.where(total < 0, -1e-6, 1e-6))
    wanted = x * portion + zplus(W, b, x.ravel(), (y * portion).ravel()).reshape(x.shape)
    ours = pulled_back(lambda x: x + convolve(x, kernel), "epsilon_plus", x, relevance)
    np.testing.assert_allclose(ours, wanted, rtol=1e-9, atol=1e-12)
    minus = pulled_back(lambda x: x - convolve(x, -kernel), everywhere(rules.Epsilon()), x, relevance)
    plus = pulled_back(lambda x: x + convolve(x, kernel), everywhere(rules.Epsilon()), x, relevance)
    np.testing.assert_allclose(minus, plus, rtol=1e-9, atol=1e-12)


def test_max_pooling_gives_all_to_the_winner():
    x = jnp.asarray(random(1, *IMAGE, seed=5))
    pool = lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    ours = pulled_back(pool, "epsilon_plus", x, jnp.ones((1, 2, 2, 2)))
    np.testing.assert_array_equal(ours, jax.grad(lambda x: pool(x).sum())(x))


ACTIVATIONS = {
    "relu": jax.nn.relu,
    "maximum": lambda x: jnp.maximum(x, 0),
    "where": lambda x: jnp.where(x > 0, x, 0),
    "mask": lambda x: x * (x > 0),
    "relu6": jax.nn.relu6,
    "leaky relu": jax.nn.leaky_relu,
    "learned slope": lambda x: jnp.where(x > 0, x, x * random(2, seed=3)),
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "exact gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "hard swish": jax.nn.hard_swish,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "cube": lambda x: x**3,
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_activation_passes_relevance(activation):
    x, relevance = random(1, *IMAGE, seed=5), random(1, *IMAGE, seed=6)
    ours = pulled_back(ACTIVATIONS[activation], "epsilon_plus", x, relevance)
    np.testing.assert_array_equal(ours, relevance)


def test_a_factor_passes_relevance_and_a_shift_where_it_shall():
    x, relevance = random(1, *IMAGE, seed=5), random(1, *IMAGE, seed=6)
    for factor in (lambda x: -x / 3, lambda x: x * random(2, seed=3), lambda x: -x):
        np.testing.assert_array_equal(pulled_back(factor, "epsilon_plus", x, relevance), relevance)
    passing = jc.composites.epsilon_plus().with_rules({"scale": rules.Pass()})
    for shifted in (batch_norm, lambda x: -x / 3 + 1):
        np.testing.assert_array_equal(pulled_back(shifted, passing, x, relevance), relevance)


# Limits.


def relu_net(x):
    """Convolutions, ReLU, max pooling and a dense layer, without biases."""
    x = jax.nn.relu(convolve(x, random(3, 3, 2, 4)))
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = jax.nn.relu(x + convolve(x, random(3, 3, 4, 4, seed=1))).mean((1, 2))
    return x @ random(4, 3, seed=2)


def biased_net(x):
    x = jax.nn.relu(batch_norm(convolve(x, random(3, 3, 2, 4))))
    x = jax.nn.relu(x + (convolve(x, random(3, 3, 4, 4, seed=1)) + random(4, seed=3))).mean((1, 2))
    return x @ random(4, 3, seed=2) + random(3, seed=4)


X = random(2, *IMAGE, seed=5)


@pytest.mark.slow
@pytest.mark.evidence("lrp", kind="axiom", source="ε → 0: input times gradient")
def test_as_epsilon_vanishes_relevance_is_input_times_gradient():
    tiny = rules.Epsilon(1e-13)
    composite = Composite(tiny, tiny, rules.Norm(1e-13), rules.Norm(1e-13))
    for net in (relu_net, biased_net):  # a bias only keeps relevance, it bends none
        wanted = np.asarray(jc.input_x_gradient(net, jnp.asarray(X), 1))
        np.testing.assert_allclose(jc.lrp(net, X, 1, composite=composite), wanted, rtol=1e-7, atol=1e-9)


@pytest.mark.slow
def test_alpha_one_beta_zero_is_zplus():
    one, other = everywhere(rules.AlphaBeta(1.0, 0.0)), everywhere(rules.ZPlus())
    np.testing.assert_allclose(jc.lrp(biased_net, X, 0, composite=one), jc.lrp(biased_net, X, 0, composite=other))


@pytest.mark.slow
def test_gamma_zero_is_epsilon():
    one, other = everywhere(rules.Gamma(0.0)), everywhere(rules.Epsilon())
    np.testing.assert_allclose(
        jc.lrp(biased_net, X, 0, composite=one), jc.lrp(biased_net, X, 0, composite=other), rtol=1e-9, atol=1e-12
    )


def test_as_gamma_grows_positive_outputs_get_zplus():
    x, kernel = np.abs(X), np.abs(random(3, 3, 2, 4)) - 0.1
    model = lambda x: convolve(x, kernel)
    relevance = random(2, 4, 4, 4, seed=6)
    assert np.all(np.asarray(model(jnp.asarray(x))) > 0)
    grown = pulled_back(model, everywhere(rules.Gamma(1e9, 0.0)), x, relevance)
    np.testing.assert_allclose(
        grown, pulled_back(model, everywhere(rules.ZPlus(0.0)), x, relevance), rtol=1e-6, atol=1e-9
    )


# Conservation.

CONSERVING = {name: rule for name, (rule, _) in RULES.items() if name != "epsilon of a tenth"}


@pytest.mark.slow
@pytest.mark.evidence("lrp", "conservation", kind="axiom", source="every equation hands on what it receives")
@pytest.mark.parametrize("name", CONSERVING)
def test_without_biases_every_equation_hands_on_what_it_receives(name):
    rule = CONSERVING[name]
    first = {"first": rule, "conv": rules.ZPlus()} if name == "box" else {"conv": rule}
    x = X if name != "box" else np.clip(X, -1, 1.5)
    balances = jc.conservation(relu_net, x, 1, composite=Composite(**first))
    assert [balance.row for balance in balances] == jc.audit(relu_net, x, Composite(**first))
    for balance in balances:
        scale = max(1.0, np.abs(balance.received).max())
        np.testing.assert_allclose(balance.passed, balance.received, atol=2e-4 * scale, err_msg=str(balance.row))
    total = np.asarray(jc.lrp(relu_net, x, 1, composite=Composite(**first))).sum((1, 2, 3))
    np.testing.assert_allclose(total, relu_net(jnp.asarray(x))[:, 1], rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPOSITES)
def test_the_account_of_all_equations_adds_up(name):
    composite = jc.composites.epsilon_gamma_box(-1.0, 1.0) if name == "epsilon_gamma_box" else name
    balances = jc.conservation(biased_net, X, 2, composite=composite)
    kept = sum(np.asarray(balance.received - balance.passed) for balance in balances)
    maps = np.asarray(jc.lrp(biased_net, X, 2, composite=composite)).sum((1, 2, 3))
    np.testing.assert_allclose(maps + kept, biased_net(jnp.asarray(X))[:, 2], rtol=1e-9)


def test_a_bias_keeps_its_share():
    balance = jc.conservation(MAPS["dense with bias"], X, 0, composite=everywhere(rules.Epsilon(1e-12)))[-1]
    np.testing.assert_allclose(balance.received - balance.passed, random(5, seed=1)[0], rtol=1e-6)


# Rules as values.


@pytest.mark.parametrize("rule", [rule for rule, _ in RULES.values()], ids=list(RULES))
def test_a_rule_is_a_hashable_value(rule):
    assert hash(rule) == hash(dataclasses.replace(rule))
    assert rule == dataclasses.replace(rule)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: rules.AlphaBeta(2.0, 2.0), ValueError, "alpha − beta is 1"),
        (lambda: rules.Epsilon(-1.0), ValueError, "epsilon is a number from 0 up; got -1"),
        (lambda: rules.Gamma(float("nan")), ValueError, "gamma is a number from 0 up"),
        (lambda: rules.Gamma(-float("inf")), ValueError, "gamma is a number from 0 up"),
        (lambda: rules.ZeroBias(rules.Norm()), TypeError, "a rule of affine maps"),
        (lambda: rules.ZBox(1.0, 0.0), ValueError, "low is not above high"),
        (lambda: rules.ZBox((0.0, 0.0), (1.0, 1.0, 1.0)), ValueError, "one number for each channel"),
    ],
)
def test_a_rule_with_impossible_numbers_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_the_box_is_given_in_units_of_the_images():
    mean, std, kernel = np.array([0.3, 0.5]), np.array([0.2, -0.4]), random(3, 3, 2, 3)
    x = np.abs(X)
    inside = lambda x: convolve((x - mean) / std, kernel)
    outside = lambda z: convolve(z, kernel)
    relevance = random(2, 4, 4, 3, seed=6)
    ours = pulled_back(inside, jc.composites.epsilon_gamma_box(0.0, 1.0), x, relevance)
    ends = np.sort(np.stack([(0 - mean) / std, (1 - mean) / std]), 0)
    box = jc.composites.epsilon_gamma_box(tuple(ends[0]), tuple(ends[1]))
    np.testing.assert_allclose(ours, pulled_back(outside, box, (x - mean) / std, relevance), rtol=1e-9, atol=1e-12)


def test_epsilon_is_added_with_the_sign_of_the_output():
    W, b = dense(MAPS["dense with bias"], IMAGE)
    relevance = np.ones((1, 5))
    ours = pulled_back(MAPS["dense with bias"], everywhere(rules.Epsilon(10.0)), X[:1], relevance)
    np.testing.assert_allclose(ours.ravel(), epsilon_rule(W, b, X[0].ravel(), relevance[0], 10.0), rtol=1e-9)
