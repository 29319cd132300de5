"""The atlas as files: which pages there are, what their data say, what the contact sheets show, what is replaced."""

import base64
import html
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from viewing_runs import Maker

from jaxcam.neurons import open_sweep, pruning
from jaxcam.program import Layer
from jaxcam.viewing import Probe, atlas
from jaxcam.viewing.atlas import building, facts, sprites
from jaxcam.viewing.atlas.graph import ROW, wires
from jaxcam.viewing.colors import limit, signed_picture
from jaxcam.viewing.runs import find


def known(made, calls=None):
    """A probe whose maps can be told: of class k and unit u, one bright pixel at row k and column u % 8."""

    def maps(layer, units, classes):
        if calls is not None:
            calls.append((layer, classes.tolist()))
        found = np.zeros((len(units), len(classes), *made.average.shape[1:]), np.float32)
        for i, unit in enumerate(units):
            for j, k in enumerate(classes):
                found[i, j, k, unit % 8] = -1 if unit % 2 else 1
        return found

    layers = [Layer(name, "conv", (8, 8, d.shape[1]), d.shape[1]) for name, d in made.dead.items()]
    edges = list(zip(["", *made.layers], made.layers, strict=False))
    return lambda run: Probe(maps, layers, edges)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A demo's run, its atlas, and the layers and classes whose maps were asked for."""
    made = Maker(tmp_path_factory.mktemp("atlas") / "run", units=(20, 20, 20)).demo()
    calls = []
    return made, atlas(made.path, probe=known(made, calls)).parent, calls


def script(path):
    """The value that a data file brings."""
    name, _, text = path.read_text().partition(" = ")
    assert name == f"atlas.{path.stem.split('-')[-2] if '-' in path.stem else path.stem}"
    return json.loads(text.removesuffix(";\n"))


def places(found):
    return np.frombuffer(base64.b64decode(found["places"]), "<i2").reshape(-1, found["units"])


def words(path):
    bare = re.sub(r"<(script|style)[ >].*?</\1>", " ", path.read_text(), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", bare)).split())


def test_a_demo_gives_a_page_for_each_layer_class_and_study(built):
    made, folder, _ = built
    assert folder == made.path / "report"
    pages = {path.name for path in folder.glob("*.html")}
    layers, classes = range(len(made.layers)), range(len(made.classes))
    assert pages == {
        "index.html", "summary.html", *(f"study-{i}.html" for i in range(4)),
        *(f"layer-{i}.html" for i in layers), *(f"units-{i}.html" for i in layers),
        *(f"class-{k}.html" for k in classes),
    }  # fmt: skip


@pytest.mark.parametrize("command", ["train", "averages", "neurons", "prune"])
def test_a_single_run_gives_an_atlas_as_well(make, command):
    maker = make()
    index = atlas(getattr(maker, command)(maker.made.path))
    assert (index.parent / "layer-0.html").exists() == (command == "neurons")
    assert (index.parent / "class-0.html").exists() == (command in ("averages", "neurons"))


def test_no_page_asks_for_what_is_not_in_the_folder(make):
    made = make(channels=3).demo()
    folder = atlas(made.path, probe=known(made)).parent
    for page in folder.glob("*.html"):
        text = page.read_text()
        assert "default-src 'none'" in text
        outside = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
        for link in re.findall(r"""(?:src|href)="([^"#]*)[^"]*"|url\(([^)]+)\)""", outside):
            target = "".join(link)
            assert not target or target.startswith("data:") or (folder / target).is_file(), (page.name, target)


def test_the_data_of_a_layer_are_those_of_the_store(built):
    made, folder, _ = built
    for i, layer in enumerate(made.layers):
        found = script(folder / f"data/layer-{i}.js")
        pack = script(folder / "data/sweep.js")
        packed = np.frombuffer(base64.b64decode(found["similarity"]), "<i2").reshape(3, -1)
        alive = ~made.dead[layer]
        assert np.array_equal(packed == -32768, ~alive)
        assert np.allclose((packed / pack["steps"] * pack["limit"])[alive], made.similarity[layer][alive], atol=1e-4)
        assert np.array_equal(places(found) >= 0, alive)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_live_unit_has_its_own_map_in_the_sheet_of_its_class(make, channels):
    made = make(channels=channels).demo()
    folder = atlas(made.path, probe=known(made)).parent
    found = script(folder / "data/layer-1.js")
    assert found["tile"] == [8, 8]
    for k, file in enumerate(found["files"]):
        sheet = np.asarray(Image.open(folder / file).convert("RGB"), float)
        for unit, place in enumerate(places(found)[k]):
            if place < 0:
                continue
            row, column = divmod(place, found["columns"])
            tile = sheet[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            away = np.abs(tile - tile[(k + 4) % 8, (unit + 4) % 8]).sum(-1)
            assert np.argwhere(away > 20).tolist() == [[k, unit % 8]]
            color = tile[k, unit % 8]
            if channels == 1:
                assert (color[0] < color[2]) == (unit % 2 == 1)  # blue is negative
            else:
                assert (color < 128).all() == (unit % 2 == 1)  # dark is negative


def test_tiles_have_the_colors_of_the_single_page():
    maps = np.random.default_rng(0).normal(size=(5, 8, 8, 1)).astype("f4")
    maps[3] = 0
    assert np.allclose(sprites.limits(maps), [limit(map) for map in maps])
    sheet = np.asarray(sprites.sheet(sprites.tiles(maps, (8, 8)), 5).convert("RGB"), int)
    one_by_one = np.concatenate([signed_picture(map) for map in maps], 1).astype(int)
    assert np.abs(sheet - one_by_one).max() <= 6  # half a step of 256


def test_many_color_maps_are_compressed_and_keep_their_signs(tmp_path):
    noise = np.random.default_rng(0).normal(size=(64, 32, 32, 3))
    maps = noise + np.roll(noise, 1, 1) + np.roll(noise, 1, 2)  # rough, as maps are, but not one pixel wide
    exact = sprites.sheet(sprites.tiles(maps, (32, 32)), 8)
    sprites._write(exact, tmp_path / "sheet.jpg")
    kept = np.asarray(Image.open(tmp_path / "sheet.jpg"), float) - 128
    wanted = np.asarray(exact, float) - 128
    assert (tmp_path / "sheet.jpg").stat().st_size < 1.6 * wanted.size / 3
    assert np.abs(kept - wanted).mean() < 7
    strong = np.abs(wanted) > 32
    assert (np.sign(kept) == np.sign(wanted))[strong].mean() > 0.999


def test_without_a_network_the_maps_that_the_store_keeps_are_shown(make):
    made = make().demo()
    folder = atlas(made.path).parent
    for i, layer in enumerate(made.layers):
        found = script(folder / f"data/layer-{i}.js")
        for k in range(3):
            kept = made.extremes[layer][k]
            assert np.flatnonzero(places(found)[k] >= 0).tolist() == sorted({*kept[kept >= 0].tolist()})
            unit = int(kept[0])
            row, column = divmod(places(found)[k][unit], found["columns"])
            sheet = np.asarray(Image.open(folder / found["files"][k]).convert("RGB"), int)
            tile = sheet[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            assert np.abs(tile - signed_picture(made.maps[layer][k, 0])).max() <= 6
    assert "Only the eight least and the eight most similar units" in words(folder / "layer-0.html")


def test_the_most_similar_unit_of_a_class_leads_to_its_page(built):
    made, folder, _ = built
    page = (folder / "class-1.html").read_text()
    for i, layer in enumerate(made.layers):
        best = int(made.extremes[layer][1][8])
        assert f'href="units-{i}.html#{best}"' in page
        assert f"map of unit {best} of conv{i} for bee, similarity" in page


def test_classes_show_their_averages_and_the_answers_to_them(built):
    _, folder, _ = built
    said = words(folder / "class-2.html")
    assert "Class “cat”" in said
    assert "names 90.0% of the test images of this class correctly" in said
    assert "Most confident cat 1.00" in said


def test_a_unit_knows_the_experiments_that_removed_it(built):
    made, folder, _ = built
    layer = made.layers[1]
    found = script(folder / "data/layer-1.js")["removed"]
    scores, live = made.similarity[layer].astype(float).mean(0), ~made.dead[layer].all(0)
    kept = {way: keep for way, _, keep in pruning._removals(layer, scores, live, 0.4, 1)}
    ways = ("most", "least", "most_live", "least_live")
    assert [sorted(group["units"]) for group in found] == [np.flatnonzero(~kept[way]).tolist() for way in ways]
    assert found[0]["said"].endswith(
        "Without them the accuracy is 0.20 (whole network 0.95; without as many random ones 0.80 ± 0.10)."
    )


def test_for_a_distance_the_most_similar_units_are_those_with_the_least():
    similarity, dead = np.array([[0.1, 0.9, 0.5, 0.7]]), np.array([[False, False, True, False]])
    sets = facts.removed(similarity, dead, 0.5, larger_is_similar=False)
    assert {way: units.tolist() for way, units in sets.items()} == {
        "most": [0, 2], "least": [1, 3], "most_live": [0, 3], "least_live": [1, 3],
    }  # fmt: skip


def test_a_maximized_unit_shows_its_picture_and_the_real_ones(make):
    maker = make()
    made = maker.demo()
    run = made.path / "maximize"
    rows = [{"unit": 3, "name": "unit 3", "score": 1.5}]
    maker.manifest(run, "maximize", results={"layer": made.layers[1], "units": rows})
    images, real = maker.noise((1, 2, 8, 8, 1)), maker.noise((1, 9, 8, 8, 1))
    np.savez(run / "maximized.npz", images=images, real=real, units=[3])
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10)).save(buffer, "png")
    (run / "maximized.png").write_bytes(buffer.getvalue())
    (run / "units.csv").write_text("unit,name,score\n3,unit 3,1.5\n")
    folder = atlas(made.path).parent
    assert not script(folder / "data/layer-0.js")["exciting"]
    found = script(folder / "data/layer-1.js")["exciting"]["3"]
    assert (found["answers"], found["number"]) == (2, 9)
    best = np.asarray(Image.open(folder / found["best"]).convert("L"), float) / 255
    assert np.abs(best - np.concatenate(list(images[0, ..., 0]), 1)).mean() < 0.05


def test_units_show_the_real_images_that_excite_them(make):
    maker = make(channels=3)
    made = maker.demo()
    images = np.stack([np.full((8, 8, 3), i / 10, np.float32) for i in range(10)])
    chosen = {name: np.array([[9, 2, -1]] * d.shape[1]) for name, d in made.dead.items()}
    folder = atlas(made.path, probe=lambda run: Probe(images=images, exciting=chosen.__getitem__)).parent
    sheet = script(folder / "data/sweep.js")["real"]
    assert (sheet["number"], sheet["columns"], sheet["tile"]) == (10, 4, [8, 8])
    assert script(folder / "data/layer-1.js")["real"][3] == [9, 2, -1]
    pixels = np.asarray(Image.open(folder / sheet["file"]), float)
    for i in range(10):
        row, column = divmod(i, 4)
        assert np.abs(pixels[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] - 25.5 * i).max() < 4


def test_building_again_computes_no_map_again(built):
    made, _, calls = built
    assert {layer for layer, _ in calls} == set(made.layers)
    before = {path.name: path.read_bytes() for path in (made.path / "report/maps/0").iterdir()}
    calls.clear()
    atlas(made.path, probe=known(made, calls))
    assert calls == []
    assert {path.name: path.read_bytes() for path in (made.path / "report/maps/0").iterdir()} == before


def test_a_build_that_was_stopped_leaves_no_atlas_and_goes_on(make):
    made, calls = make().demo(), []

    def stopped(run):
        working = known(made, calls)(run)

        def maps(layer, units, classes):
            if layer == made.layers[-1]:
                raise KeyboardInterrupt
            return working.maps(layer, units, classes)

        return Probe(maps, working.layers, working.edges)

    with pytest.raises(KeyboardInterrupt):
        atlas(made.path, probe=stopped)
    assert not (made.path / "report").exists()
    calls.clear()
    atlas(made.path, probe=known(made, calls))
    assert [layer for layer, _ in calls] == [made.layers[-1]]
    assert not [path for path in made.path.iterdir() if path.name.startswith(".report")]


def test_maps_of_another_sweep_are_not_taken_for_its_own(make):
    maker, calls = make(), []
    made = maker.demo()
    atlas(made.path, probe=known(made, calls))
    maker.neurons(made.path / "neurons")  # other numbers under the same name
    calls.clear()
    atlas(made.path, probe=known(made, calls))
    assert {layer for layer, _ in calls} == set(made.layers)


def test_the_same_run_gives_the_same_pages(built, tmp_path):
    made, one, _ = built
    two = atlas(made.path, tmp_path / "again", probe=known(made)).parent
    names = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(two) for path in two.rglob("*") if path.is_file())
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)


@pytest.mark.slow
def test_two_sweeps_have_pages_of_their_own(make):
    maker = make()
    maker.neurons(maker.made.path / "most")
    maker.neurons(maker.made.path / "least", average="least", against="confidence")
    folder = atlas(maker.made.path).parent
    assert (folder / "s1-layer-0.html").is_file()
    found = script(folder / "data/s1-layer-0.js")
    assert found["page"] == "s1-layer-0.html"
    assert found["files"][0].startswith("maps/1/")
    assert "against the confidence" in words(folder / "class-0.html")


def test_an_atlas_is_no_run_and_does_not_hide_one(built):
    made, _, _ = built
    commands = [run.command for run in find(made.path)]
    assert commands == ["demo", "averages", "neurons", "prune", "train"]


def test_a_folder_that_is_no_atlas_is_left_alone(make):
    made = make().demo()
    (made.path / "report").mkdir()
    (made.path / "report/notes.txt").write_text("keep")
    with pytest.raises(ValueError, match="holds files that no atlas wrote; give another folder"):
        atlas(made.path)
    with pytest.raises(ValueError, match="holds a run; give another folder"):
        building.check_place(made.path / "train")


def test_names_with_tags_in_them_stay_text(make):
    nasty = ["</script><b>ant", "a & b", "{{ 7 * 7 }}"]
    made = make(classes=nasty).demo()
    folder = atlas(made.path).parent
    assert script(folder / "data/sweep.js")["classes"] == nasty
    assert all("</script><b>ant" not in page.read_text() for page in folder.glob("*.html"))


def test_sheets_stay_within_their_budget():
    vgg = sprites.plan(27_520, 32, 32, 3)
    assert vgg.tile == (32, 32)
    for tiles, side, channels in ((265_600, 224, 3), (1_000_000, 64, 1)):
        height, width = sprites.plan(tiles, side, side, channels).tile
        assert tiles * height * width <= sprites.BUDGET or height == sprites.SIDES[-1]
    assert sprites.plan(10, 20, 40, 1).tile == (16, 32)


def test_shortcuts_leave_the_line_to_the_left():
    drawing = wires(["a", "b", "c"], [("", "a"), ("a", "b"), ("b", "c"), ("a", "c")])
    assert drawing.height == 4 * ROW
    numbers = [float(number) for number in re.findall(r"[\d.]+", drawing.paths[-1])]
    assert numbers[0] == drawing.x
    assert 0 < numbers[2] < drawing.x


def test_the_sweep_that_is_shown_is_the_one_that_was_run(built):
    made, folder, _ = built
    sweep = open_sweep(made.path / "neurons/sweep.zarr")
    assert script(folder / "data/sweep.js")["classes"] == sweep.classes
    index = script(folder / "data/index.js")
    assert [entry["name"] for entry in index["layers"]] == sweep.layers
