import click
import pytest

from qbench.cli.build_trt import build_trt
from qbench.cli.options.engine import SECTIONS
from qbench.cli.options.sections import SectionedCommand
from qbench.engines.compiling.config import COMPATIBILITIES, OPTIONS
from qbench.engines.compiling.implicit import CALIBRATORS

from ..conftest import Qbench


def test_options_stand_under_their_title(qbench: Qbench) -> None:
    help_text = qbench("build-trt", "--help").out
    titles = [line[:-1] for line in help_text.splitlines() if line[:1].isupper()]
    assert [title for title in titles if title in SECTIONS] == list(SECTIONS)
    assert help_text.index("Weights:") < help_text.index("--refit") < help_text.index("Compiler:")
    assert max(map(len, help_text.splitlines())) <= 80
    assert help_text.count("--help") == 1


def test_options_without_a_title_come_last() -> None:
    a, b = click.Option(["--alpha"]), click.Option(["--beta"])
    command = SectionedCommand("x", params=[a, b], sections={"First": ["beta"], "Empty": []})
    text = command.get_help(click.Context(command))
    assert text.index("First:") < text.index("--beta") < text.index("Options:")
    assert text.index("Options:") < text.index("--alpha") < text.index("--help")
    assert "Empty" not in text


@pytest.mark.parametrize("title", SECTIONS)
def test_sections_name_options_that_exist(title: str) -> None:
    names = {parameter.name for parameter in build_trt.params}
    assert set(SECTIONS[title]) <= names


def test_every_option_of_a_build_is_on_the_command_line() -> None:
    flags = {flag for parameter in build_trt.params for flag in parameter.opts}
    assert {option.flag for option in OPTIONS.values()} <= flags


def test_choices_are_those_of_the_library() -> None:
    choices = {
        parameter.name: list(parameter.type.choices)
        for parameter in build_trt.params
        if isinstance(parameter.type, click.Choice)
    }
    assert choices["hardware_compatibility"] == ["none", *COMPATIBILITIES]
    assert choices["calibrator"] == list(CALIBRATORS)
