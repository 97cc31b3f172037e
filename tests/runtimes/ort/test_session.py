from pathlib import Path

import graphs
import onnx
import pytest

from qbench.errors import ModelError
from qbench.runtimes.ort.runner import OrtRunner
from qbench.runtimes.ort.session import first_line, session_options


def test_a_version_that_is_too_new_is_told_without_places_in_sources(tmp_path: Path) -> None:
    proto = graphs.residual()
    proto.ir_version = 99
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(ModelError) as caught:
        OrtRunner(tmp_path / "m.onnx")
    message = str(caught.value)
    assert "m.onnx failed: Unsupported model IR version: 99" in message
    assert not any(noise in message for noise in ("ONNXRuntimeError", ".cc:", "::"))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("[ONNXRuntimeError] : 1 : FAIL : no (such) kernel\nat x", "no (such) kernel"),
        ("/src/onnxruntime/core/a.cc:12 void f(int, b::c<d>&) const Wrong type", "Wrong type"),
        ("/src/onnxruntime/core/a.cc:12 void f(int)", "/src/onnxruntime/core/a.cc:12 void f(int)"),
        ("plain", "plain"),
        ("", "RuntimeError"),
        (
            "'Cubic' mode only supports:\n  * 2-D inputs\n  * 4-D inputs",
            "'Cubic' mode only supports: * 2-D inputs",
        ),
    ],
)
def test_what_is_kept_of_an_error(said: str, told: str) -> None:
    assert first_line(RuntimeError(said)) == told


def test_threads_rest_between_runs_and_spin_within_them() -> None:
    """What spins on disturbs whatever is timed next; without any, small models are slower."""
    options = session_options(threads=2)
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"
    with pytest.raises(RuntimeError, match="allow_spinning"):  # the default, which is to spin
        options.get_session_config_entry("session.intra_op.allow_spinning")
