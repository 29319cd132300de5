"""`jaxcam report` on a directory with several networks: pages for each, an index, and what it says was written."""

import json
import shutil

import pytest
from cli_helpers import TINY, refused, run_here, successful

LEAK = ("--data", "digits", "--image-size", 8, "--limit", 40, "--epochs", 1, "--explained", 1, "--samples", 2)
FOUR = ("averages", "neurons", "prune", "train")


@pytest.fixture(scope="module")
def several(runs, workplace, tmp_path_factory):
    """The four runs of one network, and the units of another, which is a function of a user's own."""
    place = tmp_path_factory.mktemp("several")
    shutil.copytree(workplace / "runs", place / "runs", ignore=shutil.ignore_patterns("report"))
    (place / "mine.py").write_text(TINY.replace("nnx.Rngs(0)", "nnx.Rngs(7)"))
    mine = ("--data", "digits", "--image-size", 8, "--limit", 40, "--average", "simple")
    successful(place, "neurons", "--model", "mine:make", *mine, "--out", "runs/mine")
    return place


@pytest.fixture
def here(several, monkeypatch):
    monkeypatch.chdir(several)
    return several


def test_every_network_gets_pages_and_the_summary_says_which(here):
    said = run_here("report", "runs", "--images", 9)
    assert said.code == 0, said
    rows = [line.split("  ") for line in said.out.splitlines()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert cells == [
        ["network", "runs", "page"],
        ["tinynet:make", "averages, neurons, prune, train", "runs/report/tinynet-make/index.html"],
        ["mine:make", "neurons", "runs/report/mine-make/index.html"],
        [],
        ["runs/report/index.html"],
    ]
    for row in cells[1:3]:
        assert (here / row[2]).is_file()
    # Every unit of both networks has a picture: each was opened from where its own run says it is.
    for name in ("tinynet-make", "mine-make"):
        _, _, text = (here / f"runs/report/{name}/data/sweep.js").read_text().partition(" = ")
        assert json.loads(text.removesuffix(";\n"))["all"]
    assert not said.err


@pytest.mark.slow
def test_a_leak_check_s_networks_have_a_page_of_their_own(several, tmp_path):
    shutil.copytree(several, tmp_path / "copy")
    (tmp_path / "copy/leaky.py").write_text(TINY.replace("nnx.Conv(1, 6", "nnx.Conv(3, 6"))
    successful(tmp_path / "copy", "leak-check", "--model", "leaky:make", *LEAK, "--out", "runs/leak")
    words = ("--units", "extreme", "--images", 0, "--json", "--out", "atlas")
    found = json.loads(successful(tmp_path / "copy", "report", "runs", *words).out)["networks"]
    assert [entry["network"] for entry in found] == ["tinynet:make", "leaky:make", "mine:make"]
    assert (found[1]["runs"], found[1]["page"]) == (["runs/leak"], "atlas/leaky-make/index.html")
    page = (tmp_path / "copy/atlas/leaky-make/index.html").read_text()
    assert "Does it cheat?" in page
    assert "tinynet" not in page


def test_scripts_are_told_what_was_written(here, tmp_path):
    said = run_here("report", "runs", "--units", "extreme", "--images", 0, "--json", "--out", tmp_path / "atlas")
    found = json.loads(said.out)
    assert found["report"] == str(tmp_path / "atlas/index.html")
    assert [(entry["network"], entry["runs"], entry["page"]) for entry in found["networks"]] == [
        ("tinynet:make", [f"runs/{name}" for name in FOUR], str(tmp_path / "atlas/tinynet-make/index.html")),
        ("mine:make", ["runs/mine"], str(tmp_path / "atlas/mine-make/index.html")),
    ]
    said = run_here("report", "runs", "--json", "--out", tmp_path / "page.html")
    found = json.loads(said.out)
    pages = [entry["page"] for entry in found["networks"]]
    assert pages == [str(tmp_path / f"page-{name}-make.html") for name in ("tinynet", "mine")]
    assert {found["report"], *pages} == {str(path) for path in tmp_path.glob("*.html")}


def test_one_network_is_asked_for_by_its_name(here, tmp_path):
    words = ("report", "runs", "--units", "extreme", "--images", 0, "--out", tmp_path / "atlas")
    said = run_here(*words, "--network", "mine:make", "--json")
    (entry,) = json.loads(said.out)["networks"]
    assert entry == {"network": "mine:make", "runs": ["runs/mine"], "page": str(tmp_path / "atlas/index.html")}
    assert "mine:make" in (tmp_path / "atlas/index.html").read_text()
    assert "tinynet" not in (tmp_path / "atlas/summary.html").read_text()
    line = refused(run_here(*words, "--network", "mine"))
    assert line == ("nothing in runs is about 'mine'; did you mean 'mine:make'? All is about tinynet:make, mine:make")


def test_where_the_network_is_now_can_be_said_of_one(here, tmp_path):
    words = ("report", "runs", "--images", 0, "--out", tmp_path / "atlas")
    line = refused(run_here(*words, "--model", "runs/train"))
    assert line.startswith("--model says nothing about 2 networks (tinynet:make, mine:make) at once")
    line = refused(run_here(*words[:2], "--out", tmp_path / "page.html", "--model", "runs/train"))
    assert line.startswith("--model says nothing about a single page")
    said = run_here(*words, "--network", "tinynet:make", "--model", "runs/train")
    assert said.code == 0, said
    line = refused(run_here(*words, "--network", "mine:make", "--model", "runs/train"))
    assert line.startswith("runs/train has other weights than when runs/mine was made from it")
