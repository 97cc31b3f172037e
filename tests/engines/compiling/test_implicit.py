"""INT8 that TensorRT 10 places by itself, against a fake of its module."""

from pathlib import Path

import graphs
import onnx
import pytest
from fake_trt import fake_tensorrt

from qbench.calibration.given import load_ranges
from qbench.calibration.interop import DEFAULT_HEADER, ranges_from_tensorrt_cache
from qbench.engines.compiling.implicit import check_implicit, placed_by_compiler
from qbench.engines.compiling.implicit_order import implicit_int8
from qbench.engines.compiling.protocol import BuildOptions, ImplicitInt8
from qbench.errors import UsageError
from qbench.model.load import load

from ..conftest import MakeCompilation

CACHE = f"{DEFAULT_HEADER}\nx: 3c010a14\nc:y: 3f800000\n"


@pytest.mark.parametrize("calibrator", ["entropy", "minmax"])
def test_the_table_gives_the_ranges(calibrator: str, tmp_path: Path) -> None:
    onnx.save(graphs.residual(), tmp_path / "m.onnx")
    table = graphs.table_of(load(tmp_path / "m.onnx"))
    implicit = implicit_int8(table, calibrator)
    assert implicit.calibrator == calibrator
    ranges = ranges_from_tensorrt_cache(implicit.cache)
    assert ranges.keys() == table.statistics.keys()
    for name, (_, high) in ranges.items():
        assert high == pytest.approx(table.range_of(name, calibrator, symmetric=True)[1])


def test_a_cache_of_another_tool_gives_the_ranges(tmp_path: Path) -> None:
    path = tmp_path / "a.cache"
    path.write_text(CACHE)
    assert implicit_int8(load_ranges(path), "minmax") == ImplicitInt8("minmax", CACHE)


def test_an_unknown_calibrator(tmp_path: Path) -> None:
    path = tmp_path / "a.cache"
    path.write_text(CACHE)
    with pytest.raises(UsageError, match="unknown calibrator 'kl'; choose from entropy, minmax"):
        implicit_int8(load_ranges(path), "kl")


@pytest.mark.parametrize(
    ("calibrator", "version", "header"),
    [
        ("entropy", "10.3", "TRT-100300-EntropyCalibration2"),
        ("minmax", "10.12", "TRT-101200-MinMaxCalibration"),
    ],
)
def test_what_the_compiler_gets(
    calibrator: str, version: str, header: str, tmp_path: Path, compilation: MakeCompilation
) -> None:
    module, _, config = compilation(version)
    copy = tmp_path / "copy"
    with placed_by_compiler(module, config, ImplicitInt8(calibrator, CACHE), copy, print):
        made = config.int8_calibrator
    assert config.get_flag(module.BuilderFlag.INT8)
    assert config.get_flag(module.BuilderFlag.FP16)
    text = made.read_calibration_cache().decode()
    assert text.splitlines() == [header, *CACHE.splitlines()[1:]]
    assert copy.read_text() == text
    assert made.get_batch_size() == 1
    assert made.get_batch(["x"]) is None
    made.write_calibration_cache(b"other")
    assert copy.read_text() == text


def test_only_tensorrt_10_has_calibrators() -> None:
    check_implicit(fake_tensorrt("10.3"), BuildOptions())
    for module in (fake_tensorrt("11.4"), fake_tensorrt("rtx-1.7")):
        with pytest.raises(UsageError, match=r"has no calibrators: .* TensorRT 10 only; .*--int8"):
            check_implicit(module, BuildOptions())


def test_streamed_weights_need_a_typed_network() -> None:
    with pytest.raises(UsageError, match="--weight-streaming needs a typed network; leave out --l"):
        check_implicit(fake_tensorrt("10.3"), BuildOptions(weight_streaming=True))
