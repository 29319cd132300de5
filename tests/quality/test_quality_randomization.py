"""The randomization check: what it randomizes, what it measures, and what it finds on a trained network."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import nnx
from numpy.testing import assert_allclose, assert_array_equal
from quality_nets import forward, images, small_net

sys.path.append(str(Path(__file__).parents[1] / "attribution"))
import trained_nets

import jaxcam as jc
from jaxcam.quality.randomization import parameters_of_layers, structural_similarity

pytestmark = pytest.mark.optimized

KEY = jax.random.key(11)


class Normed(nnx.Module):
    """Convolution, batch norm, ReLU and a dense layer."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.conv = nnx.Conv(3, 6, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.head = nnx.Linear(6, 5, rngs=rngs)
        self.norm.mean[...] = jnp.arange(6.0) / 10
        self.norm.scale[...] = 1 + jnp.arange(6.0)
        self.eval()

    def __call__(self, x):
        return self.head(nnx.relu(self.norm(self.conv(x))).mean((1, 2)))


class Recorder:
    """A method that keeps the models it was asked about."""

    def __init__(self, maps):
        self.maps, self.models = maps, []

    def __call__(self, model, x, target):
        self.models.append(model)
        return self.maps(len(self.models) - 1)


def arrays(model):
    return {jax.tree_util.keystr(path): np.asarray(a) for path, a in jax.tree_util.tree_flatten_with_path(model)[0]}


def changed(model, other):
    before, after = arrays(model), arrays(other)
    return {name for name in before if not np.array_equal(before[name], after[name])}


def some_map(seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(2, 6, 6, 3)), jnp.float32)


def test_a_layer_owns_its_kernel_and_the_norm_that_follows():
    model = Normed()
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(model)[0]]
    groups = {n: {names[i] for i in found} for n, found in parameters_of_layers(model, images()).items()}
    assert list(groups) == ["head", "conv"]
    assert all(".head" in name for name in groups["head"])
    assert any(".norm" in name and "var" in name for name in groups["conv"])
    assert any("kernel" in name for name in groups["conv"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nnx", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("linen", "plain"))])
def test_every_parameter_of_a_resnet_belongs_to_one_layer(kind):
    model = trained_nets.RESNETS[kind]()
    x = jnp.zeros((2, 32, 32, 3))
    groups = parameters_of_layers(model, x)
    floating = [i for i, a in enumerate(jax.tree_util.tree_leaves(model)) if a.dtype == jnp.float32]
    assert len(groups) == 20
    assert sorted(i for found in groups.values() for i in found) == floating


def test_cascading_destroys_from_the_top_down_and_independent_one_layer_at_a_time():
    model = small_net()
    for order, expected in {"cascading": ["dense", "conv dense"], "independent": ["dense", "conv"]}.items():
        method = Recorder(lambda i: some_map())
        found = jc.quality.randomization_check(model, images(), method, 0, key=KEY, order=order)
        assert found.layers == ("dense", "conv")
        hurt = [{n for n in ("conv", "dense") if any(n in c for c in changed(model, m))} for m in method.models]
        assert hurt == [set(), *(set(names.split()) for names in expected)]


def test_permuted_numbers_are_the_same_numbers():
    model = Normed()
    method = Recorder(lambda i: some_map())
    jc.quality.randomization_check(model, images(), method, 0, key=KEY)
    before, after = arrays(model), arrays(method.models[-1])
    for name, values in before.items():
        assert_array_equal(np.sort(values.ravel()), np.sort(after[name].ravel()))
    assert {"kernel", "scale", "mean"} <= {part for c in changed(model, method.models[-1]) for part in c.split(".")}


def test_redrawn_kernels_keep_mean_and_deviation_and_variances_stay_positive():
    model = Normed()
    method = Recorder(lambda i: some_map())
    jc.quality.randomization_check(model, images(), method, 0, key=KEY, how="redraw")
    before, after = arrays(model), arrays(method.models[-1])
    for name, values in before.items():
        if values.ndim > 1:
            assert not np.isin(after[name], values).any()
            assert_allclose(after[name].std(), values.std(), rtol=0.3)
        else:
            assert_array_equal(np.sort(values), np.sort(after[name]))


def test_the_model_that_was_handed_over_is_left_as_it_was():
    model = Normed()
    before = arrays(model)
    jc.quality.randomization_check(model, images(), jc.saliency, 0, key=KEY)
    for name, values in arrays(model).items():
        assert_array_equal(values, before[name])


def test_a_map_that_does_not_change_is_similar_and_one_of_the_other_sign_in_its_size_only():
    first = some_map()
    method = Recorder(lambda i: (first, first, -3 * first)[i])
    found = jc.quality.randomization_check(small_net(), images(), method, 0, key=KEY)
    assert_allclose(found.rank, [[1, 1], [-1, -1]], atol=1e-6)
    assert_allclose(found.absolute_rank, np.ones((2, 2)), atol=1e-6)
    assert_allclose(found.structure, np.ones((2, 2)), atol=1e-6)


def test_the_ranks_are_spearmans():
    first, second = some_map(0), jnp.round(some_map(1))  # with ties
    method = Recorder(lambda i: first if i == 0 else second)
    found = jc.quality.randomization_check(small_net(), images(), method, 0, key=KEY)
    for i in range(2):
        a, b = (np.asarray(maps)[i].ravel() for maps in (first, second))
        assert_allclose(found.rank[0, i], scipy.stats.spearmanr(a, b).statistic, atol=1e-6)
        assert_allclose(found.absolute_rank[0, i], scipy.stats.spearmanr(np.abs(a), np.abs(b)).statistic, atol=1e-6)


def test_a_network_that_died_has_maps_unlike_any():
    first = some_map()
    method = Recorder(lambda i: first if i == 0 else 0 * first)
    found = jc.quality.randomization_check(small_net(), images(), method, 0, key=KEY)
    assert_array_equal(found.rank, np.zeros((2, 2)))
    assert np.all(found.structure < 0.5)


def test_structure_is_of_pictures_and_small_maps_have_one():
    rng = np.random.default_rng(2)
    a = rng.random((12, 12))
    assert_allclose(structural_similarity(a, 5 * a + 2), 1)
    assert structural_similarity(a, rng.random((12, 12))) < 0.5
    assert_allclose(structural_similarity(a[:2, :2], 2 * a[:2, :2]), 1)
    assert structural_similarity(a[:1, :2], a[:1, :2][:, ::-1]) < 0.5


def test_the_predicted_class_stays_that_of_the_trained_network():
    model, x = small_net(), images()
    targets = []

    def method(model, x, target):
        targets.append(np.asarray(target))
        return jc.saliency(model, x, target)

    jc.quality.randomization_check(model, x, method, key=KEY)
    assert len(targets) == 3
    assert all(np.array_equal(t, model(x).argmax(-1)) for t in targets)


def test_the_same_key_gives_the_same_table_and_layers_can_be_chosen():
    model, x = small_net(), images()
    first = jc.quality.randomization_check(model, x, jc.saliency, 0, key=KEY)
    assert_array_equal(first.rank, jc.quality.randomization_check(model, x, jc.saliency, 0, key=KEY).rank)
    one = jc.quality.randomization_check(model, x, jc.saliency, 0, key=KEY, layers=["dense"])
    assert one.layers == ("dense",)
    assert_array_equal(one.rank, first.rank[:1])
    lines = str(first).splitlines()
    assert len(lines) == 3
    assert lines[1].split() == [
        "dense",
        *(f"{v[0].mean():.2f}" for v in (first.rank, first.absolute_rank, first.structure)),
    ]


def test_a_bare_closure_has_no_parameters():
    p = small_net().args[0]
    with pytest.raises(
        TypeError, match=r"no parameters to randomize: a bare closure .*Partial\(function, parameters\)"
    ):
        jc.quality.randomization_check(lambda x: forward(p, x), images(), jc.saliency, key=KEY)


BAD = {
    "an unknown order": ({"order": "cascade"}, ValueError, "no order 'cascade'; there are cascading, independent; did"),
    "an unknown way": ({"how": "zero"}, ValueError, "no how 'zero'; there are permute, redraw"),
    "an unknown layer": (
        {"layers": ["conv1"]},
        ValueError,
        "no layer 'conv1' with parameters .* there are dense, conv",
    ),
    "no layer": ({"layers": []}, ValueError, "layers names at least one"),
    "a method by name": ({"method": "saliency"}, TypeError, r"a method is a function \(model, x, target\) -> maps"),
    "a constant map": ({"method": lambda m, x, t: jnp.ones_like(x)}, ValueError, "map 0 is 1 everywhere"),
    "a target out of range": ({"target": 5}, ValueError, "target 5 is out of range"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case):
    wrong, kind, message = BAD[case]
    arguments = {"method": jc.saliency, "target": 0, **wrong}
    with pytest.raises(kind, match=message) as error:
        jc.quality.randomization_check(small_net(), images(), key=KEY, **arguments)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def trained():
    model = trained_nets.resnet_nnx()
    x, labels = trained_nets.cifar10()
    x, labels = jnp.asarray(x[:4]), labels[:4]
    assert_array_equal(model(x).argmax(-1), labels)  # it is trained
    return model, x


@pytest.mark.slow
def test_saliency_fails_with_the_weights_and_guided_backpropagation_hardly_changes(trained):
    """ResNet20, 91.5 % on CIFAR-10: measured means of the ranks are 0.00 and 0.65."""
    model, x = trained
    checks = {m: jc.quality.randomization_check(model, x, m, key=KEY) for m in (jc.saliency, jc.guided_backprop)}
    saliency, guided = (check.rank.mean(1) for check in checks.values())
    deep = slice(
        1, 6
    )  # with five of its convolutions gone too; the last layer alone leaves half the signs as they were
    assert np.all(guided[deep] > 0.7)
    assert np.abs(saliency[1:]).max() < 0.3
    assert guided[:-1].mean() > 0.5 + saliency.mean()
    structure = [check.structure.mean(1)[deep].mean() for check in checks.values()]
    assert structure[1] > structure[0] + 0.25


@pytest.mark.slow
def test_one_layer_alone_is_enough_to_change_saliency(trained):
    model, x = trained
    layers = ["layer3.2.conv1", "layer3.0.conv2", "layer2.0.conv1", "layer1.0.conv1"]
    ranks = [
        jc.quality.randomization_check(model, x, m, key=KEY, order="independent", layers=layers).rank.mean(1)
        for m in (jc.saliency, jc.guided_backprop)
    ]
    assert np.all(ranks[0] < 0.4)
    assert np.all(ranks[1] > ranks[0] + 0.2)
    assert np.all(ranks[1][:2] > 0.7)


def test_positions_ascend_whatever_order_sets_come_in():
    weights = [jnp.full((2, 2), float(n)) for n in range(9)]
    model = jax.tree_util.Partial(lambda w, x: (x.mean((1, 2)) @ w[8] @ w[1]) @ (w[0] + w[2]), weights)
    found = parameters_of_layers(model, jnp.ones((1, 2, 2, 2)))
    assert list({8, 1}) == [8, 1]
    assert list(found.values()) == [[0, 2], [1], [8]]
    alone = jax.tree_util.Partial(lambda w, x: x.mean((1, 2)) @ (w[8] + w[1]), weights)
    assert list(parameters_of_layers(alone, jnp.ones((1, 2, 2, 2))).values()) == [[1, 8]]
