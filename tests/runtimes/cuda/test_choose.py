import subprocess
import sys

import pytest
from host_cuda import HostCuda

from qbench.errors import UsageError
from qbench.runtimes.cuda.choose import BACKENDS, open_cuda


def test_a_backend_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "host", HostCuda)
    assert open_cuda("host").name == "host"


def test_an_unknown_backend() -> None:
    with pytest.raises(
        UsageError, match="unknown CUDA backend 'cupy'; choose from cuda-bindings, "
    ):
        open_cuda("cupy")


def test_choosing_imports_neither() -> None:
    code = (
        "import sys, qbench.runtimes.cuda.choose, qbench.runtimes.tensorrt.runner;"
        "sys.exit('cuda.bindings' in sys.modules or 'pycuda' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
