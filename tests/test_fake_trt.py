"""The fake of TensorRT: as strict as the real bindings, and computing what the model says."""

import json
from pathlib import Path
from typing import Any

import graphs
import numpy as np
import onnx
import pytest
from fake_trt import fake_tensorrt, read_api, versions
from fake_trt.api import FUNCTIONS
from fake_trt.module import behaviours, functions
from fake_trt.plan import from_bytes

TEN = [version for version in versions() if version.startswith("10")]


class Recorder:
    """What a logger, a monitor and a calibrator were told."""

    def __init__(self, module: Any) -> None:
        self.lines: list[str] = []
        self.phases: list[tuple[Any, ...]] = []
        recorder = self

        class Logger(module.ILogger):
            def __init__(self) -> None:
                super().__init__()

            def log(self, severity: Any, msg: str) -> None:
                recorder.lines.append(f"{severity.name}: {msg}")

        class Monitor(module.IProgressMonitor):
            def __init__(self, goes_on: bool = True) -> None:
                super().__init__()
                self.goes_on = goes_on

            def phase_start(self, *told: Any) -> None:
                recorder.phases.append(("start", *told))

            def step_complete(self, *told: Any) -> bool:
                recorder.phases.append(("step", *told))
                return self.goes_on

            def phase_finish(self, *told: Any) -> None:
                recorder.phases.append(("finish", *told))

        self.logger = Logger()
        self.monitor = Monitor


class Session:
    """A builder with a parsed model."""

    def __init__(self, version: str, proto: onnx.ModelProto, typed: bool = True) -> None:
        self.trt: Any = fake_tensorrt(version)
        self.told = Recorder(self.trt)
        self.builder = self.trt.Builder(self.told.logger)
        flag = int(self.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        self.network = self.builder.create_network(typed << flag)
        self.parser = self.trt.OnnxParser(self.network, self.told.logger)
        self.parsed = self.parser.parse(proto.SerializeToString())
        self.config = self.builder.create_builder_config()

    def add_profile(self, *shapes: tuple[int, ...], name: str = "x") -> int:
        profile = self.builder.create_optimization_profile()
        profile.set_shape(name, *shapes)
        return self.config.add_optimization_profile(profile)

    def build(self) -> bytes | None:
        memory = self.builder.build_serialized_network(self.network, self.config)
        return None if memory is None else bytes(memory)

    def context(self) -> Any:
        runtime = self.trt.Runtime(self.told.logger)
        return runtime.deserialize_cuda_engine(self.build()).create_execution_context()


def doubled(*shape: int | str) -> onnx.ModelProto:
    b = graphs.Builder(shape or ("N", 4))
    return b.model(b.node("Add", "y", b.x, b.x))


@pytest.mark.parametrize("version", versions())
def test_it_has_the_members_of_its_version_and_no_others(version: str) -> None:
    module, api = fake_tensorrt(version), read_api(version)
    assert module.__version__ == api.full_version
    for name, members in api.holders.items():
        kind: Any = module
        for part in name.split(".") if name != FUNCTIONS else ():
            kind = getattr(kind, part)
        public = {member for member in members if member and not member.startswith("_")}
        assert all(hasattr(kind, member) for member in public), name
        if name not in (FUNCTIONS, "IHostMemory"):
            found = {member for member in dir(kind) if not member.startswith("_")}
            assert found <= public | ({"name", "value"} if members[""] == "enum" else set()), name


def test_every_behaviour_belongs_to_a_version() -> None:
    apis = [read_api(version) for version in versions()]
    acts = [f"{kind}.{act}" for kind, found in behaviours().items() for act in vars(found)]
    public = [act for act in [*acts, *functions()] if "._" not in act]
    assert [act for act in public if not any(api.has(act) for api in apis)] == []


def test_enums_differ_from_version_to_version() -> None:
    ten, eleven = fake_tensorrt("10.0.1"), fake_tensorrt("11.4")
    assert int(ten.NetworkDefinitionCreationFlag.STRONGLY_TYPED) == 1
    assert int(eleven.NetworkDefinitionCreationFlag.STRONGLY_TYPED) == 0
    assert not hasattr(eleven.BuilderFlag, "INT8")
    assert ten.BuilderFlag.STRIP_PLAN is ten.BuilderFlag.WEIGHTLESS
    with pytest.raises(TypeError, match="unsupported operand"):
        1 << ten.BuilderFlag.TF32
    with pytest.raises(AttributeError, match="can't set attribute 'value'"):
        ten.BuilderFlag.TF32.value = 7


def test_it_is_as_strict_as_the_bindings() -> None:
    session = Session("11.4", doubled())
    trt, builder, config = session.trt, session.builder, session.config
    with pytest.raises(AttributeError, match="'IBuilderConfig' object has no attribute 'int8_c"):
        config.int8_calibrator = None
    with pytest.raises(AttributeError, match="property of 'Builder' object has no setter"):
        builder.logger = session.told.logger
    with pytest.raises(TypeError, match=r"create_network\(\): incompatible .* {'flag': 1}"):
        builder.create_network(flag=1)
    with pytest.raises(TypeError, match=r"set_flag\(\): incompatible function arguments"):
        config.set_flag(int(trt.BuilderFlag.TF32))
    with pytest.raises(TypeError, match="max_aux_streams: 'two' is no int"):
        config.max_aux_streams = "two"
    with pytest.raises(TypeError, match="ICudaEngine: No constructor defined!"):
        trt.ICudaEngine()
    with pytest.raises(NotImplementedError, match=r"does nothing for Builder\.reset"):
        builder.reset()
    with pytest.raises(NotImplementedError, match="does nothing for nptype"):
        trt.nptype(trt.DataType.FLOAT)
    with pytest.raises(TypeError, match=r"Silent\.__init__\(\) must be called when overriding"):
        type("Silent", (trt.ILogger,), {"__init__": lambda _: None})()
    with pytest.raises(KeyError, match=r"no API of TensorRT '9\.9'; choose from 10\.0\.1, "):
        fake_tensorrt("9.9")


def test_a_plan_has_bytes_but_no_length() -> None:
    session = Session("11.4", doubled(2, 4))
    memory = session.builder.build_serialized_network(session.network, session.config)
    assert memory.nbytes == len(bytes(memory))
    with pytest.raises(TypeError, match="has no len"):
        len(memory)
    with pytest.raises(AttributeError, match="'IHostMemory' object has no attribute 'decode'"):
        memory.decode()


def test_refused_nodes_are_listed() -> None:
    b = graphs.Builder((2, 4))
    proto = b.model(b.node("Det", "d", b.node("Unique", "u", b.x)))
    session = Session("10.16", proto)
    assert not session.parsed
    found = [session.parser.get_error(i) for i in range(session.parser.num_errors)]
    assert [error.node_name() for error in found] == ["u", "d"]
    assert found[0].code() == session.trt.ErrorCode.UNSUPPORTED_NODE
    assert session.told.lines[0].startswith("ERROR: ModelImporter.cpp")
    assert session.build() is None


def test_a_file_that_is_none_is_not_parsed(tmp_path: Path) -> None:
    session = Session("11.4", doubled(2, 4))
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    assert not session.parser.parse_from_file(str(tmp_path / "junk.onnx"))
    assert not session.parser.parse_from_file(str(tmp_path / "none.onnx"))
    found = [session.parser.get_error(i) for i in range(2)]
    assert [error.code().name for error in found] == ["MODEL_DESERIALIZE_FAILED", "INVALID_VALUE"]
    session.parser.clear_errors()
    assert session.parser.num_errors == 0


@pytest.mark.parametrize(
    ("prepare", "problem"),
    [
        (lambda _: None, "no optimization profile has been defined"),
        (lambda s: s.add_profile((1, 4), (2, 4), (4, 4), name="z"), "is missing dimensions"),
        (lambda s: s.add_profile((1, 5), (2, 5), (4, 5)), "static dimensions that profile 0"),
        (lambda s: s.config.set_flag(s.trt.BuilderFlag.FP16), "network is strongly typed"),
    ],
)
def test_a_build_that_cannot_be(prepare: Any, problem: str) -> None:
    session = Session("10.3", doubled())
    prepare(session)
    assert session.build() is None
    assert problem in session.told.lines[-1]


def test_a_profile_out_of_order_is_not_added() -> None:
    assert Session("11.0", doubled()).add_profile((2, 4), (1, 4), (4, 4)) == -1


def test_values_that_the_compiler_does_not_take_change_nothing() -> None:
    config = Session("11.4", doubled()).config
    config.builder_optimization_level = 9
    config.max_aux_streams = -2
    assert (config.builder_optimization_level, config.max_aux_streams) == (3, -1)


def test_progress_is_reported_and_may_be_stopped() -> None:
    session = Session("11.4", doubled(2, 4))
    session.config.progress_monitor = session.told.monitor()
    assert session.build()
    assert session.told.phases[0] == ("start", "Building engine", None, 2)
    assert session.told.phases[-1] == ("finish", "Building engine")
    session.config.progress_monitor = session.told.monitor(goes_on=False)
    assert session.build() is None
    assert "cancelled" in session.told.lines[-1]


@pytest.mark.parametrize("version", versions())
def test_an_engine_computes_and_switches_profiles(version: str) -> None:
    session = Session(version, doubled())
    session.add_profile((1, 4), (1, 4), (2, 4))
    session.add_profile((3, 4), (8, 4), (8, 4))
    context = session.context()
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    y = np.zeros_like(x)
    assert context.infer_shapes() == ["x"]
    assert not context.execute_async_v3(0)
    assert not context.set_input_shape("x", (3, 4))
    assert context.set_optimization_profile_async(1, 0)
    assert context.set_input_shape("x", (3, 4))
    assert context.get_tensor_shape("y") == (3, 4)
    assert context.set_tensor_address("x", x.ctypes.data)
    assert not context.execute_async_v3(0)
    assert "Neither address or allocator is set for tensor y" in session.told.lines[-1]
    assert context.set_tensor_address("y", y.ctypes.data)
    assert context.execute_async_v3(0)
    assert np.array_equal(y, 2 * x)


def test_an_allocator_gets_outputs_of_unknown_size() -> None:
    b = graphs.Builder((2, 4))
    proto = b.model(b.node("NonZero", "y", b.x))
    proto.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    session = Session("10.8", proto)
    context, place = session.context(), np.zeros(64, np.int64)
    shapes = []

    class Allocator(session.trt.IOutputAllocator):
        def reallocate_output(self, name: str, memory: int, size: int, alignment: int) -> int:
            del name, memory, alignment
            return place.ctypes.data if size <= place.nbytes else 0

        def notify_shape(self, name: str, shape: Any) -> None:
            del name
            shapes.append(tuple(shape))

    x = np.eye(2, 4, dtype=np.float32)
    assert context.get_tensor_shape("y") == (2, -1)
    assert context.set_tensor_address("x", x.ctypes.data)
    assert context.set_output_allocator("y", Allocator())
    assert context.execute_async_v3(0)
    assert shapes == [(2, 2)]
    assert place[:4].tolist() == [0, 1, 0, 1]
    assert not Session("rtx-1.7", proto).parsed


def test_engines_load_in_their_own_version_only() -> None:
    data = Session("10.3", doubled(2, 4)).build()
    for version, problem in (("10.8", "of version 10.3.0, expecting"), ("rtx-1.7", "Magic tag")):
        other = Session(version, doubled(2, 4))
        assert other.trt.Runtime(other.told.logger).deserialize_cuda_engine(data) is None
        assert problem in other.told.lines[-1]


def test_version_compatible_engines_load_where_that_is_allowed() -> None:
    session, other = Session("10.3", doubled(2, 4)), Session("10.8", doubled(2, 4))
    session.config.set_flag(session.trt.BuilderFlag.VERSION_COMPATIBLE)
    data, runtime = session.build(), other.trt.Runtime(other.told.logger)
    assert runtime.deserialize_cuda_engine(data) is None
    runtime.engine_host_code_allowed = True
    assert runtime.deserialize_cuda_engine(data) is not None


@pytest.mark.parametrize("version", versions())
def test_the_inspector_speaks_as_its_version_does(version: str) -> None:
    session = Session(version, graphs.conv_bn_relu())
    session.config.profiling_verbosity = session.trt.ProfilingVerbosity.DETAILED
    inspector = session.context().engine.create_engine_inspector()
    found = json.loads(inspector.get_engine_information(session.trt.LayerInformationFormat.JSON))
    word = "Bindings" if version in TEN else "I/O Tensors"
    assert found.keys() == {"Layers", word}
    assert found[word] == ["x", "head"]
    assert found["Layers"][0]["Metadata"].startswith("[ONNX Layer: ")


@pytest.mark.parametrize("version", TEN)
def test_a_calibrator_is_asked_for_batches_or_a_cache(version: str) -> None:
    session = Session(version, doubled(2, 4), typed=False)
    trt, batch, written = session.trt, np.full((2, 4), -63.5, np.float32), []

    class Calibrator(trt.IInt8MinMaxCalibrator):
        def __init__(self, cache: bytes | None) -> None:
            super().__init__()
            self.cache, self.batches = cache, [[batch.ctypes.data]]

        def get_batch_size(self) -> int:
            return 2

        def get_batch(self, names: list[str]) -> list[int] | None:
            del names
            return self.batches.pop() if self.batches else None

        def read_calibration_cache(self) -> bytes | None:
            return self.cache

        def write_calibration_cache(self, cache: Any) -> None:
            written.append(bytes(cache))

    session.config.set_flag(trt.BuilderFlag.INT8)
    assert session.build() is None  # without a calibrator there are no ranges
    session.config.int8_calibrator = Calibrator(None)
    plan = from_bytes(session.build() or b"")
    assert plan is not None
    assert plan.calibration.encode() == written[0]
    assert written[0].endswith(b"-MinMaxCalibration\nx: 3f000000\n")
    session.config.int8_calibrator = Calibrator(written[0] + b"y: 3f800000\n")
    plan = from_bytes(session.build() or b"")
    assert plan is not None
    assert "y: 3f800000" in plan.calibration
    assert len(written) == 1


def test_timings_are_kept_by_their_own_version() -> None:
    session = Session("11.0", doubled(2, 4))
    cache = session.config.create_timing_cache(b"")
    assert session.config.set_timing_cache(cache, ignore_mismatch=False)
    assert session.build()
    kept = bytes(session.config.get_timing_cache().serialize())
    assert kept.endswith(b"timed;")
    assert session.config.create_timing_cache(kept) is not None
    assert Session("11.4", doubled()).config.create_timing_cache(kept) is None


def test_rtx_builds_for_several_gpus() -> None:
    session = Session("rtx-1.7", doubled(2, 4))
    session.config.num_compute_capabilities = 2
    for index, name in enumerate(("SM86", "SM120")):
        capability = getattr(session.trt.ComputeCapability, name)
        assert session.config.set_compute_capability(capability, index)
    assert not session.config.set_compute_capability(capability, 2)
    plan = from_bytes(session.build() or b"")
    assert plan is not None
    assert plan.targets == ["SM86", "SM120"]
    session.config.set_flag(session.trt.BuilderFlag.REFIT)
    assert session.build() is None


def test_the_default_logger_prints_what_is_severe(capsys: Any) -> None:
    trt: Any = fake_tensorrt("11.4")
    logger = trt.Logger(trt.Logger.ERROR)
    logger.log(trt.Logger.WARNING, "mild")
    logger.log(severity=trt.ILogger.Severity.ERROR, msg="severe")
    assert capsys.readouterr().err == "[TRT] [ERROR] severe\n"


def test_the_extract_is_small() -> None:
    extract = Path(__file__).with_name("trt_api") / "api.json"
    assert extract.stat().st_size < 400_000
