"""What the options of a build really do where TensorRT for RTX builds without a GPU."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from qbench.engines.compiling import builder
from qbench.engines.compiling.builder import build
from qbench.engines.compiling.protocol import BuildOptions, BuildRequest
from qbench.engines.profiles import ShapeProfile, ShapeRange
from qbench.errors import EngineError, UsageError
from qbench.runtimes.gpu.devices import current_gpu
from qbench.runtimes.tensorrt.flavour import find_flavour

pytest.importorskip("tensorrt_rtx")

WITHOUT_CHECKS = (
    "from qbench.engines.compiling import worker as w; w.check_options = lambda *_: None; w.main()"
)
CHANNELS = 64

Compile = Callable[..., bytes]


@pytest.fixture
def convolutions(tmp_path: Path) -> Path:
    """Three FP32 convolutions, two of them side by side; two in four of their weights are zero."""
    random = np.random.default_rng(0)
    weights = []
    for name in ("w1", "w2", "w3"):
        values = random.standard_normal((CHANNELS, CHANNELS // 4, 4, 3, 3)).astype(np.float32)
        values[:, :, :2] = 0
        values = values.reshape(CHANNELS, CHANNELS, 3, 3)
        weights.append(numpy_helper.from_array(values, name))
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1] * 4, name="first"),
        helper.make_node("Conv", ["a", "w2"], ["b"], pads=[1] * 4, name="second"),
        helper.make_node("Conv", ["a", "w3"], ["c"], pads=[1] * 4, name="third"),
        helper.make_node("Concat", ["b", "c"], ["y"], axis=1, name="both"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", CHANNELS, 16, 16))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    path = tmp_path / "model.onnx"
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


@pytest.fixture
def compiled(convolutions: Path, request_for: Callable[..., BuildRequest]) -> Compile:
    def run(batches: int = 1, **options: Any) -> bytes:
        shapes = [(2**i, CHANNELS, 16, 16) for i in range(batches)]
        request = request_for(
            convolutions,
            flavour=find_flavour("rtx"),
            profiles=tuple(ShapeProfile({"x": ShapeRange(s, s, s)}) for s in shapes),
            options=BuildOptions(target_gpus=("sm86",), **options),
        )
        build(request)
        return request.output.read_bytes()

    return run


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch, compiled: Compile) -> Compile:
    """Tell the compiler even what is refused beforehand."""

    def run(*arguments: Any, **options: Any) -> bytes:
        monkeypatch.setattr(builder, "_WORKER", (sys.executable, "-c", WITHOUT_CHECKS))
        return compiled(*arguments, **options)

    return run


without_gpu = pytest.mark.skipif(current_gpu() is not None, reason="a GPU is here")


def test_the_same_engine_each_time(compiled: Compile) -> None:
    assert compiled() == compiled()


@pytest.mark.parametrize(
    "options",
    [{"tf32": False}, {"weight_streaming": True}, {"max_aux_streams": 0}],
    ids=lambda options: next(iter(options)),
)
def test_options_that_change_the_engine(options: dict[str, Any], compiled: Compile) -> None:
    assert compiled(**options) != compiled()


def test_tf32_is_the_default(compiled: Compile) -> None:
    assert compiled(tf32=True) == compiled()


@without_gpu
def test_the_builder_level_changes_nothing_and_a_note_says_so(
    compiled: Compile, caplog: pytest.LogCaptureFixture
) -> None:
    assert compiled(builder_level=0) == compiled(builder_level=5) == compiled()
    note = "--builder-level: TensorRT for RTX was seen to build the same engine whatever the value"
    assert caplog.messages == [note] * 2


def test_layouts(compiled: Compile) -> None:
    assert compiled(io_formats={"x": ("hwc",)}) != compiled()
    with pytest.raises(EngineError, match="x: has dataType Float unsupported by tensor's allowed"):
        compiled(io_formats={"x": ("hwc8",)})
    with pytest.raises(UsageError, match="no input or output 'z'; it has x, y"):
        compiled(io_formats={"z": ("hwc",)})


def test_every_profile_adds_kernels(compiled: Compile) -> None:
    sizes = [len(compiled(batches)) for batches in (1, 2, 3)]
    assert sizes == sorted(set(sizes))


@without_gpu
@pytest.mark.parametrize("field", ["refit", "strip_weights", "version_compatible"])
def test_what_is_refused_does_fail(field: str, unchecked: Compile) -> None:
    with pytest.raises(EngineError, match=r"cannot build .*model\.onnx: IBuilder::buildSerialized"):
        unchecked(**{field: True})


@without_gpu
def test_sparse_weights_change_nothing(compiled: Compile, unchecked: Compile) -> None:
    plain = compiled()
    assert unchecked(sparsity=True) == plain


@without_gpu
def test_hardware_compatibility_is_passed_over(unchecked: Compile) -> None:
    with pytest.raises(UsageError, match="--hardware-compatibility ampere-plus is not taken by th"):
        unchecked(hardware_compatibility="ampere-plus")


@without_gpu
def test_the_timing_cache_stays_empty(unchecked: Compile, tmp_path: Path) -> None:
    caches = []
    for batches in (1, 3):
        path = tmp_path / f"{batches}.cache"
        unchecked(batches, timing_cache=path)
        caches.append(path.read_bytes())
    assert caches[0] == caches[1]


def test_refusals_come_before_the_model_is_read(compiled: Compile, convolutions: Path) -> None:
    convolutions.write_bytes(b"no model")
    with pytest.raises(UsageError, match="--sparsity is not possible with TensorRT for RTX"):
        compiled(sparsity=True)
