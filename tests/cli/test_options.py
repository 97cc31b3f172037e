"""Options that several commands share."""

from qbench.calibration.ranges import METHODS as RANGE_METHODS
from qbench.cli.options import EFFORTS, METHODS, TARGETS
from qbench.placement.targets import TARGETS as PLACEMENTS
from qbench.quantization import int8


def test_options_offer_what_the_library_knows() -> None:
    assert set(TARGETS) == set(PLACEMENTS)
    assert set(METHODS) == set(RANGE_METHODS)
    assert EFFORTS == int8.EFFORTS
