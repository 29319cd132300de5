"""How the tests of the command line run a command and read what it said."""

import csv
import hashlib
import html
import json
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from jaxcam.cli.main import cli
from jaxcam.viewing.studied import STUDIES

ROOT = Path(__file__).parents[2]

TINY = """
import jax
from flax import linen, nnx


class Tiny(nnx.Module):
    def __init__(self, rngs):
        self.conv0 = nnx.Conv(1, 6, (3, 3), rngs=rngs)
        self.conv1 = nnx.Conv(6, 8, (3, 3), strides=2, rngs=rngs)
        self.head = nnx.Linear(8, 10, rngs=rngs)

    def __call__(self, x):
        x = jax.nn.relu(self.conv1(jax.nn.relu(self.conv0(x))))
        return self.head(x.mean((1, 2)))


def make():
    return Tiny(nnx.Rngs(0))


def needs(x):
    return x


def in_linen():
    net = linen.Sequential([linen.Conv(6, (3, 3), name="first"), linen.relu, lambda x: x.mean((1, 2)), linen.Dense(10)])
    return jax.tree_util.Partial(net.apply, net.init(jax.random.key(0), jax.numpy.zeros((1, 8, 8, 1))))


def fails():
    raise RuntimeError("no GPU today")


def gives_text():
    return "a network"


def for_colors():
    return lambda x: x.mean((1, 2)) @ jax.numpy.ones((3, 2))
"""


class Said(NamedTuple):
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


def run_here(*words):
    result = CliRunner().invoke(cli, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Said(result.exit_code, result.stdout, result.stderr)


def successful(place, *words):
    """What a command said that ran in a directory and succeeded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("JAXCAM_CACHE", "")
        said = run_here(*words)
    assert said.code == 0, said
    return said


def table(path):
    """The rows of a table that a command wrote."""
    with path.open() as file:
        return list(csv.DictReader(file))


def digest(path):
    """The content of a file, or of every file in a directory."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return [(str(file.relative_to(path)), hashlib.sha256(file.read_bytes()).hexdigest()) for file in files]


def reported(run, page):
    """The page that `jaxcam report` writes about a run, with the study's question, its findings and its picture."""
    said = run_here("report", run, "--out", page)
    assert said.code == 0, said
    text = html.unescape(page.read_text())
    manifest = json.loads((run / "manifest.json").read_text())
    study = STUDIES[manifest["command"]]
    assert study.title in text
    findings = study.reading(manifest["results"])
    assert findings
    assert all(finding in text for finding in findings)
    assert text.count("data:image/webp") == 1
    return findings


def refused(said, code=1):
    """The one line in which a command refused what it was given."""
    assert said.code == code, said
    lines = said.err.strip().splitlines()
    assert len(lines) == 1, said.err
    assert lines[0].startswith("jaxcam: ")
    assert said.out == ""
    return lines[0].removeprefix("jaxcam: ")


def ended(process, timeout=120):
    out, err = process.communicate(timeout=timeout)
    return Said(process.returncode, out, err)


TRAIN = (
    "train",
    "--model",
    "tinynet:make",
    "--image-size",
    8,
    "--limit",
    200,
    "--batch",
    100,
    "--epochs",
    3,
    "--learning-rate",
    0.01,
)
