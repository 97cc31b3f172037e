"""An environment for each tool, made by uv on first use and kept in a cache folder."""

import shutil
import subprocess
import sys
from pathlib import Path

PACKAGES = {
    "ort": ("onnxruntime==1.31.1", "onnx==1.23.2", "sympy"),
    "nncf": ("nncf==3.4.0", "onnxruntime==1.31.1", "onnx==1.23.2"),
    "modelopt": ("nvidia-modelopt[onnx]==0.47.0",),
}
"""What each tool needs, in the versions that the comparison was tried with."""

TOOLS = ("qbench", *PACKAGES)
"""Tools that can be compared; qbench runs in the environment of the caller."""

_PYTHON = "3.11"
_SECONDS = 1800.0


class UnavailableError(Exception):
    """A tool could not be installed, or failed; the message is the reason, in one line."""


def interpreter(tool: str, cache: Path) -> Path:
    """Return the Python of a tool's environment, which is made if it is not in `cache` yet.

    What uv reads from its own variables, as `UV_CONSTRAINT` for a torch without CUDA, holds.

    Raises:
        UnavailableError: uv is missing, or cannot install the tool.
    """
    if tool == "qbench":
        return Path(sys.executable)
    folder = cache / tool
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    complete = folder / "packages.txt"
    wanted = "\n".join(PACKAGES[tool])
    if not complete.exists() or complete.read_text() != wanted:
        uv = shutil.which("uv")
        if uv is None:
            raise UnavailableError("uv is not installed")
        run([uv, "venv", "--quiet", "--clear", "--python", _PYTHON, str(folder)])
        # Not from here: the constraints of this project's pyproject.toml are not the tools'.
        install = [uv, "pip", "install", "--quiet", "--python", str(python), *PACKAGES[tool]]
        run(install, folder=folder)
        complete.write_text(wanted)
    return python


def run(command: list[str], folder: Path | None = None) -> None:
    """Run `command` to its end, in `folder` if one is given.

    Raises:
        UnavailableError: It fails or hangs; with the last line that it wrote and that is no hint.
    """
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"took longer than {_SECONDS:.0f} s") from None
    if done.returncode < 0:
        raise UnavailableError(f"was ended by signal {-done.returncode}; is the memory too small?")
    if done.returncode:
        lines = map(str.strip, (done.stderr or done.stdout).splitlines())
        reasons = [line for line in lines if line and not line.startswith("hint:")]  # uv's end
        raise UnavailableError(reasons[-1] if reasons else f"exit code {done.returncode}")
