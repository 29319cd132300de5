"""Figures of checks, and of everything: each is a matplotlib figure, and each can be written as vectors."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxcam import studies, viewing
from jaxcam.program import Layer
from jaxcam.quality import Curve, Randomization

RANDOM = np.random.default_rng(0)
CURVES = {
    name: Curve(jnp.linspace(0, 1, 5), jnp.asarray(RANDOM.random((6, 5))), jnp.asarray(RANDOM.random(6)))
    for name in ("saliency", "random")
}
CHECKS = {
    name: Randomization("cascading", ("head", "conv1", "conv0"), *RANDOM.uniform(-1, 1, (3, 3, 4)))
    for name in ("saliency", "guided_backprop")
}


CHARTS = {
    "comparison", "dead_units", "distributions", "exchange_curves", "leaks", "network_graph", "randomization",
    "similarity_curves",
}  # fmt: skip
"""Figures without a pixel in them."""


def one_of_each():
    """Every figure that can be drawn from a few numbers, by its name."""
    maps, images, names = RANDOM.normal(size=(4, 6, 6, 1)), RANDOM.random((4, 6, 6, 1)), ["ant", "bee", "cat", "dog"]
    similarity = {"conv0": RANDOM.random((4, 5)), "conv1": RANDOM.random((4, 5))}
    units = np.r_[0:8, 8:16]
    tests = studies.RegionCheck(0.1, {"saliency": np.array([0.3, 0.5])}, {}, np.arange(2), 0.9, 0.4, 0.2, 0.7, 50)
    flat = RANDOM.normal(size=(12, 4, 4))
    key = jax.random.key(0)
    values = {"conv0": RANDOM.normal(size=(5, 30))}
    laws = {layer: studies.distributions(rows, key=key, draws=9) for layer, rows in values.items()}
    comparison = {"cam": {"deletion": np.array([0.1, 0.2])}, "random": {"deletion": np.array([0.4, 0.5])}}
    return {
        "averages": viewing.averages({"simple": images}, names),
        "comparison": viewing.comparison(comparison),
        "confidence": viewing.confidence({"simple": np.eye(4)}, names),
        "contact_sheet": viewing.contact_sheet(images, {"saliency": maps[..., 0]}, titles=names),
        "dead_units": viewing.dead_units({"conv0": RANDOM.random((4, 5)) < 0.5}),
        "distributions": viewing.distributions(values, laws),
        "exchange_curves": viewing.exchange_curves(CURVES),
        "excitements": viewing.excitements(images[:, None], names),
        "extreme_units": viewing.extreme_units(
            images[0], units, RANDOM.normal(size=(16, 6, 6, 1)), RANDOM.random(16), layer="conv0", name="ant"
        ),
        "heatmap_groups": viewing.heatmap_groups(studies.heatmap_clusters(flat, key=key), None),
        "leaks": viewing.leaks({"leaking": tests}),
        "maps": viewing.maps(maps),
        "network_graph": viewing.network_graph([Layer("conv0", "conv", (6, 6, 5), 5)], [("", "conv0")]),
        "overlay": viewing.overlay(images[0], maps[0, ..., 0]),
        "randomization": viewing.randomization(CHECKS),
        "redundancy": viewing.redundancy(studies.redundancy(flat)),
        "similarity_curves": viewing.similarity_curves(similarity, names),
        "weights": viewing.weights({"conv0": RANDOM.normal(size=(3, 3, 1, 5))}),
    }


@pytest.fixture(scope="module")
def drawn():
    return one_of_each()


def test_every_figure_is_returned_for_others_to_use(drawn):
    elsewhere = {  # drawn in tests of their own, of rows or of a study's results; and what is no figure
        "concepts", "history", "landscape", "linear_pieces", "pruning", "turning_landscape",
        "save", "save_page", "figures", "report", "atlas", "Probe",
    }  # fmt: skip
    assert drawn.keys() | elsewhere == set(viewing.__all__)
    assert all(isinstance(figure, Figure) for figure in drawn.values())


@pytest.mark.slow
def test_every_figure_can_be_written_as_vectors(drawn, tmp_path):
    for name, figure in drawn.items():
        text = viewing.save(figure, tmp_path / f"{name}.svg").read_text()
        assert "<text" in text, name  # text stays text
        assert (name in CHARTS) == ("<image" not in text), name
        assert viewing.save(figure, tmp_path / f"{name}.pdf").read_bytes().startswith(b"%PDF"), name


def test_what_has_a_sign_has_its_zero_in_the_middle_of_its_colors(drawn):
    seen = set()
    for name, figure in drawn.items():
        for axes in figure.get_axes():
            for image in axes.get_images():
                if image.get_cmap().name == "RdBu_r" and np.asarray(image.get_array()).ndim == 2:
                    low, high = image.get_clim()
                    assert low == -high, name
                    seen.add(name)
    assert {"maps", "extreme_units", "redundancy", "heatmap_groups"} <= seen


def test_a_curve_is_the_mean_over_images_and_its_area_is_said():
    (axes,) = viewing.exchange_curves(CURVES, title="Insertion").get_axes()
    np.testing.assert_allclose(axes.lines[0].get_ydata(), CURVES["saliency"].curve.mean(0))
    said = [text.get_text() for text in axes.get_legend().get_texts()]
    assert said[1] == f"random (area {CURVES['random'].area.mean():.2f})"
    assert axes.lines[1].get_linestyle() == "--"
    band = axes.collections[0].get_paths()[0].vertices
    values = CURVES["saliency"].curve
    assert band[:, 1].max() == pytest.approx((values.mean(0) + values.std(0, ddof=1) / np.sqrt(6)).max())


def test_a_randomization_has_a_point_for_each_layer_and_zero_in_the_middle():
    figure = viewing.randomization(CHECKS)
    for axes, part in zip(figure.get_axes(), ("rank", "absolute_rank", "structure"), strict=True):
        for line, check in zip(axes.containers, CHECKS.values(), strict=True):
            np.testing.assert_allclose(line.lines[0].get_ydata(), getattr(check, part).mean(1))
        low, high = axes.get_ylim()
        assert low == -high
    assert re.search("head", " ".join(text.get_text() for text in figure.get_axes()[0].get_xticklabels()))


def test_nothing_to_draw_and_layers_that_differ_are_refused():
    with pytest.raises(ValueError, match="no curves"):
        viewing.exchange_curves({})
    with pytest.raises(ValueError, match="no checks"):
        viewing.randomization({})
    other = Randomization("cascading", ("head",), *np.zeros((3, 1, 4)))
    with pytest.raises(ValueError, match="mine has the layers head, not head, conv1, conv0"):
        viewing.randomization({**CHECKS, "mine": other})
