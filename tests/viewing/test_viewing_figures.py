"""Figures: what is drawn is what was given."""

import dataclasses

import matplotlib
import numpy as np
import pytest

from jaxcam import viewing
from jaxcam.viewing.colors import limit, reduced, signed_picture
from jaxcam.viewing.figures.style import Figure

CLASSES = ["ant", "bee", "cat"]
RANDOM = np.random.default_rng(0)


def images(figure):
    return figure.get_axes()[0].get_images()


def texts(figure):
    return [text.get_text() for axes in figure.get_axes() for text in axes.texts]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_averages_draw_every_kind_of_every_class():
    simple, most = RANDOM.random((2, 3, 8, 8, 1), dtype=np.float32)
    figure = viewing.averages({"simple": simple, "most": most}, CLASSES)
    drawn = [np.asarray(image.get_array()) for image in images(figure)]
    expected = [array[i, ..., 0] for i in range(3) for array in (simple, most)]
    assert all(np.array_equal(a, b) for a, b in zip(drawn, expected, strict=True))
    assert {"ant", "bee", "cat", "mean of all images", "most confident"} <= set(texts(figure))
    said = " ".join(texts(figure)).replace("\n", " ")
    assert "stretched, each color channel to the full range of the class; most and least confident: plain means" in said
    assert not any("plain means" in text for text in texts(viewing.averages({"most": most}, CLASSES)))


def test_averages_of_color_images_are_cut_to_the_range_of_colors():
    figure = viewing.averages({"ascent": np.linspace(-1, 2, 3 * 48).reshape(3, 4, 4, 3)}, CLASSES)
    colors = np.concatenate([np.asarray(image.get_array()) for image in images(figure)])
    assert colors.shape[-1] == 3
    assert (colors.min(), colors.max()) == (0, 1)


def test_many_classes_are_wrapped_into_blocks_that_do_not_overlap():
    figure = viewing.averages({"simple": np.zeros((23, 8, 8, 1))}, [f"class {i}" for i in range(23)])
    corners = {tuple(np.round(image.get_extent(), 3)) for image in images(figure)}
    assert len(corners) == 23
    width, height = figure.get_size_inches()
    assert all(0 <= left < right <= width and 0 <= top < bottom <= height for left, right, bottom, top in corners)


def test_too_few_class_names_are_refused_in_one_line():
    with pytest.raises(ValueError, match=r"have 3 classes, but 1 class names were given$"):
        viewing.averages({"simple": np.zeros((3, 8, 8, 1))}, ["ant"])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused_by_name(bad):
    array = np.zeros((3, 8, 8, 1))
    array[1, 2, 3] = bad
    with pytest.raises(ValueError, match="average 'most' holds 1 NaN or infinite value of 192"):
        viewing.averages({"most": array}, CLASSES)


def test_a_signed_map_of_one_channel_has_symmetric_limits_and_a_diverging_scale():
    map = np.linspace(-1, 4, 64).reshape(1, 8, 8, 1)
    (image,) = images(viewing.maps(map))
    low, high = image.get_clim()
    assert low == -high == -limit(map[0])
    assert image.get_cmap().name == "RdBu_r"
    assert np.array_equal(image.get_array(), map[0, ..., 0])


def test_a_signed_map_of_three_channels_is_grey_where_it_is_zero():
    map = np.zeros((1, 4, 4, 3))
    map[0, 0, 0], map[0, 1, 1] = 2.0, -2.0
    drawn = np.asarray(images(viewing.maps(map))[0].get_array())
    assert drawn[0, 0].tolist() == [1, 1, 1]
    assert drawn[1, 1].tolist() == [0, 0, 0]
    assert drawn[2, 2].tolist() == [0.5, 0.5, 0.5]


def test_the_legend_of_color_maps_without_a_sign_says_that_black_is_zero():
    said = texts(viewing.maps(RANDOM.random((2, 8, 8, 3))))
    assert "black: 0" in said
    assert not any("negative" in text for text in said)


def test_fifty_layers_stay_on_a_page_and_their_names_apart():
    similarity = {f"layer{i}.conv": RANDOM.random((3, 4)) for i in range(50)}
    figure = viewing.similarity_curves(similarity, CLASSES)
    assert figure.get_size_inches()[0] <= 13
    assert len(figure.get_axes()[0].get_xticks()) <= 25


def test_maps_without_a_sign_get_a_sequential_scale_from_zero():
    (image,) = images(viewing.maps(np.linspace(0, 4, 64).reshape(1, 8, 8)))
    assert image.get_clim()[0] == 0
    assert image.get_cmap().name == "cividis"


def test_shared_maps_have_one_scale_with_its_number_in_the_legend():
    figure = viewing.maps(np.stack([np.full((8, 8, 1), -1.0), np.full((8, 8, 1), 4.0)]), shared=True)
    assert [image.get_clim() for image in images(figure)] == [(-4, 4), (-4, 4)]
    assert [label.get_text() for label in figure.get_axes()[1].get_xticklabels()] == ["−4", "0", "+4"]
    assert "one scale for all maps" in texts(figure)


def test_the_legend_says_what_the_signs_mean():
    figure = viewing.extreme_units(
        np.ones((8, 8, 1)), np.arange(16), RANDOM.normal(size=(16, 8, 8, 1)), np.zeros(16), layer="conv1", name="ant"
    )
    assert any("red (+): brightening this pixel raises the unit" in text for text in texts(figure))


def test_the_legend_of_a_color_units_maps_goes_by_channels():
    maps = RANDOM.normal(size=(16, 8, 8, 3))
    figure = viewing.extreme_units(np.ones((8, 8, 3)), np.arange(16), maps, np.zeros(16), layer="conv1", name="ant")
    said = texts(figure)
    assert {"magenta: more green lowers the unit", "mid-grey: no influence", "green: more green raises it"} <= set(said)
    assert "each color channel is drawn by itself; each map on its own scale" in said
    assert signed_picture(np.array([[[0, 1, 0], [0, -1, 0], [0, 0, 0]]], float)).tolist() == [
        [[128, 255, 128], [128, 0, 128], [128, 128, 128]]
    ]


def test_a_zero_map_is_white_and_its_scale_finite():
    assert signed_picture(np.zeros((2, 2, 1))).min() > 240
    assert limit(np.zeros((2, 2, 1))) == 1


def test_one_outlier_does_not_wash_out_a_map():
    map = np.ones((40, 40, 1))
    map[0, 0] = 1000
    assert limit(map) == 1


def test_four_channels_are_refused():
    with pytest.raises(ValueError, match="4 channels cannot be drawn"):
        viewing.maps(np.zeros((1, 8, 8, 4)))


def test_reducing_an_image_keeps_its_mean():
    image = RANDOM.random((30, 20, 3))
    small = reduced(image, 12)
    assert small.shape == (12, 8, 3)
    assert np.allclose(small.mean((0, 1)), image.mean((0, 1)))


def test_extreme_units_are_drawn_with_their_numbers_and_gaps_stay_empty():
    units = np.concatenate([np.arange(8), [30, 29, 28, 27, -1, -1, -1, -1]])
    maps = RANDOM.normal(size=(16, 8, 8, 3))
    similarity = np.linspace(-0.2, 0.9, 16)
    figure = viewing.extreme_units(np.ones((8, 8, 3)), units, maps, similarity, layer="conv3", name="bee")
    assert len(images(figure)) == 1 + 12
    said = texts(figure)
    assert said.count("none") == 4
    assert {"unit 30", "-0.200", "least\nsimilar", "most\nsimilar", "average image of bee"} <= set(said)
    assert "unit -1" not in said


def test_confidence_cells_carry_their_numbers():
    values = np.array([[0.7, 0.2, 0.1], [0.0, 0.25, 0.75], [0.1, 0.1, 0.8]], dtype=np.float32)
    figure = viewing.confidence({"simple": values, "most": np.eye(3, dtype=np.float32)}, CLASSES)
    first = figure.get_axes()[0]
    assert np.array_equal(first.get_images()[0].get_array(), values)
    assert first.get_images()[0].get_clim() == (0, 1)
    cells = [text.get_text() for text in first.texts]
    assert cells == ["0.70", "0.20", "0.10", "0", "0.25", "0.75", "0.10", "0.10", "0.80"]
    assert first.get_title(loc="left") == "Mean of all images: 0.58 on the diagonal"
    assert [label.get_text() for label in first.get_yticklabels()] == CLASSES


def test_confidence_of_many_classes_leaves_the_numbers_out():
    figure = viewing.confidence({"simple": np.eye(60)}, [str(i) for i in range(60)])
    assert not figure.get_axes()[0].texts


def curves(figure, panel=0):
    lines = figure.get_axes()[panel].get_lines()
    return {str(line.get_label()): np.asarray(line.get_ydata(), dtype=float) for line in lines}


def test_similarity_curves_are_means_and_deviations_over_units():
    similarity = {"a.conv1": RANDOM.random((3, 5)), "a.conv2": RANDOM.random((3, 9))}
    figure = viewing.similarity_curves(similarity, CLASSES)
    means, deviations = curves(figure, 0), curves(figure, 1)
    for index, name in enumerate(CLASSES):
        assert np.allclose(means[name], [values[index].mean() for values in similarity.values()])
        assert np.allclose(deviations[name], [values[index].std() for values in similarity.values()])
    assert np.allclose(means["mean of the classes"], [values.mean() for values in similarity.values()])
    assert [label.get_text() for label in figure.get_axes()[0].get_xticklabels()] == ["conv1", "conv2"]
    assert legend(figure) == [*CLASSES, "mean of the classes"]


def test_curves_of_live_units_leave_dead_ones_out():
    similarity = {"conv1": np.array([[0.0, 0.4, 0.6]]), "conv2": np.array([[0.0, 0.0, 0.0]])}
    dead = {"conv1": np.array([[True, False, False]]), "conv2": np.ones((1, 3), bool)}
    means = curves(viewing.similarity_curves(similarity, ["ant"], dead=dead))
    assert means["ant"][0] == pytest.approx(0.5)
    assert np.isnan(means["ant"][1])
    assert np.isnan(means["mean of the classes"][1])


def test_the_mean_of_the_classes_is_the_thickest_curve():
    lines = viewing.similarity_curves({"a": np.ones((3, 4))}, CLASSES).get_axes()[0].get_lines()
    widths = {line.get_label(): line.get_linewidth() for line in lines}
    assert widths.pop("mean of the classes") > 2 * max(widths.values())


def test_dead_units_are_counted_for_every_for_some_and_for_no_class():
    dead = {"conv1": np.array([[1, 1, 0, 0], [1, 0, 0, 0]], bool), "conv2": np.ones((2, 5), bool)}
    axes = viewing.dead_units(dead).get_axes()[0]
    heights = {c.get_label(): [bar.get_height() for bar in c] for c in axes.containers}
    assert heights["dead for every class"] == [0.25, 1]
    assert heights["dead for some classes"] == [0.25, 0]
    assert heights["active for every class"] == [0.5, 0]
    assert list(axes.get_lines()[0].get_ydata()) == [0.375, 1]


def test_pruning_draws_each_choice_with_its_spread_and_the_baseline(pruned):
    figure = viewing.pruning(pruned)
    every, live = figure.get_axes()
    assert every.get_title(loc="left") == "40% of all units removed"
    drawn = {c.get_label(): c.lines[0].get_ydata() for c in every.containers}
    assert drawn["most similar removed"].tolist() == [0.2] * 3
    assert drawn["random units removed (mean ± sd)"] == pytest.approx([0.8] * 3)
    (bars,) = next(c for c in every.containers if "random" in c.get_label()).lines[2]
    assert np.allclose([s[:, 1] for s in bars.get_segments()], [0.7, 0.9])
    live_drawn = {c.get_label(): c.lines[0].get_ydata() for c in live.containers}
    assert live_drawn["least similar removed"].tolist() == [0.6] * 3
    assert [line.get_ydata()[0] for line in every.get_lines() if line.get_label() == "whole network"] == [
        pytest.approx(0.95)
    ]


def test_pruning_takes_rows_that_are_dataclasses(pruned):
    fields = list(pruned[0])
    record = dataclasses.make_dataclass("Record", fields)
    figure = viewing.pruning([record(**row) for row in pruned])
    assert len(figure.get_axes()) == 2


def test_an_unknown_way_of_pruning_is_refused(pruned):
    with pytest.raises(ValueError, match="which = 'worst'; it must be one of none, most"):
        viewing.pruning([{**pruned[0], "which": "worst"}])


def test_a_missing_column_is_named(history):
    with pytest.raises(ValueError, match=r"lacks the column 'test_loss'; it has epoch, train_loss"):
        viewing.history([{key: value for key, value in row.items() if key != "test_loss"} for row in history])


def test_history_is_drawn_in_the_order_of_epochs_also_from_text(history):
    rows = [{key: str(value) for key, value in row.items()} for row in reversed(history)]
    loss, accuracy = viewing.history(rows).get_axes()
    assert [line.get_ydata().tolist() for line in loss.get_lines()[:2]] == [
        [row["train_loss"] for row in history],
        [row["test_loss"] for row in history],
    ]
    assert [text.get_text().strip() for text in loss.texts] == ["lowest test loss: epoch 3"]
    assert [text.get_text() for text in accuracy.texts] == ["75.0%"]


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_saving_twice_gives_the_same_bytes_in_the_format_of_the_suffix(tmp_path, history, suffix, start):
    paths = [viewing.save(viewing.history(history), tmp_path / f"{i}.{suffix}") for i in range(2)]
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    assert first.startswith(start)


def test_another_suffix_is_refused_and_nothing_written(tmp_path, history):
    with pytest.raises(ValueError, match=r"must end in .pdf, .png, .svg"):
        viewing.save(viewing.history(history), tmp_path / "figure.jpeg")
    assert not list(tmp_path.iterdir())


def test_figures_leave_matplotlib_as_it_was(history):
    before = dict(matplotlib.rcParams)
    assert isinstance(viewing.history(history), Figure)
    assert dict(matplotlib.rcParams) == before


def test_a_figure_shows_itself_in_a_notebook():
    figure = viewing.maps(np.array([[[-2.0, 1.0]]]))
    assert figure._repr_png_().startswith(b"\x89PNG")
