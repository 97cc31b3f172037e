"""What only the backend through pycuda does."""

import pytest
from fake_pycuda import Context, Driver, install

from qbench.errors import EngineError
from qbench.runtimes.cuda.pycuda_backend import PyCuda


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    return install(monkeypatch)


@pytest.mark.usefixtures("driver")
def test_it_works_in_the_primary_context() -> None:
    cuda = PyCuda()
    assert Context.depth == 1
    cuda.close()
    assert Context.depth == 0


@pytest.mark.usefixtures("driver")
def test_no_graphs() -> None:
    with pytest.raises(EngineError, match="captures no graphs through pycuda; use cuda-bindings"):
        PyCuda().stream().capture(lambda: None)


@pytest.mark.usefixtures("driver")
def test_a_stream_of_somebody_else_waits_for_all() -> None:
    PyCuda().wait_for(77)
    assert Context.depth == 101


@pytest.mark.usefixtures("driver")
def test_a_failed_wait() -> None:
    stream = PyCuda().stream()
    stream.stream.problem = "launch\nfailed"
    with pytest.raises(EngineError, match=r"^Stream\.synchronize failed: launch failed$"):
        stream.synchronize()
