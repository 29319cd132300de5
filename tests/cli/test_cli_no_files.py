"""What is neither a file nor a folder (a dangling link, a pipe, a device) is told as what it is, and not waited for."""

import os
from pathlib import Path

import pytest

from jaxcam.cli.classes import read_names
from jaxcam.cli.photographs import found
from jaxcam.data import read_image
from jaxcam.models import sources

NO_FILES = {
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "it is a link to nothing"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "it is a link to nothing"),
    "a pipe": (os.mkfifo, "it is a device or a pipe"),
    "a link to a device": (lambda path: path.symlink_to(os.devnull), "it is a device or a pipe"),
}


@pytest.fixture(params=NO_FILES)
def no_file(request, tmp_path):
    make, words = NO_FILES[request.param]

    def made(name):
        make(tmp_path / name)
        return tmp_path / name, words

    return made


def test_a_picture(no_file):
    path, words = no_file("cat.png")
    with pytest.raises(FileNotFoundError, match=rf"^no image file {path} \({words}\)$"):
        found([path])
    with pytest.raises(FileNotFoundError, match=rf"^no image file '{path}' \({words}\)$"):
        read_image(path)


def test_the_closest_picture_is_another_one_that_is_there(no_file, tmp_path):
    path, words = no_file("cat.png")
    (tmp_path / "cats.png").touch()
    with pytest.raises(FileNotFoundError, match=rf"\({words}\); did you mean {tmp_path / 'cats.png'}\?$"):
        found([path])


def test_weights(no_file):
    path, words = no_file("net.safetensors")
    with pytest.raises(FileNotFoundError, match=rf"^no file {path} \({words}\); "):
        sources.locate(path)


def test_names_of_classes(no_file):
    path, words = no_file("names.txt")
    with pytest.raises(FileNotFoundError, match=rf"^no file {path} for --classes \({words}\)$"):
        read_names(path)


def test_what_is_not_there_is_not_described():
    with pytest.raises(FileNotFoundError, match=r"^no image file /nowhere/cat\.png$"):
        found([Path("/nowhere/cat.png")])
