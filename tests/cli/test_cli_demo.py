"""The demo: four runs and a page, done by the commands themselves, going on wherever it was stopped."""

import json
import os
import re
from pathlib import Path

import pytest
from cli_helpers import ended, refused

from jaxcam.cli import demo

TINY = {
    "train": {"model": "tinynet:make", "image_size": 8, "limit": 200, "batch": 100, "epochs": 1},
    "averages": {"images": 5, "steps": 2},
    "neurons": {},
    "prune": {"seeds": 2},
}


@pytest.mark.slow
def test_a_demo_goes_on_where_it_was_stopped(jaxcam, tmp_path, monkeypatch):
    monkeypatch.setitem(demo.SETTINGS, "quick", TINY)

    def stopped(*args, **options):
        raise KeyboardInterrupt

    words = ("demo", "--quick", "--out", tmp_path / "demo")
    with monkeypatch.context() as patch:
        patch.setattr("jaxcam.neurons.sweep", stopped)
        said = jaxcam(*words)
    assert said.code == 130
    assert said.err.splitlines()[-1].startswith("jaxcam: stopped; ")
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == ["averages", "run.json", "train"]
    before = {name: (tmp_path / "demo" / name / "manifest.json").read_text() for name in ("train", "averages")}
    said = jaxcam(*words)
    assert said.code == 0, said
    assert "1 of 4: training AlexNet on handwritten digits (done before)" in said.err
    assert {name: (tmp_path / "demo" / name / "manifest.json").read_text() for name in before} == before
    lines = said.out.strip().splitlines()
    assert [line[0] for line in lines[:5]] == ["•"] * 5
    assert lines[-1] == f"The report: {tmp_path / 'demo/report/index.html'}"
    manifest = json.loads((tmp_path / "demo/manifest.json").read_text())
    assert [f"• {line}" for line in manifest["results"]["findings"]] == lines[:5]
    assert manifest["files"] == ["train", "averages", "neurons", "prune"]
    assert manifest["model"]["name"] == "tinynet:make"
    # A demo is a run like any other.
    assert refused(jaxcam(*words)).endswith("use another --out, or --overwrite to replace it")
    for name in manifest["files"]:
        parts = json.loads((tmp_path / "demo" / name / "manifest.json").read_text())["arguments"]
        assert parts["out"] == str(tmp_path / "demo" / name)
    monkeypatch.setattr("jaxcam.training.train", stopped)
    assert jaxcam(*words, "--overwrite").code == 130
    assert list((tmp_path / "demo").iterdir()) == []


@pytest.fixture
def made(start, tmp_path):
    """A whole demo: the one that JAXCAM_DEMO names, or one of its own."""
    if "JAXCAM_DEMO" in os.environ:
        return Path(os.environ["JAXCAM_DEMO"])
    # As users compile: a training computes more than it compiles.
    said = ended(start("demo", "--out", tmp_path / "demo", JAX_DISABLE_MOST_OPTIMIZATIONS="0"), timeout=600)
    assert said.code == 0, said
    return tmp_path / "demo"


@pytest.mark.slow
def test_the_demo_teaches_alexnet_the_digits_and_tells_what_it_found(made):
    findings = json.loads((made / "manifest.json").read_text())["results"]["findings"]
    assert float(re.search(r"AlexNet names ([\d.]+)% of the digits", " ".join(findings))[1]) >= 95
    assert (made / "report/summary.html").stat().st_size > 1e6
    assert (made / "report/index.html").is_file()
    assert os.listdir(made / "neurons/extremes")
