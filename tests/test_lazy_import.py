import subprocess
import sys

import pytest

import qbench

HEAVY = ("onnx", "onnx_ir", "onnxruntime", "openvino", "pynvml", "cv2", "numba", "numpy")


def test_import_loads_nothing_heavy() -> None:
    code = f"import sys, qbench; print(*[name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.stdout.strip(), result.stderr) == ("", "")


@pytest.mark.parametrize("name", qbench.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert callable(getattr(qbench, name))


def test_public_names_are_offered_before_they_are_loaded() -> None:
    code = "import qbench; print(*{*qbench.__all__, '__version__'} - set(dir(qbench)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.stdout.strip(), result.stderr) == ("", "")


def test_version_is_a_string() -> None:
    assert qbench.__version__[0].isdigit()


def test_unknown_names_are_no_attributes() -> None:
    with pytest.raises(AttributeError, match="module 'qbench' has no attribute 'calibrat'"):
        _ = qbench.calibrat


def test_the_process_that_compiles_starts_light() -> None:
    """It starts with every build; onnx_ir alone, by way of sympy, takes two seconds to load."""
    code = "import sys, qbench.engines.compiling.worker; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"onnx", "onnx_ir", "onnxruntime", "numba", "cv2"} & set(done.stdout.split())
