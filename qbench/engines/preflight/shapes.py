"""Shapes that an engine cannot be built for, said of each input."""

from collections.abc import Iterator, Mapping, Sequence

from qbench.engines.profiles import ShapeRange, profile_for
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
    for spec in specs:
        own = {name: shapes for name, shapes in given.items() if name == spec.name}
        try:
            _, notes = profile_for([spec], own, image_size)
        except UsageError as error:
            yield _finding(ERROR, spec.name, str(error))
        else:
            yield from (_finding(WARNING, spec.name, note) for note in notes)


def _finding(severity: str, name: str, line: str) -> Finding:
    """Return a finding from a line that names the reason first, and the fix last."""
    reason, _, fix = line.rpartition("; ")
    return Finding("shape", severity, name, name, reason or line, fix if reason else _FIX)
