"""Whether a part of a model fails to build as the whole does: exit code 1 where it does.

The command that Polygraphy runs for each part: `python -m qbench.engines.reduce_check PART FLAVOUR
FAILURE`. The compiler runs in a process of its own below this one, so a crash is a failure, too.
"""

import re
import sys
import tempfile
from pathlib import Path

from qbench.engines.compiling.builder import build
from qbench.engines.compiling.protocol import BuildRequest
from qbench.errors import EngineError
from qbench.runtimes.tensorrt.flavour import Flavour, flavour_named

_TITLE = "the model"

_VARIES = re.compile(r"; see .*$|\d+ errors?(, first)?|'[^']*'|\{.*?\}|\[[^\]]*\]|\d+")
"""What differs between the failure of a part and that of the whole: counts, names and numbers."""


def failure_of(model: Path, flavour: Flavour) -> str | None:
    """Return why `flavour` does not build a model of static shapes; None if it does."""
    with tempfile.TemporaryDirectory(prefix="qbench-") as folder:
        output = Path(folder) / "part.engine"
        request = BuildRequest(model, output, output.with_suffix(".log"), flavour, title=_TITLE)
        try:
            build(request)
        except EngineError as error:
            return re.sub("; see .*$", "", str(error))
    return None


def kind_of(failure: str) -> str:
    """Return what failures of one cause have in common."""
    return " ".join(_VARIES.sub("", failure).split())


def main() -> None:
    """Exit with 1 where the part named first fails as the third argument says."""
    model, flavour, wanted = sys.argv[1:]
    failure = failure_of(Path(model), flavour_named(flavour))
    sys.exit(failure is not None and kind_of(failure) == kind_of(wanted))


if __name__ == "__main__":
    main()
