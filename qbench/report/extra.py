"""Whether charts can be drawn here."""

from qbench.errors import UnfitError


def check_extra() -> None:
    """Make sure that charts can be drawn.

    Raises:
        UnfitError: The `report` extra is not installed.
    """
    try:
        import altair
        import vl_convert
    except ImportError as error:
        raise UnfitError(
            f"charts need {error.name}, which is not installed; install qbench-onnx[report]"
        ) from error
    del altair, vl_convert
