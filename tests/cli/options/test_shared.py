"""Options that several commands share."""

import click
import pytest

from qbench.calibration.ranges import METHODS as RANGE_METHODS
from qbench.cli.options.shared import EFFORTS, METHODS, TARGETS, MebibytesType
from qbench.placement.targets import TARGETS as PLACEMENTS
from qbench.quantization import int8


def test_options_offer_what_the_library_knows() -> None:
    assert set(TARGETS) == set(PLACEMENTS)
    assert set(METHODS) == set(RANGE_METHODS)
    assert EFFORTS == int8.EFFORTS


@pytest.mark.parametrize(
    ("text", "mebibytes"), [("512", 512), ("512MiB", 512), ("2 gib", 2048), ("020", 20)]
)
def test_memory(text: str, mebibytes: int) -> None:
    assert MebibytesType().convert(text, None, None) == mebibytes


@pytest.mark.parametrize("text", ["0", "-1", "512MB", "1.5GiB", "512KiB", "9999999999", "much", ""])
def test_no_memory(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no amount of MiB; write 512, 512MiB or 2GiB"):
        MebibytesType().convert(text, None, None)
