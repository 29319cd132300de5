"""Silenced units against networks whose parameters really are zero, and the pruning study against a slow loop."""

import csv
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.tree_util import Partial

from jaxcam.neurons import pruning
from jaxcam.neurons.prune import peak_layer, prune
from jaxcam.neurons.pruning import pruning_study
from jaxcam.neurons.pruning_table import WHICH, PruningRow, read_pruning, summarize_pruning, write_pruning
from jaxcam.program import layers, patch, tag, tap


class Chain(nnx.Module):
    """Convolutions with ReLU and pooling, then two dense layers."""

    def __init__(self, seed=0):
        rngs = nnx.Rngs(seed)
        self.conv0 = nnx.Conv(2, 5, (3, 3), rngs=rngs, bias_init=nnx.initializers.normal(0.5))
        self.conv1 = nnx.Conv(5, 6, (3, 3), rngs=rngs, bias_init=nnx.initializers.normal(0.5))
        self.dense0 = nnx.Linear(6, 8, rngs=rngs, bias_init=nnx.initializers.normal(0.5))
        self.dense1 = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(jax.nn.relu(self.conv0(x)), (2, 2), strides=(2, 2))
        x = jax.nn.relu(self.conv1(x)).mean((1, 2))
        return self.dense1(jax.nn.relu(self.dense0(x)))


class Residual(nnx.Module):
    """A skip past a convolution with batch norm, so that what precedes a layer is needed after it too."""

    def __init__(self, seed=0):
        rngs = nnx.Rngs(seed)
        self.conv0 = nnx.Conv(2, 4, (3, 3), rngs=rngs)
        self.conv1 = nnx.Conv(4, 4, (3, 3), use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)
        self.norm.bias[...] = jnp.array([1.0, 2.0, -1.0, 0.5])
        self.conv2 = nnx.Conv(4, 4, (3, 3), rngs=rngs)
        self.dense = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        x = jax.nn.relu(self.conv0(x))
        y = self.conv2(jax.nn.relu(self.norm(self.conv1(x))))
        return self.dense(tag(jax.nn.relu(x + y), "block").mean((1, 2)))


@pytest.fixture(scope="module")
def x():
    return jnp.asarray(np.random.default_rng(0).random((7, 6, 6, 2)), jnp.float32)


def zeroed(layer, units):
    """The chain with parameters set to 0 by hand, as the thesis does it."""
    net = Chain()
    module = getattr(net, layer)
    module.kernel[...] = module.kernel[...].at[..., jnp.asarray(units)].set(0)
    module.bias[...] = module.bias[...].at[jnp.asarray(units)].set(0)
    return net


def same_but_for_rounding(found, expected):
    """Two programs for one function: XLA before JAX 0.10 sums one of them in another order."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=2**-22 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("layer", "units"), [("conv0", [0, 3]), ("conv1", [5]), ("dense0", [1, 2, 7]), ("dense1", [0]), ("conv0", range(5))]
)
def test_a_silenced_unit_equals_a_zeroed_kernel_and_bias(x, layer, units):
    same_but_for_rounding(prune(Chain(), layer, units)(x), zeroed(layer, list(units))(x))


def test_pruning_changes_the_output_and_leaves_the_model_alone(x):
    net = Chain()
    before = np.asarray(net(x))
    assert np.abs(prune(net, "conv1", [0, 1, 2])(x) - before).max() > 0.01
    np.testing.assert_array_equal(net(x), before)


def test_no_units_leave_every_output_as_it_was(x):
    for net, layer in ((Chain(), "conv0"), (Residual(), "block"), (Residual(), "conv1")):
        same_but_for_rounding(prune(net, layer, [])(x), net(x))


def test_order_and_repetition_of_units_do_not_matter(x):
    want = prune(Chain(), "conv1", [1, 4])(x)
    for units in ([4, 1], (1, 4, 4), np.array([4, 1]), jnp.array([1, 4]), {1, 4}):
        np.testing.assert_array_equal(prune(Chain(), "conv1", units)(x), want)
    np.testing.assert_array_equal(prune(Chain(), "conv1", 4)(x), prune(Chain(), "conv1", [4])(x))


@pytest.mark.parametrize("order", [("conv0", "conv1", "dense0"), ("dense0", "conv1", "conv0")])
def test_prunes_compose_in_any_order(x, order):
    units = {"conv0": [0, 3], "conv1": [5], "dense0": [1, 2]}
    net, hand = Chain(), Chain()
    for layer in order:
        net = prune(net, layer, units[layer])
        module = getattr(hand, layer)
        module.kernel[...] = module.kernel[...].at[..., jnp.asarray(units[layer])].set(0)
        module.bias[...] = module.bias[...].at[jnp.asarray(units[layer])].set(0)
    np.testing.assert_array_equal(net(x), hand(x))


def test_two_prunes_of_one_layer_silence_the_union(x):
    twice = prune(prune(Chain(), "conv1", [0, 1]), "conv1", [1, 4])
    np.testing.assert_array_equal(twice(x), prune(Chain(), "conv1", [0, 1, 4])(x))


@pytest.mark.slow
@pytest.mark.parametrize("make", [Chain, Residual])
def test_a_pruned_model_has_the_same_layers_and_shows_its_silence(x, make):
    net = make()
    for layer in layers(net, x):
        if layer.kind == "concat":
            continue
        silent = prune(net, layer.name, [0, layer.units - 1])
        assert layers(silent, x) == layers(net, x)
        seen, before = tap(silent, layer.name)(x), tap(net, layer.name)(x)
        assert (seen[..., [0, -1]] == 0).all(), layer.name
        np.testing.assert_array_equal(seen[..., 1:-1], before[..., 1:-1])


@pytest.mark.parametrize("layer", ["conv0", "conv1", "conv2", "block"])
def test_residual_networks_equal_a_value_patched_by_hand(x, layer):
    net = Residual()
    value = tap(net, layer)(x).at[..., jnp.array([1, 3])].set(0)
    np.testing.assert_allclose(prune(net, layer, [1, 3])(x), patch(net, layer)(x, value), atol=1e-6)


def test_prunes_around_a_skip_compose(x):
    net = prune(prune(Residual(), "conv1", [0]), "conv0", [2])
    net = prune(prune(net, "block", [1]), "conv2", [3])
    hand = Residual()
    for module in (hand.conv0, hand.conv2):
        unit = 2 if module is hand.conv0 else 3
        module.kernel[...] = module.kernel[...].at[..., unit].set(0)
        module.bias[...] = module.bias[...].at[unit].set(0)
    hand.norm.scale[...] = hand.norm.scale[...].at[0].set(0)
    hand.norm.bias[...] = hand.norm.bias[...].at[0].set(0)
    hand.dense.kernel[...] = hand.dense.kernel[...].at[1].set(0)
    np.testing.assert_allclose(net(x), hand(x), atol=1e-6)


def test_behind_batch_norm_the_unit_is_silent_where_a_zeroed_kernel_is_not(x):
    net, hand = Residual(), Residual()
    hand.conv1.kernel[...] = hand.conv1.kernel[...].at[..., 1].set(0)
    assert (tap(prune(net, "conv1", [1]), "conv1")(x)[..., 1] == 0).all()
    assert (tap(hand, "conv1")(x)[..., 1] > 1).all()


def channels_first(kernel, dense, x):
    y = jnp.transpose(x, (0, 3, 1, 2))
    y = jax.lax.conv_general_dilated(y, kernel, (1, 1), "SAME")
    return jnp.maximum(y, 0).sum((2, 3)) @ dense


def test_units_on_another_axis_and_a_functional_relu_are_found(x):
    generator = np.random.default_rng(1)
    kernel, dense = (jnp.asarray(generator.normal(size=s), jnp.float32) for s in ((4, 2, 3, 3), (4, 3)))
    net = Partial(channels_first, kernel, dense)
    want = channels_first(kernel.at[2].set(0), dense, x)
    np.testing.assert_allclose(prune(net, "conv_0", [2])(x), want, atol=1e-5)
    np.testing.assert_allclose(prune(lambda x: net(x), "conv_0", [2])(x), want, atol=1e-5)


@pytest.mark.parametrize("relu", [jax.nn.relu6, jax.nn.leaky_relu, lambda y: jnp.where(y > 0, y, 0)])
def test_other_rectifiers_are_silenced_too(x, relu):
    kernel = jnp.asarray(np.random.default_rng(1).normal(size=(2, 4)), jnp.float32)

    def net(x):
        return relu(x @ kernel)

    got = prune(net, "dense_0", [1, 2])(x)
    np.testing.assert_array_equal(got, net(x).at[..., jnp.array([1, 2])].set(0))


@pytest.mark.slow
def test_a_pruned_model_goes_through_jit_vmap_and_grad(x):
    silent, hand = prune(Chain(), "conv1", [0, 5]), zeroed("conv1", [0, 5])
    want = hand(x)
    np.testing.assert_allclose(jax.jit(silent)(x), want, atol=1e-6)
    np.testing.assert_allclose(jax.jit(lambda net, x: net(x))(silent, x), want, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(lambda one: silent(one[None])[0])(x), want, atol=1e-6)
    gradient = jax.jit(jax.grad(lambda x, net: net(x)[:, 1].sum()))
    gradients = [gradient(x, net) for net in (silent, hand)]
    np.testing.assert_allclose(*gradients, atol=1e-6)
    # A silenced unit has no gradient in its own parameters either.
    own = jax.jit(jax.grad(lambda net: net(x).sum()))(silent).transformed_model.conv1
    assert (own.kernel[...][..., [0, 5]] == 0).all()
    assert (own.kernel[...][..., 1:5] != 0).any()


def test_other_weights_of_a_pruned_model_need_no_second_compilation(x):
    run = jax.jit(lambda net, x: net(x))
    for seed in range(3):
        run(prune(Chain(seed), "conv1", [0, 5]), x)
    assert run._cache_size() == 1


def test_the_leaves_of_a_pruned_model_are_the_models_own():
    net = Chain()
    assert jax.tree_util.tree_leaves(prune(net, "conv1", [0])) == jax.tree_util.tree_leaves(net)


def test_units_that_are_not_there_are_refused(x):
    with pytest.raises(ValueError, match="layer 'conv1' has no unit 6; its 6 units are 0 to 5"):
        prune(Chain(), "conv1", [2, 6])(x)
    with pytest.raises(ValueError, match="units count from 0; got -1"):
        prune(Chain(), "conv1", [-1])
    for units in ([0.5], [True, False, True, False, True, False], ["a"]):
        with pytest.raises(TypeError, match=r"units are whole numbers from 0; got .*np\.flatnonzero"):
            prune(Chain(), "conv1", units)


def test_a_layer_that_is_not_there_names_the_closest(x):
    with pytest.raises(ValueError, match="no layer 'conv7'; did you mean 'conv"):
        prune(Chain(), "conv7", [0])(x)


def test_the_peak_counts_the_convolutions_up_to_it():
    assert peak_layer([0.1, 0.3, 0.2]) == 2
    assert peak_layer([0.4, 0.3, 0.2]) == 1
    assert peak_layer([0.1, 0.5, 0.5]) == 2
    # Each class peaks somewhere else than their mean.
    assert peak_layer(np.array([[0.9, 0.8, 0.0], [0.0, 0.8, 0.9]])) == 2


def test_curves_without_a_peak_are_refused():
    with pytest.raises(ValueError, match="a curve is NaN at layer 1"):
        peak_layer([0.1, math.nan])
    with pytest.raises(ValueError, match="not empty"):
        peak_layer([])


# ---- the study ----


@pytest.fixture(scope="module")
def case():
    """A network, images it classifies well, and similarities of which some belong to dead units."""
    generator = np.random.default_rng(3)
    net = Chain(4)
    images = (generator.random((53, 6, 6, 2)) * generator.random((53, 1, 1, 2))).astype(np.float32)
    # Otherwise one class gets them all.
    net.dense1.bias[...] = -net(images).mean(0)
    labels = np.asarray(net(images).argmax(-1)).astype(np.int32)
    assert len(set(labels.tolist())) == 3
    labels[:6] = (labels[:6] + 1) % 3
    similarity, dead = {}, {}
    for layer, units in (("conv0", 5), ("conv1", 6), ("dense0", 8)):
        dead[layer] = generator.random((3, units)) < 0.5
        dead[layer][:, 1] = True
        similarity[layer] = np.where(dead[layer], 0, generator.uniform(-1, 1, (3, units)))
    return net, images, labels, similarity, dead


@pytest.fixture(scope="module")
def rows(case):
    return pruning_study(*case, seeds=3, batch=16, progress=False)


def looped_accuracy(net, images, labels, layer, removed):
    right = 0
    for logits, label in zip(np.asarray(prune(net, layer, removed)(images)), labels, strict=True):
        right += int(max(range(3), key=lambda i: logits[i]) == label)
    return right / len(labels)


def looped_choice(similarity, dead, which, fraction):
    """The units to remove, by plain sorting."""
    units = range(similarity.shape[1])
    if which.endswith("_live"):
        units = [unit for unit in units if not all(dead[c][unit] for c in range(3))]
    score = {unit: sum(similarity[c][unit] for c in range(3)) / 3 for unit in units}
    ranked = sorted(units, key=lambda unit: score[unit], reverse=which.startswith("most"))
    return ranked[: round(fraction * len(units))] if which != "none" else []


def test_the_study_equals_pruning_one_by_one(case, rows):
    net, images, labels, similarity, dead = case
    checked = 0
    for row in rows:
        if row.seed is None:
            removed = looped_choice(similarity[row.layer], dead[row.layer], row.which, 0.4)
            assert row.accuracy == looped_accuracy(net, images, labels, row.layer, removed)
            checked += 1
    assert checked == 15
    # Otherwise the comparison above would be one of constants.
    assert len({row.accuracy for row in rows}) > 4


def test_random_choices_are_what_their_masks_say(case, rows):
    net, images, labels, similarity, dead = case
    layer = "dense0"
    live = ~dead[layer].all(0)
    removals = pruning._removals(layer, similarity[layer].mean(0), live, 0.4, 3)
    own = [row for row in rows if row.layer == layer]
    assert [(row.which, row.seed) for row in own] == [(which, seed) for which, seed, _ in removals]
    for row, (which, _, keep) in zip(own, removals, strict=True):
        assert row.accuracy == looped_accuracy(net, images, labels, layer, np.flatnonzero(~keep))
        if which == "random":
            assert (~keep).sum() == 3
        if which == "random_live":
            assert (~keep).sum() == round(0.4 * live.sum())
            assert keep[~live].all()
    assert len({keep.tobytes() for which, _, keep in removals if which == "random"}) > 1


def test_rows_say_what_was_studied(case, rows):
    _, _, _, similarity, dead = case
    assert [row.layer for row in rows] == [layer for layer in similarity for _ in range(11)]
    for row in rows:
        assert row.units == similarity[row.layer].shape[1]
        assert row.live == int((~dead[row.layer].all(0)).sum())
        assert row.fraction == 0.4
        assert (row.seed is None) == (not row.which.startswith("random"))
    assert {row.which for row in rows} == set(WHICH)


def test_nothing_removed_is_the_accuracy_of_the_model_itself(case, rows):
    net, images, labels, *_ = case
    accuracy = float((np.asarray(net(images)).argmax(-1) == labels).mean())
    assert accuracy == pytest.approx(47 / 53)
    assert all(row.accuracy == accuracy for row in rows if row.which == "none")


def test_the_study_repeats_itself_in_any_batch_and_layer_by_layer(case, rows):
    for batch in (1, 53, 500):
        assert pruning_study(*case, seeds=3, batch=batch, layers=["conv1"], progress=False) == rows[11:22]
    assert pruning_study(*case, seeds=3, layers=["dense0", "conv0"], progress=False) == rows[22:] + rows[:11]


def test_more_seeds_keep_the_earlier_ones(case, rows):
    fewer = pruning_study(*case, seeds=1, layers=["conv0"], progress=False)
    assert [row for row in rows[:11] if row.seed in (None, 0)] == fewer


def test_of_a_distance_the_smallest_is_the_most_similar(case):
    net, images, labels, similarity, dead = case
    distances = {layer: 0.5 - values / 2 for layer, values in similarity.items()}
    by_distance = pruning_study(net, images, labels, distances, dead, seeds=1, metric="euclidean", progress=False)
    assert by_distance == pruning_study(net, images, labels, similarity, dead, seeds=1, progress=False)


def test_a_layer_of_dead_units_has_nothing_live_to_remove(case):
    net, images, labels, similarity, dead = case
    everything = {layer: np.ones_like(values) for layer, values in dead.items()}
    for row in pruning_study(net, images, labels, similarity, everything, seeds=1, progress=False):
        assert row.live == 0
        assert not row.which.endswith("_live") or row.accuracy == pytest.approx(47 / 53)


def test_fractions_of_none_and_all_are_allowed(case):
    net, images, labels, *_ = case
    for row in pruning_study(*case, fraction=0.0, seeds=1, layers=["conv0"], progress=False):
        assert row.accuracy == pytest.approx(47 / 53)
    whole = pruning_study(*case, fraction=1.0, seeds=1, layers=["conv0"], progress=False)
    silent = looped_accuracy(net, images, labels, "conv0", range(5))
    assert {row.accuracy for row in whole if row.which in ("most", "least", "random")} == {silent}


def test_the_study_runs_through_a_skip(x):
    net = Residual()
    images = np.random.default_rng(2).random((20, 6, 6, 2)).astype(np.float32)
    labels = np.random.default_rng(2).integers(0, 3, 20)
    similarity = {layer: np.random.default_rng(2).random((3, 4)) for layer in ("conv1", "block")}
    dead = {layer: np.zeros((3, 4), bool) for layer in similarity}
    for row in pruning_study(net, images, labels, similarity, dead, seeds=1, batch=8, progress=False):
        if row.seed is None:
            removed = looped_choice(similarity[row.layer], dead[row.layer], row.which, 0.4)
            assert row.accuracy == looped_accuracy(net, images, labels, row.layer, removed)


def test_each_layer_compiles_once_for_all_masks_and_weights_of_a_batch_size(case):
    net, images, labels, similarity, dead = case
    first = pruning_study(*case, seeds=2, batch=16, progress=False)
    before = pruning._hits._cache_size()
    second = pruning_study(Chain(5), images, labels, similarity, dead, seeds=2, batch=16, progress=False)
    assert first != second
    assert pruning._hits._cache_size() == before
    pruning_study(net, images, labels, similarity, dead, seeds=2, batch=13, progress=False)
    assert pruning._hits._cache_size() == before + 3


def test_similarities_that_do_not_belong_to_the_model_are_refused(case):
    net, images, labels, similarity, dead = case
    run = {"seeds": 1, "progress": False}
    with pytest.raises(ValueError, match="no layer 'conv9'; did you mean 'conv"):
        pruning_study(net, images, labels, {"conv9": similarity["conv0"]}, {"conv9": dead["conv0"]}, **run)
    with pytest.raises(ValueError, match="no layer 'conv9'"):
        pruning_study(*case, layers=["conv9"], **run)
    with pytest.raises(ValueError, match=r"no similarities of layer 'dense1'; did you mean 'dense0'\?"):
        pruning_study(*case, layers=["dense1"], **run)
    with pytest.raises(ValueError, match="no dead units of layer 'conv0'"):
        pruning_study(net, images, labels, similarity, {}, **run)
    other = {**similarity, "conv1": similarity["conv0"]}
    with pytest.raises(
        ValueError, match=r"similarities of layer 'conv1' have shape \(3, 5\); its 6 units need \(classes"
    ):
        pruning_study(net, images, labels, other, dead, **run)
    broken = {**similarity, "conv1": np.full((3, 6), np.nan)}
    with pytest.raises(ValueError, match="a similarity of layer 'conv1' is NaN or infinite"):
        pruning_study(net, images, labels, broken, dead, **run)


def test_impossible_studies_are_refused(case):
    net, images, labels, similarity, dead = case
    for options in ({"fraction": 1.5}, {"fraction": -0.1}, {"seeds": 0}):
        with pytest.raises(ValueError, match="pruning needs 0 ≤ fraction ≤ 1 and seeds ≥ 1"):
            pruning_study(*case, **options)
    with pytest.raises(ValueError, match="no measure 'cosin'; did you mean 'cosine'"):
        pruning_study(*case, metric="cosin")
    with pytest.raises(ValueError, match=r"53 images need labels of shape \(53,\); got \(52,\)"):
        pruning_study(net, images, labels[:-1], similarity, dead)
    with pytest.raises(ValueError, match="the model has 3 outputs, but labels go up to 3"):
        pruning_study(net, images, labels + 1, similarity, dead)
    with pytest.raises(TypeError, match="got uint8"):
        pruning_study(net, (images * 255).astype(np.uint8), labels, similarity, dead)
    spoiled = images.copy()
    spoiled[21, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="image 21 has NaN"):
        pruning_study(net, spoiled, labels, similarity, dead, batch=8, progress=False)


# ---- the table ----


def table(figures, layer="conv3"):
    return [
        PruningRow(layer, 512, 97, which, seed, 0.4, accuracy)
        for which, accuracies in figures.items()
        for seed, accuracy in (enumerate(accuracies) if which.startswith("random") else [(None, accuracies[0])])
    ]


FIGURES = {
    "none": [0.739],
    "most": [0.198],
    "least": [0.740],
    "random": [0.5, 0.6, 0.7],
    "most_live": [0.30],
    "least_live": [0.41],
    "random_live": [0.2, 0.4, 0.3],
}


def test_the_summary_of_figures_worked_out_by_hand():
    (summary,) = summarize_pruning(table(FIGURES))
    assert (summary.layer, summary.units, summary.live) == ("conv3", 512, 97)
    assert (summary.none, summary.most, summary.least) == (0.739, 0.198, 0.740)
    assert summary.random_mean == pytest.approx(0.6)
    assert summary.random_sd == pytest.approx(0.1)
    assert summary.beyond_random is True  # 0.542 against 0.2
    assert (summary.most_live, summary.least_live) == (0.30, 0.41)
    assert summary.random_live_sd == pytest.approx(0.1)
    assert summary.beyond_random_live is False  # 0.11 against 0.2


def test_one_seed_has_no_spread():
    (summary,) = summarize_pruning(table({**FIGURES, "random": [0.5], "random_live": [0.2]}))
    assert summary.beyond_random is summary.beyond_random_live is None
    assert math.isnan(summary.random_sd)


def test_summaries_come_in_the_order_of_layers_and_incomplete_tables_are_refused(rows):
    assert [summary.layer for summary in summarize_pruning(rows)] == ["conv0", "conv1", "dense0"]
    with pytest.raises(ValueError, match="layer 'conv3' has no row of kind least, random_live"):
        summarize_pruning([row for row in table(FIGURES) if row.which not in ("least", "random_live")])
    with pytest.raises(ValueError, match="several fractions"):
        summarize_pruning([*table(FIGURES), PruningRow("conv3", 512, 97, "most", None, 0.2, 0.5)])


def test_a_table_reads_back_as_it_was_and_any_reader_of_csv_reads_it(rows, tmp_path):
    path = write_pruning(tmp_path / "pruning.csv", rows)
    assert read_pruning(path) == rows
    with open(path, newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["layer", "units", "live", "which", "seed", "fraction", "accuracy", "competing"]
    assert len(lines) == len(rows) + 1
    assert [line[4] for line in lines[1:12]] == ["", "", "", "0", "1", "2", "", "", "0", "1", "2"]


def test_files_that_are_no_such_table_are_refused(tmp_path, rows):
    path = tmp_path / "pruning.csv"
    path.write_text("layer,units\nconv0,3\n")
    with pytest.raises(ValueError, match=r"pruning\.csv is no table of a pruning study"):
        read_pruning(path)
    path.write_text("")
    with pytest.raises(ValueError, match="is no table of a pruning study"):
        read_pruning(path)
    write_pruning(path, rows)
    whole = path.read_text()
    for broken in (
        whole[: whole.rindex(",")],
        whole + "conv0,5,many,most,,0.4,0.5,3\n",
        whole + "conv0,5,4,best,,0.4,0.5,3\n",
        whole + "conv0,5,4,most,,0.4,0.5,3,1\n",
        whole + "conv0,5,4,most,,0.4,0.5\n",
        whole + "conv0,5,4,most,,0.4,0.5,all\n",
    ):
        path.write_text(broken)
        with pytest.raises(ValueError, match=r"pruning\.csv, line 3[45]: not a row of a pruning study"):
            read_pruning(path)
    with pytest.raises(FileNotFoundError):
        read_pruning(tmp_path / "none.csv")
