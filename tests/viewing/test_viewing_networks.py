"""Several networks in one directory: which runs belong together, what they are called, and the pages of each."""

import html
import json
import re

import pytest
from viewing_runs import Maker

from jaxcam.viewing import atlas, report
from jaxcam.viewing.atlas import sprites
from jaxcam.viewing.networks import pages_of, reported


def put(maker, folder, command, name="alexnet", data="digits", **other):
    """A run of a network, by its name and the fingerprint of its weights, on some data."""
    fingerprint = other.pop("fingerprint", None)
    described = {"name": name} | ({"fingerprint": fingerprint} if fingerprint else {})
    path = maker.made.path / folder
    getattr(maker, command, lambda path: maker.manifest(path, command))(path)
    found = json.loads((path / "manifest.json").read_text())
    found |= {"model": described, "data": {"name": data} if data else None} | other
    (path / "manifest.json").write_text(json.dumps(found))


def seen(maker, network=None):
    """The networks by their names, with the folders of their runs."""
    root = maker.made.path
    return {e.name: [r.path.relative_to(root).as_posix() for r in e.runs] for e in reported(root, network)}


def test_runs_of_the_same_weights_belong_together_whatever_made_them(make):
    maker = make()
    put(maker, "averages", "averages", fingerprint="1")
    put(maker, "cat", "explain", "squeezenet1_1", None, fingerprint="3")
    put(maker, "mine", "neurons", "mynet:make", "photos", fingerprint="2")
    put(maker, "neurons", "neurons", fingerprint="1")
    put(maker, "stripes", "concepts", fingerprint="1")
    put(maker, "which", "compare", "squeezenet1_1", None, fingerprint="3")
    assert seen(maker) == {
        "alexnet": ["averages", "neurons", "stripes"],
        "squeezenet1_1": ["cat", "which"],
        "mynet:make": ["mine"],
    }


def test_two_trainings_of_one_architecture_are_two_networks(make):
    maker = make()
    for folder, fingerprint in (("averages", "1"), ("first", "1"), ("second", "2")):
        put(maker, folder, "averages" if folder == "averages" else "train", fingerprint=fingerprint)
    assert seen(maker) == {"alexnet@first": ["averages", "first"], "alexnet@second": ["second"]}


def test_a_network_on_two_data_sets_has_pages_for_each_and_studies_go_with_theirs(make):
    maker = make()
    put(maker, "a", "averages", fingerprint="1")
    put(maker, "b", "neurons", data="some/photos", fingerprint="1")
    put(maker, "c", "concepts", data="some/photos", fingerprint="1")
    put(maker, "d", "explain", data=None, fingerprint="1")
    put(maker, "e", "clusters", data="mnist", fingerprint="1")
    assert seen(maker) == {"alexnet@digits": ["a", "d", "e"], "alexnet@photos": ["b", "c"]}


def test_one_folder_of_images_is_one_whatever_it_was_called(make, tmp_path):
    (tmp_path / "photos").mkdir()
    maker = make()
    for folder, typed in (("a", "photos"), ("b", str(tmp_path / "photos"))):
        paths = {typed: {"absolute": str(tmp_path / "photos")}}
        put(maker, folder, "train", data=typed, fingerprint="1", arguments={"data": typed}, paths=paths)
    assert seen(maker) == {"alexnet": ["a", "b"]}


def test_runs_without_a_fingerprint_go_by_name(make):
    maker = make()
    put(maker, "a", "train")
    put(maker, "b", "averages", fingerprint="1")
    put(maker, "c", "train", "vgg11")
    put(maker, "d", "prune", model=None)
    assert seen(maker) == {"alexnet": ["a", "b", "d"], "vgg11": ["c"]}
    put(maker, "e", "train", fingerprint="2")
    assert seen(maker) == {
        "alexnet@a": ["a"],
        "alexnet@b": ["b"],
        "vgg11": ["c"],
        "a network": ["d"],
        "alexnet@e": ["e"],
    }


def test_the_networks_that_a_leak_check_trained_are_no_other_run_s(make):
    maker = make()
    put(maker, "leak", "leak-check", fingerprint="1", arguments={"region": None, "mask": None})
    put(maker, "other", "leak-check", fingerprint="1", arguments={"region": None})
    put(maker, "suspect", "leak-check", fingerprint="1", arguments={"region": "0,0,1,1"})
    put(maker, "train", "train", fingerprint="1")
    assert seen(maker) == {
        "alexnet@leak": ["leak"],
        "alexnet@other": ["other"],
        "alexnet@train": ["suspect", "train"],
    }
    put(maker, "train", "train")  # an older manifest
    put(maker, "suspect", "averages")
    assert seen(maker)["alexnet@train"] == ["suspect", "train"]


def test_a_demo_is_one_network(make):
    maker = make()
    maker.demo()
    assert seen(maker) == {"alexnet": [".", "averages", "neurons", "prune", "train"]}


@pytest.fixture
def two(make):
    """Two networks, the second with a name that is no name of a file."""
    maker = make()
    put(maker, "averages", "averages", fingerprint="1")
    put(maker, "mine", "neurons", "my/net:make & <more>", fingerprint="2")
    put(maker, "neurons", "neurons", fingerprint="1")
    return maker


@pytest.mark.parametrize("network", ["alexnett", "Alexnet", "net:make"])
def test_a_wrong_name_is_told_what_there_is(two, network, tmp_path):
    meant = "my/net:make & <more>" if "make" in network else "alexnet"
    line = rf"^nothing in {two.made.path} is about {network!r}; did you mean {meant!r}\? All is about alexnet, my/net:"
    for write in (report, atlas):
        with pytest.raises(ValueError, match=line):
            write(two.made.path, tmp_path / "out.html", network=network)
    with pytest.raises(ValueError, match=r"is about 'zzz'; all is about alexnet, my/net"):
        reported(two.made.path, "zzz")


def words(page):
    bare = re.sub(r"<(script|style)[ >].*?</\1>", " ", page.read_text(), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", bare)).split())


def links(page):
    bare = re.sub(r"<script>.*?</script>", "", page.read_text(), flags=re.DOTALL)
    return [html.unescape(link) for link in re.findall(r'href="([^"#]+)"', bare) if "data:" not in link]


def test_an_atlas_of_two_networks_is_an_index_and_a_folder_for_each(two):
    index = atlas(two.made.path)
    folder = two.made.path / "report"
    assert index == folder / "index.html"
    assert sorted(path.name for path in folder.iterdir()) == ["alexnet", "atlas.json", "index.html", "my-net-make-more"]
    networks = reported(two.made.path)
    pages = pages_of(networks, index, single=False)
    assert links(index) == [page.relative_to(folder).as_posix() for page in pages]
    assert "alexnet data: digits layers: 3 units: 56" in words(index)
    assert "my/net:make & <more>" in words(index)
    assert "default-src 'none'" in index.read_text()
    for page, name in zip(pages, ("alexnet", "my/net:make & <more>"), strict=True):
        assert f"What {name} learned from digits" in words(page)
        assert "../index.html" in links(page)
        assert len(list(page.parent.glob("layer-*.html"))) == 3
        assert all((page.parent / link).is_file() for link in links(page))
    assert (pages[0].parent / "study-0.html").exists()


def test_an_atlas_of_one_of_them_is_that_of_a_directory_with_it_alone(two, tmp_path):
    index = atlas(two.made.path, tmp_path / "one", network="alexnet")
    assert "All networks" not in words(index)
    alone = Maker(tmp_path / "alone")
    alone.made.path.mkdir()
    for run in ("averages", "neurons"):
        (two.made.path / run).rename(alone.made.path / run)
    other = atlas(alone.made.path, tmp_path / "other")
    assert {p.relative_to(index.parent) for p in index.parent.rglob("*")} == {
        p.relative_to(other.parent) for p in other.parent.rglob("*")
    }
    assert words(index) == words(other)


def test_an_atlas_goes_from_one_network_to_two_and_back_with_the_maps_it_has(two, monkeypatch):
    drawn = []
    real = sprites._write
    monkeypatch.setattr(sprites, "_write", lambda image, path: (drawn.append(path.name), real(image, path)))
    atlas(two.made.path)
    first = len(drawn)
    assert first > 0
    atlas(two.made.path)
    assert len(drawn) == first
    atlas(two.made.path, network="alexnet")
    folder = two.made.path / "report"
    assert not (folder / "my-net-make-more").exists()
    assert (folder / "layer-0.html").exists()
    atlas(two.made.path)
    assert not (folder / "layer-0.html").exists()
    assert (folder / "alexnet/layer-0.html").exists()


def test_single_pages_of_two_networks_stand_beside_their_index(two, tmp_path):
    index = report(two.made.path, tmp_path / "page.html")
    assert index == tmp_path / "page.html"
    assert links(index) == ["page-alexnet.html", "page-my-net-make-more.html"]
    for link in links(index):
        assert links(tmp_path / link) == ["page.html"]
    assert "What alexnet learned from digits" in words(tmp_path / "page-alexnet.html")
    one = report(two.made.path, tmp_path / "one.html", network="alexnet")
    assert links(one) == []
    assert {path.stem for path in tmp_path.glob("*.html")} == {
        *("one", "page", "page-alexnet", "page-my-net-make-more")
    }


def test_names_that_make_the_same_file_get_files_of_their_own(make):
    maker = make()
    for folder, name in (("a", "net:x"), ("b", "net/x"), ("c", "NET-x"), ("d", "..")):
        put(maker, folder, "averages", name, fingerprint=folder)
    assert [entry.folder for entry in reported(maker.made.path)] == ["net-x", "net-x-2", "NET-x-3", "network"]
