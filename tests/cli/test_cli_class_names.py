"""Class names: from whatever a text editor makes of them, and never one of two that are called the same."""

import codecs

import numpy as np
import pytest

from jaxcam.cli.classes import Answers, read_names, targets
from jaxcam.cli.console import table
from jaxcam.cli.examples import class_of
from jaxcam.cli.networks import Network
from jaxcam.cli.outputs import matching
from jaxcam.data import Dataset

BIRDS = ("heron", "crane", "Egret", "crane", "egret")


def answers(names, k=None):
    return Answers(np.full((2, k or len(names)), 0.25), names)


def dataset(names):
    return Dataset(np.ones((len(names), 2, 2, 1)), np.arange(len(names)), names, name="photos")


@pytest.mark.parametrize(
    "content",
    [
        b"cat\ndog\nbird",
        b"cat\r\ndog\r\nbird\r\n",
        b"cat\rdog\rbird",
        b"cat\n\ndog\n  \nbird\n\n\n\n",
        codecs.BOM_UTF8 + b"cat\r\ndog\r\nbird\r\n",
        codecs.BOM_UTF8 + b"0\tcat\n1\tdog\n2\tbird\n",
        "cat\ndog\nbird\n".encode("utf-16"),
        codecs.BOM_UTF16_BE + "2\tbird\r\n0\tcat\r\n1\tdog\r\n".encode("utf-16-be"),
        codecs.BOM_UTF16_LE + "2\tbird\r\n0\tcat\r\n1\tdog\r\n".encode("utf-16-le"),
        b"1\tn1\tdog\n0\tn0\tcat\n2\tn2\tbird",
    ],
)
def test_names_are_read_whatever_program_wrote_them(tmp_path, content):
    (tmp_path / "names.txt").write_bytes(content)
    assert read_names(tmp_path / "names.txt") == ("cat", "dog", "bird")


def test_a_separator_that_is_no_line_end_stays_in_its_name(tmp_path):
    (tmp_path / "names.txt").write_text("a\u2028b\nc\x0bd\x85e", "utf-8")
    assert read_names(tmp_path / "names.txt") == ("a\u2028b", "c\x0bd\x85e")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("chat\nchâle".encode("latin-1"), "is no text in UTF-8; --classes takes one name a line"),
        ("cat\ndog".encode("utf-16-le"), "is no text in UTF-8; --classes takes one name a line"),
        (codecs.BOM_UTF16_LE + b"c", "is no text in UTF-8; --classes takes one name a line"),
        (codecs.BOM_UTF8, "is empty; --classes takes one name a line"),
        (codecs.BOM_UTF16_BE, "is empty; --classes takes one name a line"),
        (b"\n \r\n\t\n", "is empty; --classes takes one name a line"),
        (b"0\tcat\n1\t\n", r"names nothing; the name is the last column"),
        (b"0\tcat\n2\tdog\n", "do not count the outputs from 0 to 1"),
        (b"0\tcat\n0\tdog\n", "do not count the outputs from 0 to 1"),
        (b"-1\tcat\n0\tdog\n", "do not count the outputs from 0 to 1"),
    ],
)
def test_what_names_nothing_is_refused_in_one_line(tmp_path, content, line):
    (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(ValueError, match=line) as caught:
        read_names(tmp_path / "names.txt")
    assert "\n" not in str(caught.value)


def test_a_superscript_is_no_number(tmp_path):
    (tmp_path / "names.txt").write_text("²\tcat\n³\tdog", "utf-8")
    assert read_names(tmp_path / "names.txt") == ("cat", "dog")
    with pytest.raises(ValueError, match="no class '²' among the 5 there are"):
        targets("²", answers(BIRDS))
    with pytest.raises(ValueError, match="photos has no class '²'; there are heron"):
        class_of("²", dataset(BIRDS))


def test_a_folder_is_no_file_of_names(tmp_path):
    with pytest.raises(ValueError, match="is a folder; --classes takes a file with one name a line"):
        read_names(tmp_path)


def test_a_name_that_two_outputs_have_is_refused_with_both_numbers():
    line = "2 classes are called 'crane', 1 and 3; give one of these numbers"
    for refuse in (lambda: targets("crane", answers(BIRDS)), lambda: class_of("crane", dataset(BIRDS))):
        with pytest.raises(ValueError, match=line):
            refuse()
    with pytest.raises(ValueError, match="2 classes are called 'EGRET', 2 and 4; give one of these numbers"):
        targets("EGRET", answers(BIRDS))
    with pytest.raises(
        ValueError, match="birds has 2 outputs called 'crane', 1 and 3; say with --outputs which output"
    ):
        matching(Network(None, "birds", {}, names=BIRDS), dataset(("heron", "crane")), 5)


def test_a_name_as_it_is_written_wins_over_one_in_other_letters():
    for said, output in (("Egret", 2), ("egret", 4), ("HERON", 0)):
        assert targets(said, answers(BIRDS)).tolist() == [output, output]
        assert class_of(said, dataset(BIRDS)) == output
    assert matching(Network(None, "birds", {}, names=BIRDS), dataset(("egret", "heron")), 5) == [4, 0]


def test_a_number_that_names_another_output_is_refused():
    names = ("1", "10", "2")
    with pytest.raises(
        ValueError, match=r"--target 1 may be output 1, called '10', or output 0, called '1'; --classes"
    ):
        targets("1", answers(names))
    assert targets("2", answers(names)).tolist() == [2, 2]
    assert targets("0", answers(names)).tolist() == [0, 0]
    assert targets("10", answers(names)).tolist() == [1, 1]
    assert [class_of(said, dataset(names)) for said in ("1", "10", "2", "0")] == [0, 1, 2, 0]
    with pytest.raises(ValueError, match="--target 3 is out of range: the network has 3 outputs, 0 to 2"):
        targets("3", answers(names))
    with pytest.raises(ValueError, match="--target -1 is out of range: the network has 3 outputs, 0 to 2"):
        targets("-1", answers(names))


def test_a_table_keeps_its_lines_and_columns_whatever_a_name_holds():
    lines = table(["image", "class"], [["a\nb", "x"], ["\u732b\u732b", "y"], ["e\u0301", "z"]]).split("\n")
    assert lines == ["image  class", "a_b    x", "\u732b\u732b   y", "e\u0301      z"]
