"""The benchmarks measure what they say: every case runs, both sides agree, and a sample stands for the whole."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")
import torchvision_ops  # noqa: F401 - before torchvision

for package in ("torchvision", "captum", "zennit", "pytorch_grad_cam"):
    pytest.importorskip(package, reason=f"{package} is not installed")

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))

import jax.numpy as jnp  # noqa: E402

import jaxcam as jc  # noqa: E402
from benchmarks import everything, scaling, tables, unit_sides, units  # noqa: E402
from benchmarks.cases import QUICK, Row  # noqa: E402
from benchmarks.subjects import Subject  # noqa: E402

pytestmark = pytest.mark.parity
ASKED = pytest.mark.skipif("JAXCAM_BENCHMARKS" not in os.environ, reason="takes minutes; JAXCAM_BENCHMARKS=1 runs it")


def untwinned(name, side):
    """A network whose shapes alone matter."""
    model = jc.models.load(name, classes=10, image_size=side)
    return Subject(model, jnp.zeros((1, side, side, 3)), None, None, "channels first", "random")


def run(*arguments):
    """A process as a user starts it, with XLA's optimizations, which the tests leave out."""
    environment = {key: value for key, value in os.environ.items() if key != "JAX_DISABLE_MOST_OPTIMIZATIONS"}
    environment["OMP_WAIT_POLICY"] = "PASSIVE"  # PyTorch's threads do not spin while other tests want the cores
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(("name", "side", "total"), [("resnet50", 224, 26_560), ("vgg11", 32, 2_752)])
def test_sampled_layers_stand_for_every_convolution_once(name, side, total):
    given = untwinned(name, side)
    counts = units._convolutions(given)
    groups = units._groups(given, counts)
    assert sum(counts.values()) == total
    assert sorted(layer for group in groups.values() for layer in group) == sorted(counts)
    assert all(layer in group for layer, group in groups.items())


def test_the_work_below_a_layer_is_that_of_all_convolutions_before_it():
    given = untwinned("vgg11", 32)
    found = unit_sides.work_below(given.model, given.x)
    expected, channels, side = 0, 3, 32
    for i, width in enumerate((64, 128, 256, 256, 512, 512, 512, 512)):
        assert found[f"features.conv{i}"] == expected
        expected += 2 * side * side * 9 * channels * width
        channels, side = width, side // 2 if i in (0, 1, 3, 5) else side


def test_the_work_below_a_block_counts_both_of_its_ways_once():
    given = untwinned("resnet50", 224)
    found = unit_sides.work_below(given.model, given.x)
    stem, pooled = 2 * 112**2 * 49 * 3 * 64, 2 * 56**2 * 64
    block = pooled * (64 + 9 * 64 + 256 + 256)  # three convolutions, and one on the other way
    assert found["layer1.0.downsample.0"] == stem
    assert found["layer1.0.conv3"] == stem + pooled * (64 + 9 * 64)
    assert found["layer1.1.conv1"] == stem + block


def test_a_ratio_says_how_many_times_longer_the_other_takes():
    row = Row("saliency", "captum", 0.5, 2.0, 1.0, None, 1e-6, estimated="theirs")
    assert row.ratio == 4
    assert tables.cells(row)[2:] == ["0.500", "2.00*", "4.00", "1e-06", "1.00", "—", "—", "—"]


def test_a_word_that_no_case_has_names_all_cases():
    assert everything.chosen(["sali", "LIME"]) == ["saliency", "LIME"]
    with pytest.raises(SystemExit, match=r"no case has rainbow in its name; there are .*SmoothGrad"):
        everything.chosen(["rainbow"])


def test_curves_of_unlike_length_make_no_table():
    curve = scaling.Curve("Units", "units", [1, 2], {"jaxcam": [0.5, 1.0]}, {"jaxcam": [0.25, 0.5]})
    assert scaling.as_table(curve).splitlines()[-2:] == ["| 1 | 0.5 | 0.25 |", "| 2 | 1 | 0.50 |"]
    curve.at.append(4)
    with pytest.raises(ValueError, match="shorter"):
        scaling.as_table(curve)


# Rounding turns a ReLU now and then; which one depends on the memory layout that PyTorch is faster with. One ReLU of
# ResNet50 at 16×16 is a hundredth of the map. Another method, or another target, is about 1.
TOLERANCE = {"relative": 5e-2, "largest": 1e-3}


@pytest.mark.slow
@pytest.mark.parametrize(
    "families",
    [
        pytest.param(list(everything.UNITS), id="units"),
        pytest.param(list(everything.METHODS), id="methods", marks=ASKED),
    ],
)
def test_every_case_runs_and_both_sides_agree(families, tmp_path):
    only = [argument for name in families for argument in ("--only", name)]
    printed = run("--quick", *only, "--out", str(tmp_path))
    record = json.loads((tmp_path / "benchmarks.json").read_text())
    assert printed.strip() == (tmp_path / "benchmarks.md").read_text().strip()
    of_units = families[0] in everything.UNITS
    assert len(record["rows"]) == len(families) * (2 if of_units else 1)
    for row in record["rows"]:
        assert row["difference"] < TOLERANCE[row["kind"]], row
        assert row["ours"] > 0
        assert math.isclose(row["ratio"], row["theirs"] / row["ours"])
    for measured in record["all units"]:
        assert len(measured["layers"]) in (0, QUICK.layers)
    assert min(record["matmul GFLOP/s"].values()) > 1


@pytest.mark.slow
@ASKED
def test_curves_of_time_and_memory_are_drawn(tmp_path):
    printed = run("scaling", "--quick", "--figures", str(tmp_path))
    curves = json.loads((tmp_path / "scaling.json").read_text())["curves"]
    assert [curve["title"] for curve in curves][:3] == ["Units", "Image side", "Batch"]
    for curve in curves:
        assert all(len(values) == len(curve["at"]) and min(values) > 0 for values in curve["seconds"].values())
        assert f"{curve['title']}\n\n| {curve['label']} |" in printed
    assert b"<svg" in (tmp_path / "scaling.svg").read_bytes()[:1000]
