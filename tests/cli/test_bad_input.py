"""Bad input gives one line that names the value and the fix, and leaves nothing behind."""

import shutil
import sys
from pathlib import Path
from typing import Any

import graphs
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from .conftest import Qbench, SaveModel, classifier, files, refused, write_images

pytestmark = pytest.mark.usefixtures("with_tensorrt")
DATA = ("--data", "imgs", "--recipe", "raw")
COMMANDS: dict[str, tuple[str, ...]] = {
    "inspect": (),
    "calibrate": DATA,
    "quantize": ("--target", "cpu", *DATA),
    "build-trt": DATA,
    "bench": ("--quick",),
}
READS_DATA = ("calibrate", "quantize", "build-trt", "bench")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no model at bad.onnx; check the path"),
        (b"", "bad.onnx is empty; export or copy it again"),
        (b"hello, I am text\n", "bad.onnx is not a complete ONNX file"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "bad.onnx is not a complete ONNX file"),
    ],
)
def test_no_model(
    command: str, content: bytes | None, message: str, project: Path, qbench: Qbench
) -> None:
    if content is not None:
        Path("bad.onnx").write_bytes(content)
    before = files(project)
    assert message in refused(qbench(command, "bad.onnx", *COMMANDS[command], "--json"))
    assert files(project) == before


def test_names_that_are_too_long(calibrated: Path, qbench: Qbench) -> None:
    before, name = files(calibrated), "x" * 300
    assert f"no model at {name}; check the path" in refused(qbench("inspect", name))
    outcome = qbench("quantize", "m.onnx", "--target", "cpu", "-o", name)
    assert f"cannot write {name}: File name too long; choose" in refused(outcome)
    assert files(calibrated) == before


@pytest.mark.parametrize(
    "words",
    [
        ("calibrate", "--data"),
        ("bench", "--task", "classify", "--data"),
        ("bench", "--task", "classify", "--data", "imgs", "--labels"),
    ],
)
@pytest.mark.usefixtures("quick")
def test_data_whose_names_are_too_long(
    words: tuple[str, ...], project: Path, qbench: Qbench
) -> None:
    before, name = files(project), "x" * 300
    message = refused(qbench(words[0], "m.onnx", "--recipe", "raw", *words[1:], name))
    assert f"cannot use {name}: File name too long; check the path" in message
    assert files(project) == before


LATIN = "caf\udce9"
"""What Python makes of a file name in Latin-1."""


@pytest.mark.parametrize("command", ["quantize", "build-trt", "bench"])
@pytest.mark.usefixtures("quick")
def test_models_whose_names_no_library_opens(command: str, project: Path, qbench: Qbench) -> None:
    shutil.copy("m.onnx", f"{LATIN}.onnx")
    before = files(project)
    message = refused(qbench(command, f"{LATIN}.onnx", *COMMANDS[command]))
    assert r"caf\udce9" in message
    assert "is not in UTF-8; choose another name" in message
    assert files(project) == before


@pytest.mark.usefixtures("project", "quick")
def test_data_whose_names_cannot_be_kept(qbench: Qbench) -> None:
    bench = ("bench", "m.onnx", "--recipe", "raw", "--task", "classify", "--data")
    shutil.copytree("imgs", LATIN)
    assert r"the name 'caf\udce9' is not in UTF-8" in refused(qbench(*bench, LATIN))
    shutil.copy("imgs/cat/00.png", f"imgs/cat/{LATIN}.png")
    for command in (bench[:-1], ("calibrate", "m.onnx", "--recipe", "raw")):
        message = refused(qbench(*command, "--data", "imgs"))
        assert r"the name 'cat/caf\udce9.png' is not in UTF-8" in message


@pytest.mark.parametrize("command", COMMANDS)
def test_folder_as_model(command: str, project: Path, qbench: Qbench) -> None:
    outcome = qbench(command, project, *COMMANDS[command])
    assert "is a folder; name the .onnx file in it" in refused(outcome)


@pytest.mark.usefixtures("project")
def test_truncated_model_at_every_length(qbench: Qbench) -> None:
    whole = Path("m.onnx").read_bytes()
    for length in range(1, len(whole), 97):
        Path("cut.onnx").write_bytes(whole[:length])
        message = refused(qbench("inspect", "cut.onnx"))
        assert "cut.onnx is not a complete ONNX file" in message
        assert "export or copy it again" in message


@pytest.mark.parametrize("command", COMMANDS)
def test_a_model_that_git_lfs_did_not_fetch(command: str, project: Path, qbench: Qbench) -> None:
    (project / "lfs.onnx").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    message = refused(qbench(command, "lfs.onnx", *COMMANDS[command]))
    assert "lfs.onnx is a pointer of Git LFS, not the model; fetch it: git lfs pull" in message


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"stem_relu", b"stem_relx", "reads 'stem_relu', which nothing makes"),
        (b"Relu", b"Re\xfau", "operator b'Re\\xfau' is no text"),
    ],
)
@pytest.mark.usefixtures("project")
def test_damaged_graph(old: bytes, new: bytes, message: str, qbench: Qbench) -> None:
    Path("m.onnx").write_bytes(Path("m.onnx").read_bytes().replace(old, new, 1))
    text = refused(qbench("inspect", "m.onnx"))
    assert "m.onnx is damaged" in text
    assert message in text


@pytest.mark.usefixtures("project")
def test_weight_of_the_wrong_size(save: SaveModel, qbench: Qbench) -> None:
    model = classifier()
    model.graph.initializer[0].dims[0] += 1
    message = refused(qbench("inspect", save(model)))
    assert "weight 'stem.w' holds 864 bytes of 972; export or copy it again" in message


@pytest.mark.parametrize("command", READS_DATA)
@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("nowhere", "no data at nowhere; give a folder of images"),
        ("empty", "no images in empty; give a folder of images"),
        ("m.onnx", "m.onnx is a file; give a folder of images"),
    ],
)
def test_no_images(command: str, data: str, message: str, project: Path, qbench: Qbench) -> None:
    Path("empty").mkdir()
    before = files(project)
    extra = {"quantize": ("--target", "cpu"), "bench": ("--quick", "--task", "classify")}
    options = (*extra.get(command, ()), "--data", data, "--recipe", "raw")
    assert message in refused(qbench(command, "m.onnx", *options))
    assert files(project) == before


@pytest.mark.usefixtures("project")
def test_some_corrupt_images(qbench: Qbench, caplog: pytest.LogCaptureFixture) -> None:
    write_images(Path("many"), 20)
    for name in ("many/cat/00.png", "many/dog/01.png"):
        Path(name).write_bytes(Path(name).read_bytes()[:40])
    document = qbench("calibrate", "m.onnx", "--data", "many", "--recipe", "raw", "--json").json
    assert (document["images"], document["skipped"]) == (18, ["cat/00.png", "dog/01.png"])
    assert "2 of 20 skipped: cat/00.png, dog/01.png (many/cat/00.png is truncated" in caplog.text
    Path("many/owl/02.png").write_text("no image")
    message = refused(qbench("calibrate", "m.onnx", "--data", "many", "--recipe", "raw"))
    assert "more than 10 % of the samples cannot be used: 3 of 20 skipped" in message


@pytest.mark.usefixtures("quick")
def test_a_corrupt_first_image_is_not_timed(
    project: Path, qbench: Qbench, caplog: pytest.LogCaptureFixture
) -> None:
    (project / "imgs/cat/00.png").write_bytes(b"no image")
    data = ("--data", "imgs", "--recipe", "raw", "--task", "classify")
    assert (
        qbench("bench", "m.onnx", "--quick", *data, "--json").json["rows"][0]["accuracy"]["n"] == 11
    )
    assert "1 of 12 skipped: cat/00.png" in caplog.text


def misfits() -> dict[str, tuple[onnx.ModelProto, str]]:
    def image(shape: tuple[int, ...], cin: int, dtype: int = TensorProto.FLOAT) -> Any:
        b = graphs.Builder(shape)
        b.inputs[0] = helper.make_tensor_value_info("x", dtype, shape)
        x = b.node("Cast", "cast", b.x, to=TensorProto.FLOAT)
        if shape[-1] == cin:
            x = b.node("Transpose", "planes", x, perm=[0, 3, 1, 2])
        return b.model(b.conv("head", b.conv("stem", x, cin=cin)))

    own = "in a recipe of your own (--recipe FILE.toml)"
    return {
        "gray": (image((1, 1, 8, 8), 1), f'3 channels, not 1; set colour = "gray" {own}'),
        "five": (image((1, 5, 8, 8), 5), "not 5; give its arrays with --data FILE.npz"),
        "nhwc": (image((1, 8, 8, 3), 3), f'its layout is nchw; set layout = "nhwc" {own}'),
        "uint8": (image((1, 3, 8, 8), 3, TensorProto.UINT8), f'set dtype = "uint8" {own}'),
        "two": (graphs.two_inputs(), "has 2 inputs (x, y); give --data with .npz files"),
        "tokens": (graphs.attention(), "is no image of rank 4; give its arrays"),
        "open": (classifier(("N", 3, "H", "W")), "is dynamic, and sets none; give"),
    }


@pytest.mark.parametrize("name", misfits())
def test_images_that_do_not_fit(name: str, project: Path, save: SaveModel, qbench: Qbench) -> None:
    model, message = misfits()[name]
    path = save(model)
    before = files(project)
    assert message in refused(qbench("calibrate", path, *DATA))
    assert files(project) == before


@pytest.mark.usefixtures("project", "quick")
def test_fixed_batch_repeats_the_sample(
    save: SaveModel, qbench: Qbench, caplog: pytest.LogCaptureFixture
) -> None:
    save(classifier((4, 3, 16, 16)), "m.onnx")
    assert qbench("calibrate", "m.onnx", *DATA).code == 0
    assert "input 'x' has a fixed batch: each sample fills its 4" in caplog.text
    row = qbench("bench", "m.onnx", "--quick", *DATA, "--task", "classify", "--json").json["rows"][
        0
    ]
    assert row["accuracy"]["n"] == 12
    assert row["throughput_per_s"] == pytest.approx(4e3 / row["latency_ms"]["median"])
    assert "a call runs the model's fixed batch of 4" in row["notes"]


@pytest.mark.usefixtures("project")
def test_a_fixed_batch_has_the_ranges_of_one(save: SaveModel) -> None:
    from qbench.calibration.calibrate import calibrate
    from qbench.data.choice import DataChoice

    tables = [
        calibrate(save(classifier((batch, 3, 16, 16))), DataChoice(Path("imgs"), "raw"))
        for batch in (1, 3)
    ]
    one, three = (table.statistics["stem_relu"] for table in tables)
    assert (three.low, three.high, three.count) == (one.low, one.high, 3 * one.count)
    assert three.mean == pytest.approx(one.mean)


@pytest.mark.parametrize("command", ["quantize", "build-trt", "bench"])
def test_table_of_another_model(
    command: str, calibrated: Path, save: SaveModel, qbench: Qbench
) -> None:
    other = save(classifier((1, 3, 8, 8)))
    before = files(calibrated)
    extra = {"quantize": ("--target", "cpu"), "bench": ("--precisions", "int8")}.get(command, ())
    message = refused(qbench(command, other, *extra, "--table", "calibration/m.json"))
    assert "was made from another model (m.onnx, sha256" in message
    assert "run `qbench calibrate other.onnx" in message
    message = refused(qbench(command, other, *extra))
    assert "no calibration table in calibration/ was made from other.onnx; run" in message
    assert files(calibrated) == before


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("m.json", b"", "m.json is not a calibration table of qbench"),
        ("m.json", b"{}", "missing required field `header`"),
        ("m.json", b"\xff\xfe\0", "m.json is not a calibration table of qbench"),
        ("m.npz", b"PK", "m.json is not a calibration table of qbench"),
        ("m.npz", None, "m.json lacks its histograms calibration/m.npz; copy them too or"),
        ("m.json", None, "no calibration table at calibration/m.json; calibrate first"),
    ],
)
def test_damaged_table(
    file: str, content: bytes | None, message: str, calibrated: Path, qbench: Qbench
) -> None:
    path = calibrated / "calibration" / file
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    outcome = qbench("quantize", "m.onnx", "--target", "cpu", "--table", "calibration/m.json")
    assert message in refused(outcome)
    assert not Path("m.cpu.int8.onnx").exists()


@pytest.mark.usefixtures("calibrated")
def test_other_files_beside_tables_are_passed_over(qbench: Qbench) -> None:
    Path("calibration/a.json").mkdir()
    Path("calibration/b.json").write_text("[]")
    assert qbench("quantize", "m.onnx", "--target", "cpu", "--effort", "fast").code == 0


@pytest.mark.parametrize(
    ("command", "message", "code"),
    [
        ("quantize m.onnx --target cpu --exclude nothing*", "--exclude 'nothing*' matches no", 2),
        ("build-trt m.onnx --exclude nothing*", "--exclude 'nothing*' matches no node", 2),
        ("quantize m.onnx --target cpu --exclude *", "m.onnx has no Conv, Gemm or MatMul", 1),
        ("quantize m.onnx --target cpu --dynamic --exclude a", "'a' has no effect on --dynam", 2),
        ("quantize m.onnx --target cpu --fp16 --exclude a", "--exclude 'a' matches no node", 2),
        ("quantize m.onnx --target cpu --fp8", "CPU provider has no FP8 kernels; use --int8", 2),
        ("quantize m.onnx --target cpu --bf16 --data imgs", "no BF16 kernels; use --fp16 or", 2),
        ("quantize m.onnx --target cpu --block 32", "--block 32 has an effect with --int4 only", 2),
        ("quantize m.onnx --target cpu --int4 --block 48", "--block 48 is not possible; choose", 2),
        (
            "quantize m.onnx --target cpu --fp16 --effort fast",
            "--effort fast has an effect with",
            2,
        ),
        ("quantize m.onnx --target cpu --int4 --method mse", "--method mse has an effect with", 2),
        ("quantize m.onnx --target cpu -o out/", "'out/' is a folder; name a file in it", 2),
        ("calibrate m.onnx --data imgs -o t.json/", "'t.json/' is a folder; name a file in it", 2),
        ("quantize m.onnx --target cpu --no-keep-io", "--no-keep-io has an effect with --fp16", 2),
        ("build-trt m.onnx --fp8 --target-gpu sm86", "--fp8 needs sm89 or later, not sm86", 2),
        ("quantize m.onnx --target gpu", "'gpu' is not one of 'cpu', 'tensorrt'", 2),
        ("quantize m.onnx", "Missing option '--target'. Choose from: cpu, tensorrt", 2),
        ("quantize m.onnx --target cpu --method magic", "'magic' is not one of 'minmax'", 2),
        ("quantize m.onnx --target tensorrt --dynamic", "on target cpu only, not tensorrt", 2),
        ("quantize m.onnx --target cpu --recipe raw", "--recipe says how to read images", 2),
        ("quantize m.onnx --target cpu --limit 3", "--limit says how to read images", 2),
        ("quantize m.onnx --target cpu -o m.onnx", "m.onnx is the model itself; choose", 2),
        ("quantize m.onnx --target cpu -o q.json", "the model q.json must end in .onnx", 2),
        (
            "quantize m.onnx --target cpu --table calibration/m.json --data imgs",
            "--table and --data exclude each other; drop one",
            2,
        ),
        ("build-trt m.onnx --shapes x=2x3x16x16", "input 'x' is fixed to 1 in the model", 2),
        ("build-trt m.onnx --shapes y=1x3", "the model has no input 'y'; its inputs are x", 2),
        ("build-trt m.onnx --shapes hello", "malformed shape 'hello'; write NAME=1x3x640", 2),
        ("bench m.onnx --providers tpu", "unknown provider 'tpu'; choose from cpu, cuda", 2),
        ("bench m.onnx --precisions int3", "unknown precision 'int3'; choose from fp32", 2),
        ("bench m.onnx --providers ,", "no provider to measure; choose from cpu", 2),
        ("bench m.onnx --data imgs", "add --task classify", 2),
        ("bench m.onnx --data imgs --task guess", "'guess' is not one of 'classify', 'detect'", 2),
        (
            "bench m.onnx --data imgs --recipe raw --task detect --decoder no",
            "unknown decoder 'no'; choose auto, yolov8",
            2,
        ),
        ("bench m.onnx --data imgs --task embed --decoder ssd", "--decoder reads boxes; drop", 2),
        ("bench m.onnx --data imgs --task embed --labels l.csv", "reads no labels; drop --lab", 2),
        ("bench m.onnx --data imgs --task detect --labels l.csv", "l.csv holds no boxes that", 1),
        ("bench m.onnx --labels l.csv", "accuracy needs images; add --data FOLDER", 2),
        ("bench m.onnx --simulate", "simulation judges accuracy; add labelled images", 2),
        ("calibrate m.onnx", "no images to calibrate on; give --data FOLDER", 2),
        ("calibrate m.onnx --data imgs -o t.npz", "the table t.npz must end in .json", 2),
        ("calibrate m.onnx --data imgs -o m.onnx", "the table m.onnx must end in .json", 2),
        ("calibrate m.onnx --data imgs --size axb", "'axb' is no size; write 640, or", 2),
        ("calibrate m.onnx --data imgs --limit 0", "0 is not in the range x>=1", 2),
        ("calibrate m.onnx --data imgs --recipe nope", "no recipe 'nope'; choose eff", 1),
        ("calibrate m.onnx --data imgs --recipe x.toml", "cannot read recipe x.toml: No such", 1),
        ("frobnicate", "No such command 'frobnicate'", 2),
    ],
)
def test_wrong_options(
    command: str, message: str, code: int, calibrated: Path, qbench: Qbench
) -> None:
    before = files(calibrated)
    assert message in refused(qbench(*command.split()), code)
    assert files(calibrated) == before


def test_shapes_are_checked_before_calibrating(project: Path, qbench: Qbench) -> None:
    before = files(project)
    message = refused(qbench("build-trt", "m.onnx", *DATA, "--shapes", "x=2x3x16x16"), 2)
    assert "dimension 0 of input 'x' is fixed to 1 in the model; give 1 in place of 2" in message
    assert files(project) == before


def test_unknown_backend(monkeypatch: pytest.MonkeyPatch, calibrated: Path, qbench: Qbench) -> None:
    monkeypatch.undo()  # the real question
    monkeypatch.chdir(calibrated)
    message = refused(qbench("build-trt", "m.onnx", "--backend", "cudnn"), 2)
    assert "unknown backend 'cudnn'; choose from auto, tensorrt, rtx" in message


@pytest.mark.parametrize("command", ["calibrate", "quantize", "build-trt", "bench"])
@pytest.mark.usefixtures("project")
def test_model_without_compute(command: str, save: SaveModel, qbench: Qbench) -> None:
    b = graphs.Builder((1, 3, 16, 16))
    path = save(b.model(b.node("Relu", "y", b.x)))
    extra = {"quantize": ("--target", "cpu"), "bench": ("--quick", "--task", "classify")}
    message = refused(qbench(command, path, *extra.get(command, ()), *DATA))
    no_compute = "other.onnx has no Conv, Gemm or MatMul that could be quantized"
    assert ("is not one row of logits" if command == "bench" else no_compute) in message
    assert not Path("calibration").exists()


@pytest.mark.parametrize("suffix", ["int8", "dynamic"])
@pytest.mark.usefixtures("calibrated", "quick")
def test_quantized_already(suffix: str, qbench: Qbench) -> None:
    made = f"m.cpu.{suffix}.onnx"
    assert qbench("quantize", "m.onnx", "--target", "cpu", f"--{suffix}").code == 0
    for command in (
        ["calibrate", made, *DATA],
        *(["quantize", made, "--target", "cpu", flag] for flag in ("--int8", "--fp16")),
    ):
        message = refused(qbench(*command))
        assert f"{made} is quantized already; give the float model" in message
    for flag in ("--fp16", "--fp32"):
        message = refused(qbench("build-trt", made, flag))
        assert f"{made} is quantized already, and is built as it is; leave {flag} out" in message
    row = qbench("bench", made, "--quick", "--precisions", "int8", "--json").json["rows"][0]
    assert (row["precision"], row["error"]) == ("as given", None)


@pytest.mark.parametrize("command", ["calibrate", "quantize"])
@pytest.mark.usefixtures("project")
def test_nan_names_the_tensor(command: str, save: SaveModel, qbench: Qbench) -> None:
    b = graphs.Builder((1, 3, 16, 16))
    negative = b.node("Sub", "below", b.x, b.constant("much", np.float32(999)))
    path = save(b.model(b.conv("head", b.conv("stem", b.node("Sqrt", "root", negative), cin=3))))
    extra = ("--target", "cpu") if command == "quantize" else ()
    message = refused(qbench(command, path, *extra, *DATA))
    assert "tensor 'root' holds NaN or Inf for" in message
    assert "check the recipe's scale, mean and std" in message
    assert not Path("calibration").exists()


@pytest.mark.usefixtures("calibrated", "quick")
def test_names_beyond_ascii_and_with_spaces(qbench: Qbench) -> None:
    shutil.move("m.onnx", "mein modell ü 图.onnx")
    shutil.move("imgs", "bilder 图")
    assert qbench("inspect").code == 0
    assert (
        qbench("quantize", "--target", "cpu", "-o", "aus gabe/ö.onnx", "--effort", "fast").code == 0
    )
    data = ("--data", "bilder 图", "--task", "classify")
    document = qbench("bench", "--quick", "--precisions", "fp32,int8", *data, "--json").json
    assert {row["model"] for row in document["rows"]} == {"mein modell ü 图.onnx"}
    assert all(row["accuracy"]["n"] == 12 for row in document["rows"])
    assert qbench("bench", "aus gabe/ö.onnx", "--quick").code == 0


@pytest.mark.parametrize("message", ["libGL.so.1: cannot open", "libgthread-2.0.so.0: cannot open"])
@pytest.mark.usefixtures("project")
def test_a_missing_library_of_opencv(
    message: str, qbench: Qbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ImportError(f"{message} shared object file: No such file or directory")

    monkeypatch.setattr("qbench.model.load.load", fail)
    text = refused(qbench("inspect", "m.onnx"), 5)
    assert f"a library of the system is missing ({message}" in text
    assert "install it: `apt-get install libgl1 libglib2.0-0`" in text


@pytest.mark.usefixtures("project")
def test_a_missing_package(qbench: Qbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "qbench.quantization.inspect", None)
    text = refused(qbench("inspect", "m.onnx"), 5)
    assert "a package is missing" in text
    assert "install qbench-onnx again" in text
