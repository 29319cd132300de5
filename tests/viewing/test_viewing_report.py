"""The report's file: what it says, what it carries, and what it refuses."""

import base64
import html
import io
import json
import re
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image

from jaxcam.viewing import packing, reading, report
from jaxcam.viewing.runs import Run, find, read_sweep
from jaxcam.viewing.sections import command_line, reproduce
from jaxcam.viewing.studied import told_apart
from jaxcam.viewing.tables import pruning_table


def page_of(run):
    """The page without its scripts' code, as a reader's program sees it."""
    return report(run).read_text(encoding="utf-8")


def words(page):
    """The page's visible words, tags and scripts removed."""
    bare = re.sub(r"<(script|style)[ >].*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", bare)).split())


def packs(page):
    return [json.loads(text) for text in re.findall(r'<script type="application/json" data-pack>(.*?)</script>', page)]


def test_a_demo_directory_gives_all_sections_in_order(make):
    made = make().demo()
    page = page_of(made.path)
    ids = re.findall(r'<section id="([a-z]+)"', page)
    assert ids == [
        "network", "reading", "averages", "curves", "dead", "extremes", "all", "pruning", "caveats", "reproduce",
    ]  # fmt: skip
    assert re.findall(r'<li><a href="#([a-z]+)">', page) == ids


@pytest.mark.parametrize(
    ("command", "present", "absent"),
    [
        ("train", ["network"], ["reading", "averages", "curves", "pruning"]),
        ("averages", ["averages"], ["reading", "curves", "pruning"]),
        ("neurons", ["reading", "curves", "dead", "extremes", "all"], ["averages", "pruning"]),
        ("prune", ["pruning"], ["reading", "averages", "curves"]),
    ],
)
def test_a_single_run_gives_its_own_sections_only(make, command, present, absent):
    maker = make()
    page = page_of(getattr(maker, command)(maker.made.path))
    ids = re.findall(r'<section id="([a-z]+)"', page)
    assert set(present) <= set(ids)
    assert not set(absent) & set(ids)


def test_the_page_loads_nothing_from_anywhere(make):
    page = page_of(make(channels=3).demo().path)
    outside = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", outside)
    assert "url(" not in outside
    assert "@import" not in outside
    assert "default-src 'none'" in page
    assert page.count("plotly.js v") == 1


def test_the_words_are_computed_from_the_numbers(make):
    made = make().demo()
    said = words(page_of(made.path))
    dead = sum(int(d.all(0).sum()) for d in made.dead.values())
    units = sum(d.shape[1] for d in made.dead.values())
    assert f"{dead} of the {units} units" in said
    assert "75.0% of the test images correctly" in said
    assert "risen from 1.00 to 1.60 since, a sign of overfitting" in said
    assert "The easiest class is “cat” (90.0%), the hardest “ant” (60.0%)." in said
    assert "drops accuracy from 0.95 to 0.20; least similar: 0.94; random: 0.80 ± 0.10 (3 seeds)." in said
    assert "costs more than removing the least similar in 3 of 3 layers" in said
    assert "When only live units compete, it costs more in 0 of 3 layers" in said
    assert "So here similarity mostly tells live units from dead ones" in said
    assert "Adebayo" in said
    assert "jaxcam train --model alexnet --epochs 5 --out runs/train" in said


def test_the_packed_similarities_are_those_of_the_store(make):
    made = make().demo()
    (pack,) = packs(page_of(made.path))
    for layer in pack["layers"]:
        packed = np.frombuffer(base64.b64decode(layer["similarity"]), "<i2").reshape(3, -1)
        assert np.array_equal(packed == -32768, made.dead[layer["name"]])
        values = packed / pack["steps"] * pack["limit"]
        alive = ~made.dead[layer["name"]]
        assert np.allclose(values[alive], made.similarity[layer["name"]][alive], atol=pack["limit"] / 32000)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_strips_show_the_extreme_maps_in_the_colors_of_their_sign(make, channels):
    made = make(channels=channels).demo()
    page = page_of(made.path)
    layer = made.layers[1]
    shown = json.loads(
        re.findall(r'data-layer="1">\s*<script type="application/json">(.*?)</script>', page, flags=re.DOTALL)[0]
    )
    assert shown["units"] == made.extremes[layer].tolist()
    strip = np.asarray(
        Image.open(io.BytesIO(base64.b64decode(shown["strips"][2].split(",")[1]))).convert("RGB"), dtype=float
    )
    height, width = shown["tile"]
    assert strip.shape == (height, 16 * width, 3)
    map = made.maps[layer][2, 0]
    tile = strip[:, :width]
    if channels == 3:
        assert np.array_equal(np.sign(np.rint(tile) - 128)[np.abs(map) > 0.1], np.sign(map)[np.abs(map) > 0.1])
    else:
        redness = tile[..., 0] - tile[..., 2]
        assert (redness[map[..., 0] > 0.1] > 0).all()
        assert (redness[map[..., 0] < -0.1] < 0).all()


def test_names_with_tags_in_them_stay_text(make):
    nasty = ["</script><b>ant", "a & b", "{{ 7 * 7 }}"]
    page = page_of(make(classes=nasty).demo().path)
    assert "</script><b>ant" not in page
    assert "{{ 7 * 7 }}" in page
    assert packs(page)[0]["classes"] == nasty


def test_two_sweeps_get_sections_of_their_own(make):
    maker = make()
    maker.neurons(maker.made.path / "most")
    maker.neurons(maker.made.path / "least", average="least", against="confidence")
    page = page_of(maker.made.path)
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert {"curves", "curves-1"} <= set(ids)
    assert "against the confidence" in words(page)


def test_a_distance_is_read_the_other_way_round(make):
    maker = make()
    maker.neurons(maker.made.path, metric="euclidean")
    page = page_of(maker.made.path)
    (pack,) = packs(page)
    assert (pack["direction"], pack["nothing"]) == (-1, 1)
    assert "euclidean distance, the smaller the more alike" in words(page)


def test_a_network_that_is_dead_everywhere_is_reported_without_a_picture(make):
    maker = make(units=(4,))
    maker.neurons(maker.made.path)
    store = maker.made.path / "sweep.zarr"
    group = zarr.open_group(store, mode="r+")["features.conv0"]
    group["dead"][...] = True
    group["similarity"][...] = 0
    group["extreme_unit"][...] = -1
    said = words(page_of(maker.made.path))
    assert "4 of the 4 units (100%) are dead" in said
    assert "No class average activates any unit." in said


def test_hundred_classes_carry_the_numbers_of_the_first_and_the_page_says_so(make):
    maker = make(classes=[f"class {i}" for i in range(100)], units=(6, 6))
    maker.averages(maker.made.path / "averages")
    maker.neurons(maker.made.path / "neurons")
    page = page_of(maker.made.path)
    assert len(packs(page)[0]["classes"]) == packing.CLASSES
    assert "of the first 40 of 100 classes" in words(page)
    assert 'class="matrix" src="data:image/png' in page


def test_vgg11_on_cifar10_fits_on_a_page_of_fifteen_megabytes(make):
    maker = make(
        classes=[f"class {i}" for i in range(10)], units=(64, 128, 256, 256, 512, 512, 512, 512), side=32, channels=3
    )
    maker.neurons(maker.made.path)
    path = report(maker.made.path)
    assert sum(layer["units"] for layer in packs(path.read_text())[0]["layers"]) == 2752
    assert path.stat().st_size < 15e6


def test_resnet50_gets_smaller_maps_instead_of_a_page_nobody_can_open():
    chosen = packing.plan(classes=10, layers=53, channels=3, side=64)
    assert len(chosen.classes) == 10
    assert 10 * 53 * 16 * chosen.side**2 <= packing.BUDGET


def test_out_names_the_file_and_the_run_stays_as_it_was(make, tmp_path):
    made = make().demo()
    before = sorted(made.path.rglob("*"))
    assert report(made.path, out=tmp_path / "page.html") == tmp_path / "page.html"
    assert sorted(made.path.rglob("*")) == before


def test_the_same_run_gives_the_same_page(make):
    made = make().demo()
    assert report(made.path).read_bytes() == report(made.path).read_bytes()


def test_an_empty_directory_says_what_to_run(tmp_path):
    with pytest.raises(ValueError, match=r"^.* holds no manifest.json, nothing to report; jaxcam demo --out .*$"):
        report(tmp_path)


def test_a_run_of_a_command_nobody_knows_is_refused(make):
    maker = make()
    maker.manifest(maker.made.path / "a", "foresee")
    with pytest.raises(ValueError, match="holds a run of jaxcam foresee, which this jaxcam cannot report"):
        report(maker.made.path)


def test_an_unfinished_run_says_what_to_run_again(make):
    made = make().demo()
    (made.path / "neurons" / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"neurons holds sweep.zarr but no manifest.json: .* run jaxcam neurons --out"):
        report(made.path)
    assert not (made.path / "report.html").exists()


def test_a_sweep_that_was_cut_off_is_refused(make):
    maker = make()
    maker.neurons(maker.made.path)
    zarr.open_group(maker.made.path / "sweep.zarr", mode="r+")["done"][0, 0] = 0
    with pytest.raises(ValueError, match="is not finished: 8 of 9 parts; run the same command again"):
        report(maker.made.path)


def test_a_run_that_lost_a_file_is_named(make):
    made = make().demo()
    shutil.rmtree(made.path / "neurons" / "sweep.zarr")
    with pytest.raises(ValueError, match=r"neurons lacks sweep.zarr, which jaxcam neurons writes; run it again"):
        report(made.path)


def test_a_broken_manifest_is_named(make):
    made = make().demo()
    (made.path / "train" / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"train/manifest.json is not valid JSON"):
        report(made.path)


def test_a_sweep_with_nan_is_refused_by_layer(make):
    maker = make()
    maker.neurons(maker.made.path)
    zarr.open_group(maker.made.path / "sweep.zarr", mode="r+")["features.conv1/similarity"][0, 0] = np.nan
    with pytest.raises(ValueError, match=r"similarity of layer 'features.conv1' holds 1 NaN"):
        report(maker.made.path)


def test_the_demo_may_report_before_its_own_manifest_is_written(make):
    made = make().demo()
    (made.path / "manifest.json").unlink()
    assert [run.command for run in find(made.path)] == ["averages", "neurons", "prune", "train"]
    assert report(made.path).exists()


def test_sweeps_are_opened_without_reading_their_maps(make):
    maker = make(units=(64,) * 4, side=32, channels=3, classes=[str(i) for i in range(10)])
    maker.neurons(maker.made.path)
    tracemalloc.start()
    sweep = read_sweep(Run(maker.made.path, {"command": "neurons"}))
    sweep.similarity(sweep.layers[0])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < maker.made.maps[sweep.layers[0]].nbytes


def test_commands_are_quoted_for_the_shell():
    assert command_line("report", ["runs/my run"]) == "jaxcam report 'runs/my run'"
    assert (
        command_line("train", {"skip_broken": True, "resume": False, "weights": None}) == "jaxcam train --skip-broken"
    )


def test_images_are_typed_by_their_place_and_not_by_an_option():
    given = {"model": "vgg11", "images": ["a cat.jpg", "dogs/"], "method": ["rise"]}
    assert command_line("explain", given) == "jaxcam explain 'a cat.jpg' dogs/ --model vgg11 --method rise"
    assert command_line("averages", {"images": 50}) == "jaxcam averages --images 50"


def test_a_command_to_reproduce_a_run_writes_beside_it(tmp_path):
    run = Run(tmp_path / "cat", {"command": "explain", "arguments": {"images": ["cat.jpg"], "model": "runs/train"}})
    assert reproduce(run)["command"] == "jaxcam explain cat.jpg --model runs/train --out again/cat"
    given = Run(tmp_path / "cat", {"command": "train", "arguments": {"out": "runs/train", "seed": 0}})
    assert reproduce(given)["command"] == "jaxcam train --seed 0 --out runs/train"


def test_runs_that_ask_the_same_are_told_apart_by_their_folders(tmp_path):
    runs = [Run(tmp_path / name, {"command": "explain"}) for name in ("cats", "dogs", "which")]
    sections = [{"title": "Where does it look?"}, {"title": "Where does it look?"}, {"title": "Which maps?"}]
    told = [shown["title"] for shown in told_apart(sections, runs)]
    assert told == ["Where does it look? (cats)", "Where does it look? (dogs)", "Which maps?"]


def test_after_a_colon_a_reading_goes_on_in_lower_case():
    said = reading.confidence(np.eye(2), ["cat", "dog"])
    assert said == "recognizes all 2, with a mean confidence of 1.00."


def test_similarity_that_ranks_live_units_is_told_apart_from_one_that_finds_dead_ones(pruned):
    better = [{**row, "accuracy": 0.1} if row["which"] == "most_live" else row for row in pruned]
    assert "among the live ones too" in reading.pruning(pruning_table(better))[-1]
    assert "mostly tells live units from dead ones" in reading.pruning(pruning_table(pruned))[-1]
    useless = [{**row, "accuracy": 0.8} if row["which"] == "most" else row for row in pruned]
    assert "does not single out" in reading.pruning(pruning_table(useless))[-1]


def test_one_seed_is_never_called_clear(pruned):
    entries = pruning_table([row for row in pruned if row["seed"] in ("", 0)])
    assert reading.verdict(entries, live=False).clearly_worse_than_random == 0


def test_the_package_carries_its_templates():
    folder = Path(packing.__file__).parent / "templates"
    assert {"report.html", "report.css", "report.js"} <= {path.name for path in folder.iterdir()}
