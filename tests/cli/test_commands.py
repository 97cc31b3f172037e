"""The commands on good input: their JSON, key by key, their files and their text."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import graphs
import numpy as np
import onnx
import pytest

from qbench.benchmarking import target_check
from qbench.benchmarking.speedup import Speedup
from qbench.benchmarking.stats import Interval
from qbench.calibration.interop import tensorrt_cache_from_table
from qbench.calibration.ranges import METHODS
from qbench.calibration.table import load_table
from qbench.cli.quantize import quantize as quantize_command
from qbench.engines.auditing.engine import EngineAudit, NodeFinding
from qbench.engines.manifest import read_manifest
from qbench.model.load import load
from qbench.quantization import by_precision
from qbench.quantization.choice import Step

from .conftest import CLASSES, Qbench, SaveModel, classifier, files, refused, write_images

DATA = ("--data", "imgs", "--recipe", "raw")
FAST = ("--effort", "fast")


def width(text: str) -> int:
    return max(map(len, text.splitlines()))


def test_calibrate(project: Path, qbench: Qbench) -> None:
    before = files(project)
    document = qbench("calibrate", *DATA, "--json").json
    assert document.keys() == {
        "schema_version",
        "images",
        "skipped",
        "seconds",
        "inference_seconds",
        "peak_rss_bytes",
        "tensors",
        "image_size",
        "shard",
        "output",
        "tensorrt_cache",
    }
    table = load_table(Path(document["output"]))
    assert (document["schema_version"], document["images"], document["skipped"]) == (1, 12, [])
    assert document["tensors"] == len(table.statistics)
    assert document["image_size"] == [16, 16]
    assert document["inference_seconds"] > 0
    assert document["seconds"] > 0
    assert document["output"] == "calibration/m.json"
    assert files(project) - before == {"calibration/m.json", "calibration/m.npz"}


@pytest.mark.usefixtures("project")
def test_calibrate_says_what_it_did(qbench: Qbench) -> None:
    outcome = qbench("calibrate", *DATA, "--limit", 4, "-o", "sub/t.json")
    assert outcome.out.startswith("4 images of 16 x 16, ")
    assert outcome.out.endswith("wrote sub/t.json\n")
    assert (outcome.code, outcome.err) == (0, "")


@pytest.mark.usefixtures("project")
def test_calibrate_writes_a_tensorrt_cache_beside_the_table(qbench: Qbench) -> None:
    cache = ("--tensorrt-cache", "sub/m.cache", "--method", "entropy")
    text = qbench("calibrate", *DATA, *cache).out
    assert text.endswith("wrote calibration/m.json and sub/m.cache\n")
    table = load_table(Path("calibration/m.json"))
    assert Path("sub/m.cache").read_text() == tensorrt_cache_from_table(table, "entropy")
    document = qbench("calibrate", *DATA, *cache[:2], "--json").json
    assert document["tensorrt_cache"] == "sub/m.cache"
    assert Path("sub/m.cache").read_text() == tensorrt_cache_from_table(table, "mse")


@pytest.mark.usefixtures("project")
def test_a_method_without_a_cache_has_no_use(qbench: Qbench) -> None:
    text = refused(qbench("calibrate", *DATA, "--method", "entropy"), 2)
    assert "--method entropy is for --tensorrt-cache; the table serves every method" in text


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("cache", ["t.json", "./t.npz"])
def test_a_cache_does_not_replace_its_table(qbench: Qbench, cache: str) -> None:
    text = refused(qbench("calibrate", *DATA, "-o", "t.json", "--tensorrt-cache", cache), 2)
    assert "is a file of the table; give the TensorRT cache another name" in text
    assert not Path("t.json").exists()


@pytest.mark.usefixtures("calibrated")
@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("calibrate m.onnx --data d.npz -o d.json", "d.npz"),
        ("calibrate m.onnx --data d.npz --tensorrt-cache d.npz", "d.npz"),
        ("calibrate m.onnx --data d.npz --tensorrt-cache m.onnx", "m.onnx"),
        ("calibrate m.onnx --data imgs --recipe r.toml --tensorrt-cache r.toml", "r.toml"),
        ("calibrate m.onnx --data imgs -o other.json", "other.npz"),
        ("quantize m.onnx --target cpu --data d.onnx -o d.onnx", "d.onnx"),
        ("quantize m.onnx --target cpu --ranges c.onnx -o c.onnx", "c.onnx"),
        ("quantize m.onnx --target cpu --table t.onnx -o t.onnx", "t.onnx"),
        ("tune m.onnx --target cpu --data imgs --budget 1% --labels c.onnx -o c.onnx", "c.onnx"),
    ],
)
def test_no_command_replaces_what_it_reads(qbench: Qbench, command: str, name: str) -> None:
    """Whatever it is called."""
    np.savez("d.npz", x=np.zeros((4, 3, 8, 8), np.float32))
    np.savez("other.npz", own=np.zeros(4))
    for own in ("c.onnx", "d.onnx", "t.onnx"):
        Path(own).write_text("own")
    Path("r.toml").write_text('colour = "rgb"\n')
    before = Path(name).read_bytes()
    text = refused(qbench(*command.split()), 2)
    assert name in text
    assert "replace" in text
    assert Path(name).read_bytes() == before


@pytest.mark.usefixtures("project")
def test_a_merged_table_replaces_no_shard(qbench: Qbench) -> None:
    for name, shard in (("a.json", "0/2"), ("b.json", "1/2")):
        qbench("calibrate", *DATA, "--shard", shard, "-o", name)
    before = Path("a.json").read_bytes()
    text = refused(qbench("calibrate", "--merge", "a.json", "b.json", "-o", "a.json"), 2)
    assert "a.json is read here, and would be replaced; choose another name" in text
    assert Path("a.json").read_bytes() == before


@pytest.mark.usefixtures("project")
def test_a_shard_makes_no_cache(qbench: Qbench) -> None:
    shard = ("--shard", "0/2", "--tensorrt-cache", "m.cache")
    assert "give --tensorrt-cache to --merge" in refused(qbench("calibrate", *DATA, *shard), 2)


@pytest.mark.usefixtures("project")
def test_calibrating_twice_gives_the_same_bytes(qbench: Qbench) -> None:
    tables = []
    for threads in (1, 2):
        assert qbench("calibrate", *DATA, "--threads", threads).code == 0
        tables.append([Path(f"calibration/m.{end}").read_bytes() for end in ("json", "npz")])
    assert tables[0] == tables[1]


@pytest.mark.usefixtures("project")
def test_a_recipe_that_is_guessed_is_said_aloud(
    qbench: Qbench, caplog: pytest.LogCaptureFixture
) -> None:
    assert qbench("calibrate", "--data", "imgs").code == 0
    assert "no --recipe given: 'imagenet' is assumed" in caplog.text


@pytest.mark.usefixtures("project")
def test_several_inputs_from_arrays(save: SaveModel, qbench: Qbench) -> None:
    path = save(graphs.two_inputs())
    random = np.random.default_rng(0)
    arrays = {name: random.normal(size=(5, *graphs.IMAGE[1:])) for name in "xy"}
    np.savez("two.npz", **{name: array.astype(np.float32) for name, array in arrays.items()})
    assert qbench("calibrate", path, "--data", "two.npz", "--json").json["images"] == 5
    assert qbench("quantize", path, "--target", "tensorrt", *FAST).code == 0


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_quantize(target: str, calibrated: Path, qbench: Qbench) -> None:
    before = files(calibrated)
    document = qbench("quantize", "--target", target, *FAST, "--json").json
    assert document.keys() >= {
        "schema_version",
        "output",
        "target",
        "precision",
        "int8_mac_fraction",
        "float_nodes",
        "notes",
        "audit",
        "speedup",
        "steps",
    }
    assert (document["target"], document["precision"]) == (target, "int8")
    assert document["int8_mac_fraction"] == 1.0
    assert (document["float_nodes"], document["notes"]) == ([], [])
    assert document["output"] == f"m.{target}.int8.onnx"
    assert load(document["output"]).is_quantized
    assert files(calibrated) - before == {document["output"]}
    if target == "cpu":
        assert document["audit"] == {"planned": 3, "integer": 3, "unfused": []}
        assert document["speedup"].keys() == {"ratio", "verdict", "reasons"}
        assert document["speedup"]["ratio"].keys() == {"value", "ci_low", "ci_high"}
    else:
        assert (document["audit"], document["speedup"]) == (None, None)


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
@pytest.mark.usefixtures("calibrated")
def test_quantize_asks_the_target_nothing_if_told_so(target: str, qbench: Qbench) -> None:
    command = ("quantize", "--target", target, "--no-audit", *FAST)
    document = qbench(*command, "--json").json
    assert (document["audit"], document["speedup"]) == (None, None)
    lines = qbench(*command).out.splitlines()
    assert [line.split()[0] for line in lines] == ["100.0", "output", "wrote"]


@pytest.mark.usefixtures("calibrated")
def test_quantize_shows_the_speed_and_what_slows_it(
    qbench: Qbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "12.3 % of INT8's time goes into integer elementwise operators, which gain little"
    reasons = ("40.0 % of INT8's time goes into x", long)
    seen = Speedup(Interval(0.874, 0.86, 0.9), "slower", reasons)
    monkeypatch.setattr(target_check, "speedup_of", lambda *_: seen)
    text = qbench("quantize", "--target", "cpu", *FAST).out
    told = "at a glance slower, 0.87 x FP32 [0.86, 0.90] on this CPU; `qbench bench`"
    assert told in text
    assert "\n  40.0 % of INT8's time goes into x\n" in text
    assert width(text) <= 80


@pytest.mark.usefixtures("calibrated")
def test_quantize_for_tensorrt_carries_the_audit_of_the_compiler(
    qbench: Qbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = NodeFinding("deep", "Conv", "Float", "some reason")
    left = NodeFinding("other", "Gemm", "Half", "another reason")
    by_dtype = {"Conv": {"Int8": 7, "Float": 1}, "Gemm": {"Half": 1}}
    found = EngineAudit({}, by_dtype, (told, left), ())
    monkeypatch.setattr(target_check, "audit_tensorrt", lambda *_, **__: found)
    command = ("quantize", "--target", "tensorrt", *FAST)
    assert qbench(*command, "--json").json["audit"]["nodes_by_dtype"] == found.nodes_by_dtype
    text = qbench(*command, "--exclude", "deep").out
    assert "TensorRT for RTX runs 7 of 9 compute nodes in INT8\n" in text
    assert "  Half      other (Gemm): another reason\n" in text
    assert "some reason" not in text  # since the plan tells its own


@pytest.mark.usefixtures("calibrated")
def test_quantize_shows_what_each_step_of_the_search_gained(
    qbench: Qbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = (
        Step("ranges by histogram", 0, 3.4),
        Step("ranges by output", 20, 8.0),
        Step("equalization", 2, 16.0),
        Step("float nodes", 5, 20.2),
    )
    search = by_precision.to_int8
    monkeypatch.setattr(by_precision, "to_int8", lambda *a: replace(search(*a), steps=steps))
    document = qbench("quantize", "--target", "cpu", *FAST, "--json").json
    assert document["steps"][1] == {
        "name": "ranges by output",
        "changed": 20,
        "output_sqnr_db": 8.0,
    }
    assert document["output_sqnr_db"] == document["steps"][-1]["output_sqnr_db"] == 20.2
    text = qbench("quantize", "--target", "cpu", *FAST).out
    assert "steps: ranges by histogram 3 dB, ranges by output 8 dB (20), equ" in text
    assert "float\n  nodes 20 dB (5)\n" in text or "float nodes 20 dB (5)\n" in text
    assert width(text) <= 80


@pytest.mark.usefixtures("calibrated")
def test_quantize_names_float_nodes_with_the_reason(qbench: Qbench) -> None:
    options = ("--target", "cpu", "--exclude", "deep", *FAST)
    document = qbench("quantize", *options, "--json").json
    assert document["float_nodes"] == [
        {"name": "deep", "op_type": "Conv", "reason": "excluded by name"}
    ]
    text = qbench("quantize", *options).out
    assert "  float     deep (Conv): excluded by name\n" in text
    assert "ONNX Runtime runs 2 of 2 planned compute nodes on integer kernels" in text
    assert "wrote m.cpu.int8.onnx (" in text


@pytest.mark.parametrize("precision", ["fp16", "int4", "weight-only", "dynamic"])
@pytest.mark.usefixtures("project")
def test_other_precisions_need_no_table(precision: str, qbench: Qbench) -> None:
    document = qbench("quantize", "--target", "cpu", f"--{precision}", "--json").json
    sizes = [Path(path).stat().st_size for path in ("m.onnx", document["output"])]
    assert [document["source_bytes"], document["size_bytes"]] == sizes
    assert document["output"] == f"m.cpu.{precision}.onnx"
    assert (document["precision"], document["audit"]) == (precision, None)
    onnx.checker.check_model(document["output"])


def test_data_calibrates_on_the_way(project: Path, qbench: Qbench) -> None:
    assert qbench("quantize", "--target", "cpu", *DATA, *FAST).code == 0
    assert {"calibration/m.json", "calibration/m.npz", "m.cpu.int8.onnx"} <= files(project)


@pytest.mark.usefixtures("calibrated")
def test_a_table_is_found_by_the_hash_of_its_model(qbench: Qbench) -> None:
    Path("calibration/m.json").rename("calibration/zzz.json")
    Path("calibration/m.npz").rename("calibration/zzz.npz")
    Path("m.onnx").rename("renamed.onnx")
    assert qbench("quantize", "--target", "cpu", *FAST).code == 0


def test_the_methods_offered_are_those_there_are() -> None:
    option = next(param for param in quantize_command.params if param.name == "method")
    assert tuple(option.type.choices) == tuple(METHODS)  # type: ignore[attr-defined]


@pytest.mark.usefixtures("calibrated")
def test_methods_give_different_models(qbench: Qbench) -> None:
    for method in ("minmax", "percentile"):
        options = ("--target", "cpu", "--method", method, "-o", f"made/{method}.onnx", *FAST)
        assert qbench("quantize", *options).code == 0
    assert Path("made/minmax.onnx").read_bytes() != Path("made/percentile.onnx").read_bytes()


@pytest.mark.usefixtures("project")
def test_subgraphs_stay_float_and_that_is_said(save: SaveModel, qbench: Qbench) -> None:
    path = save(graphs.with_if())
    np.savez("if.npz", x=np.random.default_rng(0).normal(size=(4, *graphs.IMAGE[1:])).astype("f"))
    line = "kept in float: 2 nodes inside If, Loop or Scan"
    options = ("--target", "tensorrt", "--data", "if.npz", *FAST)
    assert f"note: {line}" in qbench("quantize", path, *options).out
    assert qbench("quantize", path, *options, "--json").json["notes"] == [line]
    assert line in qbench("inspect", path).out


@pytest.mark.usefixtures("project")
def test_external_data(qbench: Qbench, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.save(
        classifier(), "e.onnx", save_as_external_data=True, location="weights", size_threshold=0
    )
    Path("m.onnx").unlink()
    assert qbench("calibrate", *DATA).code == 0
    monkeypatch.setattr("qbench.model.save.PROTOBUF_LIMIT_BYTES", 100)
    for precision, effort in (("int8", FAST), ("fp16", ())):
        assert qbench("quantize", "--target", "cpu", f"--{precision}", *effort).code == 0
        assert Path(f"e.cpu.{precision}.onnx.data").is_file()
    assert Path("e.cpu.fp16.onnx.data").stat().st_size > 0
    before = load("e.onnx").sha256
    with Path("weights").open("r+b") as file:
        file.write(b"changed")
    assert load("e.onnx").sha256 != before
    Path("weights").write_bytes(b"short")
    assert "weights is truncated:" in qbench("inspect", "e.onnx").err
    Path("weights").unlink()
    assert "keeps its weights in weights, which is missing" in qbench("inspect", "e.onnx").err


@pytest.mark.usefixtures("project")
def test_inspect(qbench: Qbench) -> None:
    document = qbench("inspect", "--json").json
    assert document["inputs"] == [{"name": "x", "dtype": "float32", "shape": [1, 3, 16, 16]}]
    assert document["outputs"] == [{"name": "fc", "dtype": "float32", "shape": [1, 3]}]
    assert (document["opset"], document["schema_version"]) == (17, 1)
    assert document["ops"] == {
        "Conv": 2,
        "Relu": 2,
        "GlobalAveragePool": 1,
        "Flatten": 1,
        "Gemm": 1,
    }
    macs = 16 * 16 * (8 * 27 + 8 * 9) + 8 * 3
    assert document["macs"] == macs
    assert {target["target"] for target in document["targets"]} == {"cpu", "tensorrt"}
    text = qbench("inspect").out
    assert width(text) <= 80
    assert "MACs        73.75 k" in text


@pytest.mark.usefixtures("project")
def test_inspect_of_a_dynamic_model(save: SaveModel, qbench: Qbench) -> None:
    path = save(classifier(("N", 3, "H", "W")))
    assert "MACs        unknown; give --size" in qbench("inspect", path).out
    assert qbench("inspect", path, "--size", "16", "--json").json["macs"] > 0


@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="TensorRT for RTX is not installed"
)
class TestBuildTrt:
    @pytest.mark.usefixtures("calibrated")
    def test_int8(self, qbench: Qbench) -> None:
        document = qbench("build-trt", "--backend", "rtx", *FAST, "--json").json
        assert document.keys() == {
            "schema_version",
            "output",
            "manifest",
            "seconds",
            "layers_by_dtype",
            "audit",
            "notes",
        }
        assert document["output"] == "engines/m.int8.engine"
        manifest = read_manifest(Path(document["output"]))
        assert document["layers_by_dtype"] == manifest.layers_by_dtype
        assert manifest.model.sha256 == load("m.onnx").sha256
        assert manifest.table_sha256 == load_table(Path("calibration/m.json")).sha256
        assert manifest.int8_conv_fraction == 1.0
        assert Path("engines/m.int8.json") == Path(document["manifest"])

    @pytest.mark.usefixtures("project")
    def test_other_precisions_and_text(self, qbench: Qbench) -> None:
        text = qbench("build-trt", "--backend", "rtx", "--fp16").out
        assert "layers: " in text
        assert "wrote engines/m.fp16.engine (" in text
        assert read_manifest(Path("engines/m.fp16.engine")).table_sha256 is None

    def test_data_calibrates_on_the_way(self, project: Path, qbench: Qbench) -> None:
        assert qbench("build-trt", "--backend", "rtx", *DATA, *FAST).code == 0
        assert {"calibration/m.json", "engines/m.int8.engine"} <= files(project)

    @pytest.mark.usefixtures("project")
    def test_dynamic_inputs(self, save: SaveModel, qbench: Qbench) -> None:
        save(classifier(("N", 3, "H", "W")), "m.onnx")
        assert qbench("calibrate", *DATA, "--size", "16x24").code == 0
        rtx = ("build-trt", "--backend", "rtx", *FAST)
        text = " ".join(qbench(*rtx).out.split())
        assert "built for 1x3x16x24, batch 1 and the size of the images; choose with" in text
        document = qbench(*rtx, "--shapes", "x=1x3x16x16/2x3x16x16/4x3x32x32", "--json").json
        shapes = read_manifest(Path(document["output"])).shapes["x"]
        assert (shapes.min, shapes.max) == ((1, 3, 16, 16), (4, 3, 32, 32))
        outcome = qbench("build-trt", "--backend", "rtx", "--fp32")
        assert (outcome.code, "give --shapes x=" in outcome.err) == (2, True)
        assert not Path("engines/m.fp32.onnx").exists()

    @pytest.mark.usefixtures("calibrated")
    def test_a_missing_flavour(self, qbench: Qbench) -> None:
        if importlib.util.find_spec("tensorrt") is not None:
            pytest.skip("TensorRT is installed")
        outcome = qbench("build-trt", "--backend", "tensorrt")
        assert (outcome.code, outcome.out) == (5, "")
        assert "TensorRT is not installed; run `uv sync --extra tensorrt`" in outcome.err


@pytest.mark.usefixtures("quick")
class TestBench:
    @pytest.mark.usefixtures("calibrated")
    def test_json(self, qbench: Qbench) -> None:
        options = ("--precisions", "fp32,int8", "--providers", "cpu", "--data", "imgs")
        outcome = qbench("bench", "--quick", *options, "--task", "classify", "--json")
        assert outcome.err == ""
        document = outcome.json
        assert document.keys() >= {"schema_version", "environment", "rows"}
        first, second = document["rows"]
        assert first.keys() >= {
            "model",
            "precision",
            "provider",
            "accuracy",
            "latency_ms",
            "ratio",
            "throughput_per_s",
            "size_bytes",
            "peak_rss_bytes",
            "notes",
        }
        assert (first["model"], first["precision"], first["provider"]) == ("m.onnx", "fp32", "cpu")
        assert (second["precision"], second["provider"]) == ("int8", "cpu")
        assert first["accuracy"].keys() >= {"metric", "value", "n"}
        assert (first["accuracy"]["metric"], first["accuracy"]["n"]) == ("top1", 12)
        assert first["latency_ms"].keys() >= {"median", "mad", "min", "p90"}
        assert first["ratio"].keys() == {"value", "ci_low", "ci_high", "verdict"}
        assert first["ratio"]["value"] == 1
        assert first["size_bytes"] == Path("m.onnx").stat().st_size
        assert second["size_bytes"] != first["size_bytes"]

    @pytest.mark.usefixtures("calibrated")
    def test_text(self, qbench: Qbench) -> None:
        data = ("--data", "imgs", "--task", "classify", "--simulate")
        text = qbench("bench", "--quick", "--precisions", "fp32,int8", *data).out
        assert width(text) <= 80
        assert "baseline" in text.splitlines()[1]
        assert "accuracy: top-1 on 12 images, 95 % interval about +-" in text
        assert "accuracy minus that of the first row, in points: int8 cpu " in text
        assert "*: computed with exact arithmetic" in text

    @pytest.mark.usefixtures("calibrated")
    def test_simulated_rows_are_judged_and_not_timed(self, qbench: Qbench) -> None:
        data = ("--data", "imgs", "--task", "classify", "--simulate")
        document = qbench("bench", "--quick", "--precisions", "int8", *data, "--json").json
        simulated = document["rows"][1:]
        names = ["cpu (simulated)", "tensorrt (simulated)"]
        assert [row["provider"] for row in simulated] == names
        assert all(row["latency_ms"] is None for row in simulated)
        assert all(row["accuracy"]["n"] == 12 for row in simulated)

    @pytest.mark.usefixtures("calibrated")
    def test_a_table_serves_what_is_simulated_alone(self, qbench: Qbench) -> None:
        """Images are prepared as it says; INT8 is nothing that is timed here."""
        for file in ("m.json", "m.npz"):
            Path("calibration", file).rename(file)
        data = ("--data", "imgs", "--task", "classify", "--simulate", "--table", "m.json")
        rows = qbench("bench", "--quick", *data, "--json").json["rows"]
        assert [row["precision"] for row in rows] == ["fp32", "int8", "int8"]
        assert all(row["accuracy"]["n"] == 12 for row in rows)

    @pytest.mark.usefixtures("project")
    def test_an_unfit_provider_has_a_row_with_the_reason(
        self, qbench: Qbench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        available = lambda: ["CPUExecutionProvider"]  # noqa: E731
        monkeypatch.setattr("qbench.runtimes.ort.providers.ort.get_available_providers", available)
        document = qbench("bench", "--quick", "--providers", "cuda,cpu", "--json").json
        unfit, cpu = document["rows"]
        assert "provider 'cuda' is not part of the installed ONNX Runtime" in unfit["error"]
        assert (unfit["latency_ms"], unfit["ratio"]) == (None, None)
        assert (cpu["error"], cpu["ratio"]["value"]) == (None, 1)
        lines = qbench("bench", "--quick", "--providers", "cuda,cpu").out.splitlines()
        assert "failed" in lines[1]
        assert "baseline" in lines[2]
        outcome = qbench("bench", "--quick", "--providers", "cuda", "--json")
        assert (outcome.code, outcome.out) == (5, "")
        assert "run `qbench doctor` to see what runs here" in outcome.err

    @pytest.mark.usefixtures("project")
    def test_labels_from_a_csv(self, qbench: Qbench) -> None:
        write_images(Path("flat"), 6)
        names = sorted(path.relative_to("flat").as_posix() for path in Path("flat").rglob("*.png"))
        rows = "\n".join(f"{name},{CLASSES.index(name.split('/')[0])}" for name in names[:5])
        Path("labels.csv").write_text(f"file,label\n{rows}\n")
        data = ("--data", "flat", "--recipe", "raw", "--task", "classify")
        options = (*data, "--labels", "labels.csv")
        by_file = qbench("bench", "--quick", *options, "--json").json["rows"][0]["accuracy"]
        assert by_file["n"] == 5
        by_folder = qbench("bench", "--quick", *data, "--json").json["rows"][0]["accuracy"]
        assert by_folder["n"] == 6
        Path("labels.csv").write_text("file,label\nowl/02.png,7\n")
        outcome = qbench("bench", "--quick", *options)
        assert outcome.code == 1
        assert "label 7 of owl/02.png is beyond the model's 3 classes" in outcome.err

    @pytest.mark.usefixtures("calibrated")
    def test_a_recipe_other_than_that_of_the_calibration(self, qbench: Qbench) -> None:
        data = ("--data", "imgs", "--recipe", "imagenet", "--task", "classify")
        outcome = qbench("bench", "--quick", "--precisions", "int8", *data)
        assert outcome.code == 1
        assert "prepared by recipe 'imagenet', but calibration used 'raw'" in outcome.err
        assert "drop --recipe or calibrate again with it" in outcome.err

    @pytest.mark.usefixtures("project")
    def test_several_models_have_a_column(self, save: SaveModel, qbench: Qbench) -> None:
        save(classifier((1, 3, 8, 8)), "small.onnx")
        lines = qbench("bench", "m.onnx", "small.onnx", "--quick").out.splitlines()
        assert lines[0].startswith("model ")
        assert [line.split()[0] for line in lines[1:3]] == ["m.onnx", "small.onnx"]

    @pytest.mark.usefixtures("project")
    def test_a_dynamic_model_takes_its_size_from_the_option(
        self, save: SaveModel, qbench: Qbench
    ) -> None:
        save(classifier(("N", 3, "H", "W")), "m.onnx")
        outcome = qbench("bench", "--quick")
        assert (outcome.code, "give --size 640 for images" in outcome.err) == (1, True)
        assert qbench("bench", "--quick", "--size", "16x24").code == 0

    @pytest.mark.usefixtures("project")
    def test_fp16_models_are_measured_as_given(self, qbench: Qbench) -> None:
        assert qbench("quantize", "--target", "cpu", "--fp16").code == 0
        row = qbench("bench", "m.cpu.fp16.onnx", "--quick", "--json").json["rows"][0]
        assert row["precision"] == "as given"
