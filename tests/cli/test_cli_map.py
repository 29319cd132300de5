"""The command line as a whole: every command is on the map, says JSON to scripts, completes itself in a shell."""

import json

import pytest
from cli_helpers import ended, refused

from jaxcam.cli.group import SECTIONS
from jaxcam.cli.main import cli

EXPLAIN = ("explain", "--model", "tinynet:make", "--image-size", 8, "--method", "saliency", "--json")


def test_every_command_is_on_the_map_once():
    listed = [name for names in SECTIONS.values() for name in names]
    assert sorted(listed) == sorted(cli.commands)


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_has_an_example_and_a_line_of_its_own(name):
    command = cli.commands[name]
    assert f"jaxcam {name}" in command.epilog
    assert 20 < len(command.get_short_help_str(100)) < 80
    assert "as_json" in {parameter.name for parameter in command.params}


def test_json_is_what_the_manifest_says_and_nothing_else(jaxcam, photos, tmp_path):
    said = jaxcam(*EXPLAIN, photos / "cat/1.png", "--out", tmp_path / "run")
    assert said.code == 0, said
    assert json.loads(said.out) == json.loads((tmp_path / "run/manifest.json").read_text())["results"]


def test_an_error_is_one_line_with_json_too(jaxcam, tmp_path):
    missing = tmp_path / "cat.png"
    assert refused(jaxcam(*EXPLAIN, missing, "--out", tmp_path / "run"), code=3) == f"no image file {missing}"


def test_layers_and_rules_are_json_too(jaxcam):
    found = json.loads(jaxcam("layers", "tinynet:make", "--image-size", 8, "--channels", 1, "--json").out)
    assert [layer["name"] for layer in found] == ["conv0", "conv1", "pool_0", "head"]
    assert found[0] == {
        "name": "conv0",
        "kind": "conv",
        "shape": [8, 8, 6],
        "units": 6,
        "parameters": 60,
        "operations": 2 * 64 * 9 * 6,
        "sees": [3, 3],
    }
    words = ("layers", "tinynet:make", "--image-size", 8, "--channels", 1, "--rules", "epsilon_plus", "--json")
    rules = json.loads(jaxcam(*words).out)
    assert {row["layer"] for row in rules} >= {"conv0", "conv1", "head"}
    names = [row["model"] for row in json.loads(jaxcam("layers", "--json").out)]
    assert names == ["alexnet", "vgg11", "squeezenet1_1", "resnet50"]


def test_a_shell_can_complete_commands_and_options(start):
    words = {"COMP_WORDS": "jaxcam lin", "COMP_CWORD": "1"}
    said = ended(start(_JAXCAM_COMPLETE="bash_complete", **words))
    assert said.out == "plain,linear-piece\n", said
