"""The pruning study on edges: ties, rounding, what fills up a batch, what a random choice depends on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam.neurons import pruning
from jaxcam.neurons.pruning import ends, pruning_study
from jaxcam.neurons.pruning_table import PruningRow, read_pruning, summarize_pruning, write_pruning


def test_equal_scores_are_taken_in_the_order_of_the_units_at_both_ends():
    highest, lowest = ends(np.array([1.0, 0.0, 1.0, 0.0, 1.0, 0.0]), np.arange(6), 0.5)
    assert (highest.tolist(), lowest.tolist()) == ([0, 2, 4], [1, 3, 5])
    highest, lowest = ends(np.zeros(5), np.array([4, 1, 3]), 0.67)
    assert (highest.tolist(), lowest.tolist()) == ([4, 1], [4, 1])


@pytest.mark.parametrize(("fraction", "count"), [(0.0, 0), (0.12, 0), (0.13, 1), (0.4, 2), (0.9, 4), (1.0, 4)])
def test_a_fraction_is_rounded_to_whole_units(fraction, count):
    for units in ends(np.array([0.3, 0.1, 0.4, 0.2]), np.arange(4), fraction):
        assert len(units) == count


def test_a_random_choice_depends_on_seed_and_layer_and_nothing_else():
    live, scores = np.ones(40, bool), np.arange(40.0)

    def drawn(layer, scores, seeds):
        removals = pruning._removals(layer, scores, live, 0.5, seeds)
        return [keep.tolist() for which, _, keep in removals if which == "random"]

    first = drawn("conv1", scores, 3)
    assert len({tuple(keep) for keep in first}) == 3
    assert drawn("conv1", -scores, 2) == first[:2]
    assert all(a != b for a, b in zip(drawn("conv2", scores, 3), first, strict=True))


def test_among_live_units_only_live_units_are_removed():
    live = np.array([True, False, True, True, False, True])
    removals = pruning._removals("conv1", np.array([0.5, 0.9, 0.1, 0.7, 0.0, 0.2]), live, 0.5, 4)
    removed = {(which, seed): np.flatnonzero(~keep).tolist() for which, seed, keep in removals}
    assert removed["none", None] == []
    assert removed["most", None] == [0, 1, 3]
    assert removed["least", None] == [2, 4, 5]
    assert removed["most_live", None] == [0, 3]
    assert removed["least_live", None] == [2, 5]
    for seed in range(4):
        assert len(removed["random", seed]) == 3
        assert len(removed["random_live", seed]) == 2
        assert live[removed["random_live", seed]].all()


@pytest.mark.parametrize("black", [0, 1, 2])
def test_black_images_that_fill_up_a_batch_count_for_nothing(black):
    """Whatever class the network takes a black image for."""
    images = np.random.default_rng(black).random((5, 1, 1, 3)).astype(np.float32) + 0.1
    labels = np.array([0, 1, 2, 1, 0])
    bias = jnp.full(3, -0.05).at[black].set(0.0)

    def network(x):
        return jax.nn.relu(x.sum((1, 2)) @ jnp.eye(3)) @ jnp.eye(3) + bias

    def accuracies(batch):
        rows = pruning_study(
            network, images, labels, {"dense_0": np.array([[0.3, 0.1, 0.2]])}, {"dense_0": np.zeros((1, 3), bool)},
            seeds=2, batch=batch, progress=False,
        )  # fmt: skip
        return [row.accuracy for row in rows]

    right = np.asarray(network(images)).argmax(-1) == labels
    assert accuracies(5)[0] == right.mean()
    for batch in (1, 2, 3, 4, 64):
        assert accuracies(batch) == accuracies(5)


def test_a_unit_is_live_if_one_class_activates_it():
    network = lambda x: jax.nn.relu(x.sum((1, 2)) @ jnp.eye(3)) @ jnp.eye(3)
    dead = np.array([[True, True, False], [True, False, False]])
    rows = pruning_study(
        network, np.eye(3).reshape(3, 1, 1, 3), np.arange(3), {"dense_0": np.where(dead, 0, 0.5)}, {"dense_0": dead},
        fraction=0.5, seeds=1, progress=False,
    )  # fmt: skip
    assert {(row.units, row.live) for row in rows} == {(3, 2)}


def test_accuracies_as_far_apart_as_the_random_ones_are_not_beyond_them():
    def rows(most, least):
        kinds = {"none": [0.9], "most": [most], "least": [least], "random": [0.25, 0.5, 0.75]}
        return [
            PruningRow("conv", 8, 4, which + live, seed if which == "random" else None, 0.4, accuracy)
            for live in ("", "_live")
            for which, accuracies in kinds.items()
            if which + live != "none_live"
            for seed, accuracy in enumerate(accuracies)
        ]

    for most, least, beyond in ((0.25, 0.75, False), (0.75, 0.25, False), (0.125, 0.75, True), (0.75, 0.125, True)):
        (summary,) = summarize_pruning(rows(most, least))
        assert summary.beyond_random is summary.beyond_random_live is beyond
        assert summary.random_sd == summary.random_live_sd == 0.25


def test_of_one_random_choice_there_is_no_spread_and_of_two_there_is(tmp_path):
    kinds = [("none", None), *((w + v, None) for w in ("most", "least") for v in ("", "_live"))]
    rows = [PruningRow("conv", 8, 4, which, seed, 0.4, 0.5) for which, seed in kinds]
    for count, spread in ((1, None), (2, False)):
        more = [PruningRow("conv", 8, 4, "random" + v, seed, 0.4, 0.5) for v in ("", "_live") for seed in range(count)]
        (summary,) = summarize_pruning(rows + more)
        assert summary.beyond_random is summary.beyond_random_live is spread
        assert read_pruning(write_pruning(tmp_path / "pruning.csv", rows + more)) == rows + more


def test_a_bar_on_stderr_counts_every_image_of_every_layer(capfd, monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # as on a terminal
    network = lambda x: jax.nn.relu(x.sum((1, 2)) @ jnp.eye(2)) @ jnp.eye(2)
    similarity, dead = {"dense_0": np.array([[0.3, 0.1]])}, {"dense_0": np.zeros((1, 2), bool)}
    images, labels = np.ones((3, 1, 1, 2)), np.array([0, 1, 0])
    pruning_study(network, images, labels, similarity, dead, seeds=1, batch=2)
    output, errors = capfd.readouterr()
    assert output == ""
    assert "pruning" in errors
    assert "100%" in errors
    pruning_study(network, images, labels, similarity, dead, seeds=1, progress=False)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("broken", ["similarities", "dead units"])
@pytest.mark.parametrize("shape", [(2,), (0, 2), (1, 3), (1, 1, 2)])
def test_arrays_of_another_shape_are_refused(broken, shape):
    network = lambda x: jax.nn.relu(x.sum((1, 2)) @ jnp.eye(2)) @ jnp.eye(2)
    good = np.zeros((1, 2))
    tables = {"similarities": {"dense_0": good}, "dead units": {"dense_0": good.astype(bool)}}
    tables[broken] = {"dense_0": np.zeros(shape)}
    with pytest.raises(ValueError, match=f"{broken} of layer 'dense_0' have shape .* its 2 units need"):
        pruning_study(network, np.ones((1, 1, 1, 2)), np.array([0]), *tables.values(), seeds=1, progress=False)
