"""`quantize` and `build-trt` in other precisions than INT8."""

from pathlib import Path

import graphs
import onnx
import pytest

from qbench.calibration.given import load_ranges
from qbench.calibration.interop import tensorrt_cache_from_table
from qbench.calibration.table import load_table
from qbench.engines.manifest import read_manifest
from qbench.model.load import load
from qbench.quantization.linting.lint import lint

from ..conftest import Qbench, SaveModel, files, refused

TENSORRT = ("--target", "tensorrt")


def wide() -> onnx.ModelProto:
    b = graphs.Builder((1, 16, 8, 8))
    first = b.node("Relu", "relu", b.conv("first", b.x, cin=16, cout=16))
    narrow = b.conv("narrow", first, cin=16, cout=16, group=16)
    return b.model(b.conv("last", narrow, cin=16, cout=16))


@pytest.mark.usefixtures("calibrated")
def test_fp16_takes_the_table_that_is_found(qbench: Qbench) -> None:
    text = qbench("quantize", *TENSORRT, "--fp16").out
    assert text.startswith("wrote m.tensorrt.fp16.onnx (")


@pytest.mark.usefixtures("project")
def test_fp16_says_what_it_did_not_check(qbench: Qbench) -> None:
    command, data = ("quantize", *TENSORRT, "--fp16"), ("--data", "imgs", "--recipe", "raw")
    assert "note: without a calibration table no tensor was checked" in qbench(*command).out
    assert "without a calibration" not in qbench(*command, *data).out


@pytest.mark.parametrize(("flag", "dtype"), [("--keep-io", "FLOAT"), ("--no-keep-io", "FLOAT16")])
@pytest.mark.usefixtures("calibrated")
def test_inputs_and_outputs_keep_their_type_or_not(flag: str, dtype: str, qbench: Qbench) -> None:
    assert qbench("quantize", *TENSORRT, "--fp16", flag).code == 0
    graph = load("m.tensorrt.fp16.onnx").ir.graph
    assert {value.dtype.name for value in (*graph.inputs, *graph.outputs)} == {dtype}


@pytest.mark.usefixtures("calibrated")
def test_blocks_of_int4(qbench: Qbench) -> None:
    assert qbench("quantize", "--target", "cpu", "--int4", "--block", 128).code == 0
    (node,) = (n for n in load("m.cpu.int4.onnx").ir.graph if n.op_type == "MatMulNBits")
    assert node.attributes["block_size"].as_int() == 128


@pytest.mark.parametrize(("isa", "rules"), [("avx2", set()), ("vnni", {"saturation"})])
@pytest.mark.usefixtures("calibrated")
def test_weights_suit_the_cpu_that_is_named(isa: str, rules: set[str], qbench: Qbench) -> None:
    assert qbench("quantize", "--target", "cpu", "--cpu-isa", isa, "--no-audit").code == 0
    found = lint(load("m.cpu.int8.onnx").ir, "cpu", saturates=True)
    assert {finding.rule for finding in found} == rules


@pytest.mark.parametrize("options", [(*TENSORRT, "--int8"), ("--target", "cpu", "--fp16")])
@pytest.mark.usefixtures("calibrated")
def test_a_cpu_is_named_for_int8_on_cpus_only(options: tuple[str, ...], qbench: Qbench) -> None:
    message = refused(qbench("quantize", *options, "--cpu-isa", "avx2"), code=2)
    assert "--cpu-isa avx2 has an effect with --target cpu and --int8 or --dynamic only" in message


@pytest.mark.parametrize(
    ("command", "one", "other"),
    [
        (("quantize", *TENSORRT), "--fp16", "--int8"),
        (("quantize", *TENSORRT), "--int8", "--weight-only"),
        (("build-trt",), "--fp32", "--fp8"),
        (("bench", "m.onnx"), "--quick", "--strict"),
    ],
)
def test_flags_that_exclude_each_other(
    command: tuple[str, ...], one: str, other: str, calibrated: Path, qbench: Qbench
) -> None:
    before = files(calibrated)
    outcome = qbench(*command, one, other, one)
    assert f"{one} and {other} exclude each other; drop one" in refused(outcome, 2)
    assert files(calibrated) == before


@pytest.mark.usefixtures("calibrated")
def test_a_flag_may_be_given_twice(qbench: Qbench) -> None:
    assert "fp16.onnx" in qbench("quantize", *TENSORRT, "--fp16", "--fp16").out


def test_refusals_write_nothing(calibrated: Path, save: SaveModel, qbench: Qbench) -> None:
    save(graphs.residual())
    before = files(calibrated)
    message = refused(qbench("quantize", "other.onnx", *TENSORRT, "--int4"))
    assert "no MatMul or Gemm with constant weights that --int4 could hold; use --weig" in message
    assert files(calibrated) == before


@pytest.fixture
def cache(calibrated: Path) -> Path:
    text = tensorrt_cache_from_table(load_table(calibrated / "calibration" / "m.json"), "entropy")
    (calibrated / "old.cache").write_text(text)
    return Path("old.cache")


class TestRanges:
    @pytest.mark.parametrize("target", ["cpu", "tensorrt"])
    def test_they_take_the_place_of_a_table(self, target: str, cache: Path, qbench: Qbench) -> None:
        Path("calibration/m.json").unlink()
        text = qbench("quantize", "--target", target, "--ranges", cache).out
        assert "100.0 % of multiply-accumulates in INT8" in text
        assert "note: given ranges: no bias correction, no search; those need" in text

    @pytest.mark.parametrize("other", ["--table", "--data"])
    @pytest.mark.parametrize("command", ["quantize", "build-trt"])
    @pytest.mark.usefixtures("with_tensorrt")
    def test_they_exclude_a_table_and_data(
        self, command: str, other: str, cache: Path, qbench: Qbench
    ) -> None:
        target = TENSORRT if command == "quantize" else ()
        outcome = qbench(command, *target, "--ranges", cache, other, "imgs")
        assert f"--ranges and {other} exclude each other" in refused(outcome, 2)

    def test_they_serve_int8_alone(self, cache: Path, qbench: Qbench) -> None:
        outcome = qbench("quantize", *TENSORRT, "--fp16", "--ranges", cache)
        assert "ranges from old.cache serve --int8 alone, not --fp16" in refused(outcome, 2)

    def test_of_another_graph(self, cache: Path, save: SaveModel, qbench: Qbench) -> None:
        path = save(graphs.residual())
        text = refused(qbench("quantize", path, *TENSORRT, "--ranges", cache))
        assert "its names come from another graph" in text


class TestBuildTrt:
    @pytest.fixture(autouse=True)
    def rtx(self) -> None:
        pytest.importorskip("tensorrt_rtx")

    def test_ranges_of_another_tool(self, cache: Path, qbench: Qbench) -> None:
        command = ("build-trt", "--backend", "rtx", "--ranges", cache, "--json")
        document = qbench(*command).json
        assert "given ranges: no bias" in document["notes"][0]
        manifest = read_manifest(Path(document["output"]))
        assert manifest.table_sha256 == load_ranges(cache).sha256

    def test_fp8(self, calibrated: Path, save: SaveModel, qbench: Qbench) -> None:
        path = save(wide())
        table = graphs.table_of(load(path))
        table.save(calibrated / "calibration" / "other.json")
        text = " ".join(qbench("build-trt", path, "--backend", "rtx", "--fp8").out.split())
        assert " for sm89, sm120: " in text
        assert "convolutions in FP8: 66.7 %" in text
        assert "Float narrow (Conv): FP8 would pad its 1 channel a group to 16" in text

    @pytest.mark.usefixtures("calibrated")
    def test_other_precisions_speak_of_no_int8(self, qbench: Qbench) -> None:
        text = qbench("build-trt", "--backend", "rtx", "--bf16").out
        assert "convolutions in" not in text
        assert "BFloat16" in text
