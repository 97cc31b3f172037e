"""`qbench.engines.reduce`: the smallest part of a model that TensorRT fails to build.

Where the failure names a node that fails alone as well, that is it. Else Polygraphy cuts the model,
by halves and then node by node; each part is built here, in a process of its own. A part that fails
for another reason than the whole counts as one that builds.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import msgspec
import onnx_ir as ir

from qbench.artifacts import SCHEMA_VERSION
from qbench.engines.reduce_check import failure_of, kind_of
from qbench.errors import EngineError, UnfitError
from qbench.model.graph import is_constant
from qbench.model.load import Model, load
from qbench.model.prepare import prepare
from qbench.model.save import check_output, save
from qbench.model.shapes import bind_shapes, example_shapes
from qbench.quantization.linting.lint import tidied
from qbench.runtimes.tensorrt.flavour import Flavour, find_flavour

OnStep = Callable[[int, int], None]
"""Called with (parts tried, parts in all as far as is known)."""

_NEEDED = ("polygraphy", "onnx_graphsurgeon")
_POLYGRAPHY = "import sys; from polygraphy.tools import main; sys.exit(main())"
_STEP = re.compile(r"RUNNING \| Iteration (\d+) \| Approximately (-?\d+)")

_NODE = re.compile(r"node (['\"])(.*?)\1 \(")

_FEW = 40
"""Parts of more nodes are not reduced node by node; every node costs a build."""


class Part(msgspec.Struct, frozen=True):
    """A node that is left."""

    name: str
    op_type: str


class Reduced(msgspec.Struct, frozen=True, kw_only=True):
    """The smallest part of a model that fails.

    Attributes:
        model: The model.
        output: The file of the part.
        backend: The TensorRT that fails.
        failure: How.
        nodes: Nodes that are left, without constants.
        whole: Number of nodes of the model as it is built.
    """

    schema_version: int = SCHEMA_VERSION
    model: str
    output: str
    backend: str
    failure: str
    nodes: tuple[Part, ...]
    whole: int


def reduce_model(
    path: Path,
    output: Path,
    *,
    backend: str = "auto",
    image_size: tuple[int, int] | None = None,
    on_step: OnStep | None = None,
) -> Reduced:
    """Write the smallest part of a model that fails to build as the whole does.

    A float model is cut as it is built, prepared; a quantized one as it stands; both with static
    shapes.

    Args:
        path: An ONNX file.
        output: Where the part goes.
        backend: `tensorrt`, `rtx`, or `auto` for the first that is installed.
        image_size: Height and width where the model is dynamic.
        on_step: Called before every part that is tried.

    Raises:
        UnfitError: No TensorRT is installed, or Polygraphy is needed and is not.
        ModelError: The model cannot be read, or needs an image size.
        EngineError: The model builds, or Polygraphy cannot cut it.
        UsageError: The output is the model itself.
        StorageError: The output cannot be written.
    """
    flavour = find_flavour(backend)
    model = load(path)
    check_output(model, output)
    whole = _with_static_shapes(model, image_size)
    with tempfile.TemporaryDirectory(prefix="qbench-") as folder:
        found = _failing_part(whole, Path(folder), flavour, on_step)
        if found is None:
            raise EngineError(f"{flavour} builds {path}; there is nothing to reduce")
        part, failure = found
        smallest = ir.load(part)
        save(smallest, output)
    return Reduced(
        model=str(path),
        output=str(output),
        backend=str(flavour),
        failure=failure,
        nodes=tuple(Part(node.name or "", node.op_type) for node in smallest.graph),
        whole=len(whole.graph),
    )


def _failing_part(
    whole: ir.Model, folder: Path, flavour: Flavour, on_step: OnStep | None
) -> tuple[Path, str] | None:
    """Return the file of the smallest part that fails, and how; None where the whole builds."""
    file = folder / "whole.onnx"
    save(whole, file)
    failure = failure_of(file, flavour)
    if failure is None:
        return None
    failing = (flavour, failure)
    part = _named_node(whole, file, failing) or _bisected(file, failing, on_step)
    return part, failure_of(part, flavour) or failure


def _named_node(whole: ir.Model, file: Path, failing: tuple[Flavour, str]) -> Path | None:
    """Return the file of the node that a failure names, where it fails alone in the same way."""
    flavour, failure = failing
    named = _NODE.search(failure)
    node = next((n for n in whole.graph if named and n.name == named[2]), None)
    if node is None:
        return None
    inputs = [value for value in node.inputs if value is not None and not is_constant(value)]
    graph = ir.convenience.extract(whole.graph, list(dict.fromkeys(inputs)), node.outputs)
    part = file.with_name("node.onnx")
    save(ir.Model(graph, ir_version=whole.ir_version), part)
    found = failure_of(part, flavour)
    return part if found is not None and kind_of(found) == kind_of(failure) else None


def _bisected(whole: Path, failing: tuple[Flavour, str], on_step: OnStep | None) -> Path:
    _check_installed()
    report = on_step or (lambda *_: None)
    part = _cut(whole, "bisect", failing, report)
    is_small = 1 < len(ir.load(part).graph) <= _FEW
    return _cut(part, "linear", failing, report) if is_small else part


def _check_installed() -> None:
    missing = [name.replace("_", "-") for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise UnfitError(
            f"--reduce needs {' and '.join(missing)}; run `uv sync --extra reduce` or "
            f"`pip install {' '.join(missing)}`"
        )


def _with_static_shapes(model: Model, image_size: tuple[int, int] | None) -> ir.Model:
    graph_model = tidied(model.ir) if model.is_quantized else prepare(model).ir
    return bind_shapes(graph_model, example_shapes(model, image_size))


def _cut(whole: Path, mode: str, failing: tuple[Flavour, str], on_step: OnStep) -> Path:
    """Let Polygraphy reduce `whole`; return the file of the smallest part that fails."""
    flavour, failure = failing
    part = whole.with_name(f"{mode}.onnx")
    check = [sys.executable, "-P", "-m", "qbench.engines.reduce_check"]
    command = [sys.executable, "-P", "-c", _POLYGRAPHY, "debug", "reduce", str(whole)]
    command += ["-o", str(part), "--mode", mode]
    command += ["--check", *check, "polygraphy_debug.onnx", flavour.name, failure]
    said = []
    # It keeps files of its own in the current folder.
    with subprocess.Popen(
        command,
        cwd=whole.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            for line in process.stdout or ():
                said.append(line.strip())
                if step := _STEP.search(line):
                    done, left = int(step[1]) - 1, max(int(step[2]), 1)
                    on_step(done, done + left)
            process.wait()
        finally:
            process.kill()
    if process.returncode or not part.exists():
        raise EngineError(f"Polygraphy cannot reduce the model: {_problem(said)}")
    return part


def _problem(said: list[str]) -> str:
    """Return what Polygraphy says went wrong: its last error, else its last line."""
    lines = [line for line in said if line]
    errors = [line for line in lines if line.startswith("[!]") or "Error" in line]
    return (errors or lines or ["it gave no reason"])[-1].removeprefix("[!]").strip()
