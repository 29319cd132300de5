"""Distributions: the published number to the digit, honest p-values that are uniform, scipy's own, and bad input."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxcam as jc
from jaxcam.studies import families
from jaxcam.studies.families import fit, null_distances
from jaxcam.studies.monte_carlo import corrections
from jaxcam.studies.sampling import stages

KEY = jax.random.key(0)
LAWS = {"norm": stats.norm, "lognorm": stats.lognorm, "logistic": stats.logistic}


def drawn(family, samples, count, seed=0):
    """Samples of a law, each with parameters of its own."""
    random = np.random.default_rng(seed)
    loc, scale = random.normal(size=(samples, 1)), random.uniform(0.3, 1.5, (samples, 1))
    if family == "logistic":
        return loc + scale * random.logistic(size=(samples, count))
    values = loc + scale * random.normal(size=(samples, count))
    return np.exp(values) if family == "lognorm" else values


def asked(values, **options):
    return jc.studies.distributions(values, **{"key": KEY, "draws": 199, **options})


@pytest.mark.parametrize("count", [49, 196, 1000])
def test_published_is_scipys_two_sample_statistic_between_x_and_its_distribution_function(count):
    values = drawn("lognorm", 5, count)
    found = asked(values, draws=9).published
    assert set(found) == {"norm", "logistic"}
    for i, x in enumerate(values):
        mean, deviation = x.mean(), x.std(ddof=1)
        for family, law in (("norm", stats.norm), ("logistic", stats.logistic)):
            expected = stats.ks_2samp(x, law.cdf(x, mean, deviation)).statistic
            assert found[family][i] == pytest.approx(expected, abs=1e-9)
            # Every entry of the paper's tables is a multiple of 1/n.
            assert found[family][i] * count == pytest.approx(round(found[family][i] * count), abs=1e-6)


@pytest.mark.parametrize(
    ("count", "printed"),
    [
        (3136, [0.7971, 0.9563, 0.7774, 0.9419, 0.8022, 0.9014, 0.8026, 0.9426]),
        (784, [0.9795, 0.8724, 0.9744, 0.8354, 0.9923, 0.8852, 0.9910]),
        (196, [0.9795, 1.0, 0.9183, 1.0, 0.9693, 1.0, 0.9489, 1.0]),
        (49, [0.3469, 0.2653, 0.2653, 0.2040, 0.2040, 0.2653, 0.2857, 0.1836]),
        (1000, [0.563, 0.554, 0.535, 0.561]),
    ],
)
def test_the_papers_entries_are_multiples_of_one_over_n_cut_after_four_digits(count, printed):
    # One of the 36 is not: 0.8098, where 635/784 is 0.80995.
    for value in printed:
        nearest = np.array([np.floor(value * count), np.ceil(value * count)]) / count
        assert ((nearest - value >= -1e-9) & (nearest - value < 1e-4)).any()


def test_published_is_large_for_what_cannot_be_worse_and_says_nothing_about_the_fit():
    perfect = stats.norm.ppf((np.arange(400) + 0.5) / 400)[None]
    found = asked(perfect + 50)
    assert found.published["norm"][0] == 1  # values near 50 against probabilities: never the same
    assert found.statistic["norm"][0] < 0.01
    assert asked(perfect).published["norm"][0] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("family", ["norm", "lognorm", "logistic"])
def test_honest_p_values_are_uniform_under_the_null(family):
    pvalues = asked(drawn(family, 1000, 40, seed=1), draws=1999).pvalue[family]
    assert stats.kstest(pvalues, "uniform").pvalue > 0.01
    assert abs((pvalues <= 0.05).mean() - 0.05) < 0.021  # three standard errors


def test_a_null_that_forgets_the_fit_would_not_be_uniform():
    values = drawn("norm", 300, 40)
    fitted = fit("norm", values)
    # A frozen distribution: the arguments of a function given by name differ between versions of scipy.
    naive = [
        stats.kstest(x, stats.norm(m, s).cdf).pvalue
        for x, m, s in zip(values, fitted["loc"], fitted["scale"], strict=True)
    ]
    assert (np.array(naive) <= 0.05).mean() < 0.01


@pytest.mark.parametrize("family", list(LAWS))
def test_statistic_and_p_value_are_those_of_scipys_goodness_of_fit(family):
    x = drawn("norm", 1, 30, seed=3)[0] + 8
    known = {"loc": 0.0} if family == "lognorm" else {}
    expected = stats.goodness_of_fit(
        LAWS[family], x, known_params=known, statistic="ks", n_mc_samples=60, rng=np.random.default_rng(0)
    )
    found = asked(x[None], draws=1999)
    own = {name: column[0] for name, column in found.parameters[family].items()}
    assert found.statistic[family][0] == pytest.approx(stats.kstest(x, LAWS[family](**own).cdf).statistic, abs=1e-12)
    # For the normal law scipy takes the deviation over n − 1, which is not that of largest likelihood.
    assert found.statistic[family][0] == pytest.approx(expected.statistic, abs=3e-3 if family == "norm" else 1e-6)
    assert found.pvalue[family][0] == pytest.approx(expected.pvalue, abs=4 * 0.5 / np.sqrt(60))


@pytest.mark.parametrize("family", list(LAWS))
def test_parameters_are_those_of_largest_likelihood_by_scipys_names(family):
    values = drawn(family, 4, 60)
    found = asked(values).parameters[family]
    for i, x in enumerate(values):
        own = {name: column[i] for name, column in found.items()}
        shape = LAWS[family].fit(x, **({"floc": 0} if family == "lognorm" else {}))
        ours, theirs = LAWS[family].logpdf(x, **own).sum(), LAWS[family].logpdf(x, *shape).sum()
        assert ours >= theirs - 1e-6
        assert ours == pytest.approx(theirs, abs=1e-3)
        assert LAWS[family].cdf(x, **own).mean() == pytest.approx(0.5, abs=0.1)


def test_the_logistic_fit_climbs_to_the_maximum_of_hard_samples_too():
    random = np.random.default_rng(0)
    hard = np.stack(
        [
            random.standard_cauchy(80),
            random.exponential(size=80),
            np.r_[np.zeros(78), 1, 1e6],
            np.r_[np.zeros(79), 1e-9],
        ]
    )
    found = fit("logistic", hard)
    for x, loc, scale in zip(hard, found["loc"], found["scale"], strict=True):
        u = (x - loc) / scale
        assert abs(np.tanh(u / 2).sum()) < 1e-5
        assert abs((u * np.tanh(u / 2)).sum() - len(x)) < 1e-5


def test_the_null_has_lilliefors_and_stephens_critical_values():
    null = null_distances("norm", 20, 20_000, np.random.default_rng(0))
    assert np.quantile(null, 0.95) == pytest.approx(0.192, abs=0.002)  # Lilliefors' table, corrected
    many = null_distances("norm", 400, 4_000, np.random.default_rng(0))
    modified = many * (20 - 0.01 + 0.85 / 20)  # Stephens 1974
    assert np.quantile(modified, 0.95) == pytest.approx(0.895, abs=0.02)
    assert np.quantile(modified, 0.99) == pytest.approx(1.035, abs=0.035)


def test_the_answer_does_not_depend_on_where_and_how_large_the_values_are():
    values = drawn("logistic", 3, 50)
    one, other = asked(values), asked(1e-4 * values + 7)
    for family in ("norm", "logistic"):
        np.testing.assert_allclose(one.statistic[family], other.statistic[family], atol=1e-9)
        np.testing.assert_array_equal(one.pvalue[family], other.pvalue[family])


def test_d_times_the_root_of_n_compares_sizes_and_has_critical_values():
    found = asked(drawn("norm", 200, 64), draws=999)
    for family in LAWS:
        np.testing.assert_allclose(found.d_sqrt_n[family], 8 * found.statistic[family], equal_nan=True)
    over = found.d_sqrt_n["norm"] > found.critical(0.1)["norm"]
    assert over.mean() == pytest.approx((found.pvalue["norm"] <= 0.1).mean(), abs=0.01)


def test_a_law_that_cannot_be_is_rejected_and_has_no_fit():
    values = np.stack([drawn("lognorm", 1, 60)[0], drawn("norm", 1, 60)[0]])
    found = asked(values)
    assert np.isfinite(found.statistic["lognorm"]).tolist() == [True, False]
    assert found.pvalue["lognorm"][1] == found.adjusted["lognorm"][1] == 0
    assert np.isnan(found.parameters["lognorm"]["s"]).tolist() == [False, True]
    assert np.isfinite(found.statistic["norm"]).all()


def slow_correction(pvalues, correction):
    """Each corrected p-value: the smallest level at which its hypothesis is rejected."""
    order, count = np.sort(pvalues), len(pvalues)
    if correction == "holm":
        return [min(1, max((count - j) * p for j, p in enumerate(order) if p <= own)) for own in pvalues]
    return [min(1, min(count * p / (j + 1) for j, p in enumerate(order) if p >= own)) for own in pvalues]


@pytest.mark.parametrize("correction", ["holm", "benjamini-hochberg"])
def test_corrections_are_those_of_the_slow_definition(correction):
    pvalues = np.random.default_rng(0).permutation(np.r_[np.random.default_rng(1).random(20), [1e-4, 1e-3, 1e-3, 1]])
    np.testing.assert_allclose(corrections(pvalues, correction), slow_correction(pvalues, correction), atol=1e-12)
    assert corrections(pvalues, "none") is pvalues


def test_corrected_p_values_cover_all_samples_and_families():
    found = asked(drawn("norm", 6, 30), correction="holm")
    everything = np.concatenate([found.pvalue[family] for family in LAWS])
    np.testing.assert_allclose(
        np.concatenate([found.adjusted[family] for family in LAWS]), corrections(everything, "holm")
    )
    assert found.rejected(0.05)["norm"].tolist() == (found.adjusted["norm"] <= 0.05).tolist()


def test_the_key_is_all_the_chance_there_is():
    values = drawn("norm", 2, 30)
    np.testing.assert_array_equal(asked(values).null["norm"], asked(values).null["norm"])
    assert not np.array_equal(asked(values).null["norm"], asked(values, key=jax.random.key(1)).null["norm"])


def small_net(x):
    """A stem, two convolutions of its size, two smaller ones, and a classifier."""
    conv = lambda x, units, stride: jax.nn.relu(
        jax.lax.conv_general_dilated(
            x,
            np.random.default_rng(units).normal(size=(3, 3, x.shape[-1], units)).astype(np.float32),
            (stride, stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
    )
    x = conv(x, 2, 1)
    for units, stride in ((4, 2), (5, 1), (6, 2), (7, 1)):
        x = conv(x, units, stride)
    return x.mean((1, 2)) @ jnp.ones((7, 3))


def test_stages_are_the_last_layers_of_their_size_without_the_stem():
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    assert stages(small_net, x) == ["conv_2", "conv_4"]
    values = jc.studies.layer_values(small_net, x)
    assert {name: found.shape for name, found in values.items()} == {
        "conv_2": (2, 16),
        "conv_4": (2, 4),
        "logits": (2, 3),
    }


def residual_net(x, tagged):
    """Two blocks; the second begins, as ResNet50's do, with a convolution of the first one's size."""
    conv = lambda x, units, stride=1: jax.nn.relu(
        jax.lax.conv_general_dilated(
            x,
            jnp.ones((1, 1, x.shape[-1], units)),
            (stride, stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
    )
    x = conv(x, 4)
    x = jax.nn.relu(conv(conv(x, 4), 4) + x)
    x = jc.tag(x, "stage1") if tagged else x
    x = conv(x[:, ::2, ::2], 8) + conv(conv(x, 8), 8, 2)
    return x.mean((1, 2)) @ jnp.ones((8, 3))


def test_a_stage_ends_with_its_block_not_with_the_first_convolution_of_the_next():
    x = jnp.ones((1, 8, 8, 3))
    assert stages(lambda x: residual_net(x, False), x) == ["add_0", "add_1"]
    assert stages(lambda x: residual_net(x, True), x) == ["stage1", "add_1"]


def test_layer_values_are_channel_means_and_logits():
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    values = jc.studies.layer_values(small_net, x, ["conv_1"])
    np.testing.assert_allclose(values["conv_1"], jc.tap(small_net, "conv_1")(x).mean(-1).reshape(2, -1), rtol=1e-5)
    np.testing.assert_allclose(values["logits"], small_net(x), rtol=1e-5)


@pytest.mark.slow
def test_resnet50_has_the_papers_sizes():
    model = jc.models.load("resnet50")
    names = stages(model, jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32))
    sizes = {layer.name: layer.shape for layer in jc.layers(model, jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32))}
    assert names == ["layer1", "layer2", "layer3", "layer4"]
    assert [int(np.prod(sizes[name][:2])) for name in names] == [3136, 784, 196, 49]


VALUES = drawn("norm", 4, 20)


@pytest.mark.parametrize(
    ("ask", "line"),
    [
        (lambda: asked(np.where(np.arange(4)[:, None] == 2, 0.5, VALUES)), "sample 2 is 0.5 everywhere: it has no"),
        (lambda: asked(VALUES * np.nan), "sample 0 has NaN or infinite values"),
        (
            lambda: asked(VALUES[0]),
            r"values are a non-empty array \(samples, m\); got shape \(20,\); one sample needs",
        ),
        (lambda: asked(VALUES[:, :2]), "a law of two parameters takes three values or more to test; got 2"),
        (lambda: asked(VALUES, correction="bonferroni"), "correction"),
        (lambda: asked(VALUES, draws=0), "draws is a whole number from 1 up; got 0"),
        (lambda: asked(VALUES).rejected(5.0), "level is above 0 and at most 1; got 5.0"),
        (lambda: jc.studies.layer_values(small_net, jnp.ones((1, 8, 8, 3)), ["conv_9"]), "conv_9"),
        (lambda: stages(lambda x: x.reshape(len(x), -1), np.ones((1, 2, 2, 1))), "the network has no layer with space"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(ask, line):
    with pytest.raises(ValueError, match=line) as caught:
        ask()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "key"), [({"layer1": VALUES}, KEY), ([[1.0]], KEY), (VALUES, 0)], ids=["dict", "list", "key"]
)
def test_what_is_of_a_wrong_kind_is_a_type_error(values, key):
    with pytest.raises(TypeError, match=r"(values are|a randomized method takes)"):
        jc.studies.distributions(values, key=key)


@pytest.mark.parametrize(("drawn", "expected"), [(0.0, -54 * np.log(2)), (0.5, 0.0), (1 - 2.0**-53, 54 * np.log(2))])
def test_logistic_numbers_are_finite_at_the_ends_of_what_is_drawn(drawn, expected):
    generator = types.SimpleNamespace(random=lambda size: np.full(size, drawn))
    found = families._logistic(generator, (1, 2))
    assert found.shape == (1, 2)
    np.testing.assert_allclose(found, expected, atol=0.5)  # rounding of 1 − 2⁻⁵³


def test_the_likelihood_of_the_logistic_family_is_scipys():
    z = np.random.default_rng(0).normal(size=(2, 30))
    a, b = np.array([0.7, 3.0]), np.array([-1.0, 2.0])
    expected = [stats.logistic(loc=y / x, scale=1 / x).logpdf(row).sum() for x, y, row in zip(a, b, z, strict=True)]
    np.testing.assert_allclose(families._likelihood(z, a, b), expected, rtol=1e-12)
