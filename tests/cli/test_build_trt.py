"""What `build-trt` can be told besides precision, with the real TensorRT for RTX."""

from pathlib import Path

import onnx
import pytest

from qbench.engines.manifest import read_manifest
from qbench.runtimes.gpu.devices import current_gpu

from .conftest import Qbench, SaveModel, classifier, files, refused

DATA = ("--data", "imgs", "--recipe", "raw")
RTX = ("build-trt", "--backend", "rtx")


@pytest.fixture(autouse=True)
def installed() -> None:
    pytest.importorskip("tensorrt_rtx")


@pytest.fixture
def dynamic(save: SaveModel, project: Path) -> Path:
    assert project.exists()
    return save(classifier(("N", 3, 16, 16)), "m.onnx")


@pytest.mark.usefixtures("dynamic")
def test_several_profiles(qbench: Qbench) -> None:
    small = qbench(*RTX, "--fp16", "--shapes", "x=1x3x16x16", "--json").json
    size = Path(small["output"]).stat().st_size
    shapes = ("--shapes", "x=1x3x16x16", "--shapes", "x=2x3x16x16/4x3x16x16/8x3x16x16")
    outcome = qbench(*RTX, "--fp16", *shapes, "--json")
    assert outcome.code == 0
    assert Path(outcome.json["output"]).stat().st_size > size


@pytest.mark.usefixtures("project")
def test_options_that_rtx_knows(qbench: Qbench) -> None:
    known = [
        "--no-tf32",
        "--weight-streaming",
        "--max-aux-streams",
        "1",
        "--memory",
        "64",
        "--builder-level",
        "2",
    ]
    limits = ("--timeout", "300", "--memory-limit", "8000")
    outcome = qbench(*RTX, "--fp32", *known, *limits, "--io-formats", "x=chw+chw32", "--json")
    assert (outcome.code, outcome.err) == (0, "")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--sparsity", "--sparsity is not possible with TensorRT for RTX: its engine is the same"),
        ("--version-compatible", "it comes without the lean runtime; leave it out, or use --backe"),
        ("--hardware-compatibility ampere-plus", "its engines fit the GPUs of --target-gpu and"),
        ("--timing-cache t.cache", "it times no kernels while it builds"),
        ("--legacy-implicit", "--legacy-implicit is of TensorRT 10 only; leave it out, --int8 al"),
        ("--target-gpu sm90", "unknown target GPU 'sm90'; choose from sm75"),
        ("--target-gpu sm86,sm75", "--int8 needs sm80 or later, not sm75; drop it from --target-"),
        ("--io-formats x=hwc9", "unknown format 'hwc9' of 'x'; choose from chw, "),
        ("--io-formats x=hwc8", "--io-formats x=hwc8 needs 16 bits, and 'x' is FP32; add --fp16"),
        ("--io-formats z=hwc8", "the model has no input or output 'z'; it has x, fc"),
        ("--shapes x=1x3x16x16 --shapes x=1x3x16x16", "2 profiles are given, but every input of"),
        ("--calibrator minmax", "--calibrator minmax has an effect with --legacy-implicit only"),
        ("--legacy-implicit --exclude a", "--exclude 'a' has no effect with --legacy-implicit"),
        (
            "--legacy-implicit --fp16",
            "--legacy-implicit has an effect with --int8 only, not --",
        ),
        ("--fp16 --require-int8 95%", "--require-int8 has an effect with --int8, not --fp16"),
        ("--require-int8 95", "'95' is no share; write percent, as in 95%"),
        ("--timeout 0", "0.0 is not in the range x>0"),
    ],
)
def test_refusals_come_before_any_work(
    option: str, message: str, project: Path, qbench: Qbench
) -> None:
    before = files(project)
    assert message in refused(qbench(*RTX, "m.onnx", *DATA, *option.split()), 2)
    assert files(project) == before


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_file_in_half_precision_needs_no_option(precision: str, qbench: Qbench) -> None:
    half = f"m.{precision}.onnx"
    assert qbench("quantize", "m.onnx", "-o", half, "--target", "tensorrt", f"--{precision}").out
    outcome = qbench(*RTX, half)
    assert (outcome.code, outcome.err) == (0, "")
    assert f"note: the model computes in {precision} already, and was built" in outcome.out
    assert "INT8" not in outcome.out
    assert "or build it as it is with --" in refused(qbench(*RTX, half, "--int8"))


@pytest.mark.skipif(current_gpu() is not None, reason="a GPU is here")
@pytest.mark.parametrize("option", ["--refit", "--strip-weights"])
def test_what_needs_a_gpu(option: str, project: Path, qbench: Qbench) -> None:
    before = files(project)
    message = refused(qbench(*RTX, "m.onnx", *DATA, option), 2)
    assert f"{option} needs a GPU where TensorRT for RTX builds, and none is here" in message
    assert files(project) == before


@pytest.mark.usefixtures("calibrated")
class TestRequiredShare:
    def test_met(self, qbench: Qbench) -> None:
        assert qbench(*RTX, "--effort", "fast", "--require-int8", "95%").code == 0

    def test_missed(self, qbench: Qbench) -> None:
        outcome = qbench(*RTX, "--effort", "fast", "--exclude", "stem", "--require-int8", "95%")
        assert outcome.code == 3
        assert "wrote engines/m.int8.engine" in outcome.out
        assert outcome.err == (
            "qbench: error: 50.0 % of the convolutions of engines/m.int8.engine run in INT8, "
            "fewer than the 95.0 % required; not in INT8: stem\n"
        )
        assert read_manifest(Path("engines/m.int8.engine")).int8_conv_fraction == 0.5


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (("--timeout", "0.1"), "took longer than the 0.1 s of --timeout; allow more"),
        (("--memory-limit", "20"), "held more than the 20 MiB of --memory-limit; allow more"),
    ],
)
def test_a_failed_build_leaves_the_engine_before_it_and_a_log(
    limit: tuple[str, str], message: str, project: Path, qbench: Qbench
) -> None:
    assert qbench(*RTX, "--fp32").code == 0
    before = contents(Path("engines"))
    onnx.save(classifier((2, 3, 16, 16)), "m.onnx")
    text = refused(qbench(*RTX, "--fp32", *limit))
    assert f"the compiler of m.onnx in fp32 {message}; see engines/m.fp32.failed.log" in text
    failed = Path("engines/m.fp32.failed.log")
    assert {
        path: path.read_bytes() for path in Path("engines").iterdir() if path != failed
    } == before
    assert qbench(*RTX, "--fp32").code == 0
    assert not failed.exists()
    assert not [name for name in files(project) if "/.qbench-" in name]


@pytest.mark.usefixtures("project")
def test_the_compilers_log_on_stderr(qbench: Qbench, caplog: pytest.LogCaptureFixture) -> None:
    assert qbench(*RTX, "--fp16").code == 0
    assert caplog.records == []
    assert qbench(*RTX, "--fp16", "--verbose").code == 0
    shown = "".join(f"{record.getMessage()}\n" for record in caplog.records)
    assert shown == Path("engines/m.fp16.log").read_text()
    caplog.clear()
    assert qbench(*RTX, "--fp16").code == 0
    assert caplog.records == []
