"""Maps laid over photographs: what is seen is what was measured, and where."""

import numpy as np
import pytest

from jaxcam import viewing
from jaxcam.viewing.blending import CHANNELS, blend, fitted, flat, pale
from jaxcam.viewing.colors import limit

RANDOM = np.random.default_rng(0)
PHOTOGRAPH = RANDOM.random((12, 10, 3))


def images(figure):
    return [np.asarray(image.get_array()) for image in figure.get_axes()[0].get_images()]


def texts(figure):
    return [text.get_text() for text in figure.get_axes()[0].texts]


def test_where_a_map_is_zero_the_photograph_is_seen_and_nothing_else():
    map = np.zeros((12, 10))
    map[3, 4] = 1.0
    for signed in (True, False):
        seen = blend(PHOTOGRAPH, map, signed)
        bare = blend(PHOTOGRAPH, np.zeros((12, 10)), signed)
        changed = (seen != bare).any(-1)
        assert changed.sum() == 1
        assert changed[3, 4]
        assert (np.ptp(bare.astype(int), axis=-1) == 0).all()


def test_the_photograph_can_be_made_out_even_under_the_strongest_values():
    map = np.ones((12, 10))
    for signed in (True, False):
        seen = blend(PHOTOGRAPH, map, signed)[..., 0].astype(float)
        assert np.corrcoef(seen.ravel(), pale(PHOTOGRAPH)[..., 0].ravel())[0, 1] > 0.99
        assert seen.std() > 1


def test_red_is_positive_and_blue_negative_and_both_grow_with_the_value():
    map = np.array([[-2.0, -1.0, 0.0, 1.0, 2.0]])
    red, _, blue = blend(np.full((1, 5, 1), 0.5), map, True)[0].astype(int).T
    assert (np.diff(red - blue) > 0).all()
    assert red[2] == blue[2]
    assert red[-1] > blue[-1] + 100
    assert blue[0] > red[0] + 100


def test_a_map_without_sign_shows_nothing_below_zero():
    grey = np.full((1, 3, 1), 0.5)
    seen = blend(grey, np.array([[-1.0, 0.0, 1.0]]), False)[0]
    assert seen[0].tolist() == seen[1].tolist() != seen[2].tolist()


@pytest.mark.parametrize("channels", CHANNELS)
def test_channels_become_one_number_a_pixel_at_the_display_edge_only(channels):
    maps = RANDOM.normal(size=(2, 3, 4, 3))
    expected = {"sum": maps.sum(-1), "absolute": abs(maps).sum(-1), "maximum": abs(maps).max(-1)}[channels]
    np.testing.assert_allclose(flat(maps, channels), expected)
    layer = RANDOM.normal(size=(2, 3, 4))
    np.testing.assert_array_equal(flat(layer, channels), layer if channels == "sum" else abs(layer))


def test_an_unknown_reduction_is_answered_with_the_closest():
    with pytest.raises(ValueError, match=r"no reduction 'max'.*sum, absolute, maximum; did you mean 'maximum'\?$"):
        flat(np.zeros((1, 2, 2, 3)), "max")


def test_a_small_map_is_upsampled_to_its_image_and_a_large_one_refused():
    small = np.array([[[0.0, 1.0]]])
    large = fitted(small, (2, 4))
    assert large.shape == (1, 2, 4)
    np.testing.assert_allclose(large[0, 0], [0, 0.25, 0.75, 1], atol=1e-6)
    with pytest.raises(ValueError, match="maps of 4×4 are larger than their images of 2×2"):
        fitted(np.zeros((1, 4, 4)), (2, 2))


def test_a_sheet_shows_every_image_once_for_itself_and_once_for_each_method():
    x = RANDOM.random((2, 6, 5, 3))
    maps = {"saliency": RANDOM.normal(size=x.shape), "grad_cam": np.array([[[0.0, 1], [2, 3]], [[4, 0], [1, 2]]])}
    figure = viewing.contact_sheet(x, maps, titles=["a cat", "a dog"])
    drawn = images(figure)
    assert len(drawn) == 2 * 3 + 2  # two legends: one map has a sign, the other none
    assert np.array_equal(drawn[0], x[0])
    assert np.array_equal(drawn[3], x[1])
    assert np.array_equal(drawn[1], blend(x[0], maps["saliency"][0].sum(-1), True))
    assert np.array_equal(drawn[5], blend(x[1], fitted(maps["grad_cam"], (6, 5))[1], False))
    said = texts(figure)
    assert {"a cat", "a dog", "saliency", "grad_cam"} <= set(said)
    assert f"±{limit(maps['saliency'][0].sum(-1)):.2g}" in said
    assert any("red: raises the score" in text for text in said)
    assert any("from less to more" in text for text in said)


def test_the_legend_names_only_the_scales_that_are_there():
    x = RANDOM.random((1, 4, 4, 3))
    only_signed = texts(viewing.contact_sheet(x, {"a": RANDOM.normal(size=x.shape)}))
    assert not any("from less to more" in text for text in only_signed)
    reduced = texts(viewing.contact_sheet(x, {"a": RANDOM.normal(size=x.shape)}, channels="absolute"))
    assert not any("red: raises" in text for text in reduced)
    assert any("from less to more" in text for text in reduced)


def test_a_method_without_sign_is_drawn_without_one_whatever_its_values():
    x = RANDOM.random((1, 4, 4, 3))
    figure = viewing.contact_sheet(x, {"a": np.eye(4)[None]}, signed={"a": True})
    assert any("red: raises" in text for text in texts(figure))


def test_a_map_that_is_zero_everywhere_is_said_to_be():
    figure = viewing.overlay(PHOTOGRAPH, np.zeros((12, 10)), name="grad_cam")
    assert "zero everywhere" in texts(figure)
    figure = viewing.overlay(PHOTOGRAPH, -np.eye(12)[:, :10], name="grad_cam", signed=False)
    assert "nowhere above zero" in texts(figure)


def test_a_map_that_keeps_away_from_zero_is_drawn_from_its_least_to_its_greatest():
    map = np.linspace(28, 32, 120).reshape(12, 10)
    figure = viewing.overlay(PHOTOGRAPH, map, name="rise", signed=True)
    assert np.array_equal(images(figure)[1], blend(PHOTOGRAPH, np.asarray(map - 28, np.float32), False))
    assert "28 … 32" in texts(figure)
    assert not any("red: raises" in text for text in texts(figure))
    assert "−32 … −28" in texts(viewing.overlay(PHOTOGRAPH, -map))
    assert "3 everywhere" in texts(viewing.overlay(PHOTOGRAPH, np.full((12, 10), 3.0)))


def test_many_methods_are_wrapped_and_nothing_overlaps_or_leaves_the_sheet():
    x = RANDOM.random((2, 6, 6, 1))
    figure = viewing.contact_sheet(x, {f"m{i}": RANDOM.normal(size=(2, 3, 3)) for i in range(17)}, titles=["a", "b"])
    width, height = figure.get_size_inches()
    places = [image.get_extent() for image in figure.get_axes()[0].get_images()]
    for left, right, bottom, top in places:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
    for index, (left, right, bottom, top) in enumerate(places):
        for other in places[:index]:
            apart = left >= other[1] or right <= other[0] or top >= other[2] or bottom <= other[3]
            assert apart, (index, other)


@pytest.mark.parametrize("tile", [1.5, 2.6])
def test_what_is_written_stays_on_the_sheet(tile):
    figure = viewing.overlay(PHOTOGRAPH, RANDOM.normal(size=(12, 10)), title="a very long title " * 9, tile=tile)
    renderer = figure.canvas.get_renderer()
    right = figure.get_size_inches()[0] * figure.dpi
    for text in figure.get_axes()[0].texts:
        box = text.get_window_extent(renderer)
        assert 0 <= box.x0 < box.x1 <= right, text.get_text()
        assert box.y0 >= 0, text.get_text()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((np.zeros((0, 4, 4, 3)), {"a": np.zeros((0, 4, 4))}), "nothing to draw: 0 images, 1 methods"),
        ((np.zeros((1, 4, 4, 3)), {}), "nothing to draw: 1 images, 0 methods"),
        ((np.zeros((1, 4, 4, 3)), {"a": np.full((1, 4, 4), np.nan)}), "the map of a holds 16 NaN"),
        ((np.zeros((2, 4, 4, 3)), {"a": np.zeros((1, 4, 4))}), "a has 1 maps for 2 images"),
        ((np.zeros((1, 4, 4, 3)), {"a": np.zeros((1, 4))}), "maps to be drawn are"),
        ((np.zeros((1, 4, 4, 5)), {"a": np.zeros((1, 4, 4))}), "an image with 5 channels cannot be drawn"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(arguments, line):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        viewing.contact_sheet(*arguments)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_as_many_titles_as_images_are_wanted():
    with pytest.raises(ValueError, match="1 images have 2 titles"):
        viewing.contact_sheet(np.zeros((1, 4, 4, 3)), {"a": np.zeros((1, 4, 4))}, titles=["a", "b"])


def test_the_same_sheet_gives_the_same_file(tmp_path):
    for name in ("a.png", "b.png"):
        viewing.save(viewing.overlay(PHOTOGRAPH, np.eye(12)[:, :10]), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def measured(**methods):
    return {name: {"deletion": np.asarray(values, float)} for name, values in methods.items()}


def test_a_comparison_sorts_the_methods_and_marks_the_control():
    figure = viewing.comparison(
        measured(cam=[0.3, 0.5], random=[0.6, 0.8], ig=[0.1, 0.1]), small_is_good={"deletion": True}
    )
    (axes,) = figure.get_axes()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ig", "cam", "random"]
    assert any(np.allclose(line.get_xdata(), 0.7) and len(line.get_xdata()) == 2 for line in axes.get_lines())
    dots = [line for line in axes.get_lines() if line.get_alpha() == 0.6]
    bars = [bar for group in axes.containers for bar in group.lines[2]]
    assert min(dot.get_zorder() for dot in dots) > max(bar.get_zorder() for bar in bars)
    (note,) = figure.texts
    said = "large dots: means; bars: ± standard error; faint dots: images; dashed: random maps"
    assert note.get_text().replace("\n", " ") == said
    figure.draw_without_rendering()
    box = note.get_window_extent()
    assert box.x0 >= 0
    assert 0 <= box.y0 < box.y1 < axes.get_tightbbox().y0
    assert [sorted(dot.get_xdata()) for dot in dots] == [[0.1, 0.1], [0.3, 0.5], [0.6, 0.8]]


def test_a_method_without_figures_is_last_and_said_to_be_blank():
    figure = viewing.comparison(measured(blank=[np.nan, np.nan], cam=[0.3, np.nan]), small_is_good={"deletion": False})
    (axes,) = figure.get_axes()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cam", "blank"]
    assert [text.get_text() for text in axes.texts] == ["blank maps"]


def test_methods_with_different_figures_are_refused():
    with pytest.raises(ValueError, match="ig has the figures insertion, the first method has deletion"):
        viewing.comparison({"cam": {"deletion": np.zeros(1)}, "ig": {"insertion": np.zeros(1)}})
    with pytest.raises(ValueError, match="nothing to compare"):
        viewing.comparison({})
