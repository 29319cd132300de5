"""Commands whose test cannot be significant say so before they start, at the end, in the manifest and in the report."""

import html
import json

import pytest
from cli_helpers import run_here

from jaxcam.cli import explanations
from jaxcam.cli.significance import UNABLE
from jaxcam.studies import monte_carlo
from jaxcam.viewing.report import report

TINY = ("--model", "tinynet:make", "--image-size", 8)
ASKED = {
    "concepts": (
        ("--data", "digits", "--target", 3, "--concept", "stripes", "--concept", "dots", "--images", 8),
        ("--random-concepts", 20),
        ("--random-concepts", 79),
        "with 20 random concepts, the smallest p-value of 4 tests is 0.19 after correction (holm)",
        "So it stays open whether a concept matters to “3”.",
    ),
    "redundancy": (
        ("--components", 3, "--target", 2),
        ("--permutations", 18),
        ("--permutations", 19),
        "with 18 permutations, the smallest p-value is 0.053",
        "So it stays open how many of them are more than noise.",
    ),
    "distributions": (
        ("--layer", "conv0"),
        ("--draws", 18),
        ("--draws", 19),
        "with 18 random samples, the smallest p-value of 60 tests is 0.053 after correction (benjamini-hochberg)",
        "So it stays open which of the laws the values do not follow.",
    ),
}


def page_of(run, place):
    return html.unescape(report(run, place).read_text())


@pytest.mark.parametrize("command", ASKED)
def test_a_test_that_cannot_reject_is_announced_everywhere(jaxcam, photos, tmp_path, command):
    options, few, enough, sentence, open_question = ASKED[command]
    where = () if command == "concepts" else (photos / "cat",)
    words = (command, *where, *TINY, *options)
    said = jaxcam(*words, *few, "--quiet", "--out", tmp_path / "few")
    assert said.code == 0, said
    text = f"{UNABLE} at 5 %: {sentence}; {enough[0]} {enough[1]} or more can."
    assert said.err == f"jaxcam: warning: {text}\n"
    assert text in said.out
    for conclusion in ("more than noise", "may be of this law"):
        assert conclusion not in said.out
    manifest = json.loads((tmp_path / "few/manifest.json").read_text())
    able = manifest["results"]["resolution"]
    assert (able["can_reject"], able["draws"], able["needed"]) == (False, few[1], enough[1])
    page = page_of(tmp_path / "few", tmp_path / "few.html")
    assert f"{UNABLE} at 5 %: {sentence}; {enough[1]} or more can." in page
    assert open_question in page
    assert "No concept of" not in page
    assert "not rejected at 5 %:" not in page

    # A run of before, whose manifest says nothing of it.
    del manifest["results"]["resolution"]
    (tmp_path / "few/manifest.json").write_text(json.dumps(manifest))
    old = page_of(tmp_path / "few", tmp_path / "old.html")
    assert f"{UNABLE} at 5 %: {sentence}; {enough[1]} or more can." in old
    assert open_question in old

    said = jaxcam(*words, *enough, "--out", tmp_path / "enough")
    assert UNABLE not in said.err + said.out
    assert UNABLE not in page_of(tmp_path / "enough", tmp_path / "enough.html")


def test_it_is_said_before_the_work_begins(jaxcam, photos, tmp_path, monkeypatch, capsys):
    def stopped(*_, **__):
        raise ValueError("the work has begun")

    monkeypatch.setattr("jaxcam.studies.concepts", stopped)
    monkeypatch.setattr(explanations, "maps_of", stopped)
    monkeypatch.setattr("jaxcam.cli.laws.measured", stopped)
    for command, (options, few, *_) in ASKED.items():
        where = () if command == "concepts" else (photos / "cat",)
        said = run_here(command, *where, *TINY, *options, *few, "--out", tmp_path / command)
        first, last = said.err.strip().splitlines()[-2:]
        assert first.startswith(f"jaxcam: warning: {UNABLE}")
        assert last == "jaxcam: the work has begun"


def test_json_says_it_too(jaxcam, photos, tmp_path):
    words = ("redundancy", photos / "cat", *TINY, "--permutations", 3, "--json", "--out", tmp_path / "run")
    found = json.loads(jaxcam(*words).out)
    assert found["resolution"]["smallest"] == 1 / 4
    assert found["resolution"]["can_reject"] is False


def test_the_words_by_which_the_library_is_silenced_are_its_own():
    assert UNABLE == monte_carlo.UNABLE
