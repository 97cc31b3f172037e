"""Shapes that an engine cannot be built for, said of each input."""

from collections.abc import Iterator, Mapping, Sequence

from qbench.engines.profiles import (
    ShapeRange,
    check_shapes,
    default_range,
    is_static,
    shared_dimensions,
)
from qbench.errors import UsageError
from qbench.model.spec import TensorSpec
from qbench.quantization.linting.finding import ERROR, WARNING, Finding

_FIX = "give --shapes NAME=MIN/OPT/MAX"


def shape_findings(
    specs: Sequence[TensorSpec],
    given: Mapping[str, ShapeRange],
    image_size: tuple[int, int] | None,
) -> Iterator[Finding]:
    """Yield what is wrong with the shapes of inputs, or was chosen for the user.

    Args:
        specs: The inputs of the model.
        given: Shapes that the user asks for, by input name.
        image_size: Height and width of the images, where they are known.
    """
    names = {spec.name for spec in specs}
    for name in given:
        if name not in names:
            reason = f"the model has no such input; its inputs are {', '.join(sorted(names))}"
            yield Finding("shape", ERROR, name, name, reason, "name one of these in --shapes")
    shared = shared_dimensions(specs, given)
    for spec in specs:
        try:
            if spec.name in given:
                check_shapes([spec], {spec.name: given[spec.name]})
            elif not is_static(spec):
                _, note = default_range(spec, shared, image_size)
                yield _finding(WARNING, spec.name, note)
        except UsageError as error:
            yield _finding(ERROR, spec.name, str(error))


def _finding(severity: str, name: str, line: str) -> Finding:
    """Return a finding from a line that names the reason first, and the fix last."""
    reason, _, fix = line.rpartition("; ")
    return Finding("shape", severity, name, name, reason or line, fix if reason else _FIX)
