"""Every number of every command: what is no number, not finite, or out of its range is refused before anything runs."""

import click
import pytest
from cli_helpers import refused

from jaxcam.cli import options
from jaxcam.cli.main import cli

PARAMETERS = [
    (name, parameter)
    for name, command in cli.commands.items()
    for parameter in command.params
    if isinstance(parameter, click.Option)
]
NUMBERS = [
    (name, parameter) for name, parameter in PARAMETERS if isinstance(parameter.type, options.Whole | options.Number)
]


def test_no_number_is_read_by_click_itself():
    plain = [
        f"{name} {parameter.opts[-1]}"
        for name, parameter in PARAMETERS
        if isinstance(parameter.type, click.types.FloatParamType | click.types.IntParamType)
    ]
    assert not plain


def test_every_command_has_numbers_to_try():
    assert {name for name, _ in NUMBERS} == set(cli.commands) - {"demo"}
    assert len(NUMBERS) > 80


@pytest.mark.parametrize("name", dict(NUMBERS))
def test_what_is_no_finite_number_is_refused(jaxcam, name):
    for parameter in (parameter for command, parameter in NUMBERS if command == name):
        option = max(parameter.opts, key=len)
        for value in ("nan", "inf", "-inf", "NaN", "", " ", "x", "1e999", "1,5", "0x10"):
            line = refused(jaxcam(name, option, *[value] * parameter.nargs), code=2)
            assert line.startswith("Invalid value for '")
            assert f"{option}': {value!r} is no " in line


def test_the_ends_of_a_range_are_held():
    for _, parameter in NUMBERS:
        kind = parameter.type
        if isinstance(kind, options.Whole):
            held, outside = [kind.least, kind.most], [kind.least - 1, kind.most + 1, 10**20]
        else:
            held = [end for end, apart in ((kind.low, kind.above), (kind.high, kind.below)) if not apart]
            outside = [kind.low if kind.above else kind.low - 1, kind.high if kind.below else kind.high + 1]
        for value in (value for value in held if abs(value) < float("inf")):
            assert kind.convert(str(value), None, None) == value
        for value in (value for value in outside if abs(value) < float("inf")):
            with pytest.raises(click.BadParameter, match=r"is too (small|large); give "):
                kind.convert(str(value), None, None)


@pytest.mark.parametrize("name", [name for name, parameter in PARAMETERS if "--seed" in parameter.opts])
def test_a_seed_that_would_repeat_another_is_refused(jaxcam, name):
    line = refused(jaxcam(name, "--seed", 2**32), code=2)
    assert line.startswith("Invalid value for '--seed': 4294967296 is too large; give 4294967295 or less")
    line = refused(jaxcam(name, "--seed", "1" * 20), code=2)
    assert line.startswith(f"Invalid value for '--seed': {'1' * 20} is too large; give 4294967295 or less")


@pytest.mark.parametrize(
    ("kind", "value", "line"),
    [
        (options.Number(0, above=True), "0", "0 is too small; give a number above 0"),
        (options.Number(0), "-1e-9", "-1e-9 is too small; give a number from 0 up"),
        (options.Number(0, 1), "1.01", "1.01 is too large; give a number from 0 to 1"),
        (options.Number(0, 1, above=True), "0", "0 is too small; give a number above 0 and up to 1"),
        (options.Number(0, 1, above=True), "2", "2 is too large; give a number above 0 and up to 1"),
        (options.Number(0, 1, below=True), "1", "1 is too large; give a number from 0 to below 1"),
        (options.Number(0, 1, above=True, below=True), "1", "1 is too large; give a number above 0 and below 1"),
        (options.Whole(2, 5), "6", "6 is too large; give 5 or less"),
        (options.Whole(2, 5), "1", "1 is too small; give 2 or more"),
    ],
)
def test_a_number_out_of_range_is_told_the_range(kind, value, line):
    with pytest.raises(click.BadParameter) as caught:
        kind.convert(value, None, None)
    assert caught.value.message == line


def test_a_center_beyond_the_image_is_refused(jaxcam):
    line = refused(jaxcam("maximize", "--center", 2), code=2)
    assert line.startswith("Invalid value for '--center': 2 is too large; give a number above 0 and up to 1")
