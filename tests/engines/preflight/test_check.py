"""What the pre-flight finds, each beside what TensorRT for RTX makes of the same model."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import graphs
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from qbench.engines import build as build_module
from qbench.engines.build import EngineOptions, build_engine
from qbench.engines.preflight import check
from qbench.engines.preflight.check import check_buildable, judged_flavour, preflight
from qbench.engines.profiles import parse_shapes
from qbench.errors import EngineError, UnfitError, UsageError
from qbench.model.load import Model, load
from qbench.quantization.linting.finding import ERROR, WARNING
from qbench.quantization.quantize import quantize
from qbench.runtimes.tensorrt.flavour import Flavour

RTX = Flavour("tensorrt_rtx", "1.7")
Maker = Callable[[], onnx.ModelProto]


def model(
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int | str] = (1, 2, 4, 4),
    dtype: int = TensorProto.FLOAT,
    constants: Any = None,
    output: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model from x to y; each node is called after its first output."""
    for node in nodes:
        node.name = node.name or f"the_{node.output[0]}"
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("y", output, None)],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("my", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def node(op_type: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs.split(), outputs.split(), **attributes)


def cast(before: str, after: str, dtype: int) -> onnx.NodeProto:
    return node("Cast", before, after, to=dtype)


def in_a_branch(inner: onnx.NodeProto) -> onnx.ModelProto:
    """A model with `inner`, from `x` to `then_y`, in a branch of an If."""
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in ("then_y", "else_y")
    ]
    other = node("Relu", "x", "else_y")
    choice = node("If", "is_high", "y", name="choice")
    for name, inside, output in zip(("then", "else"), (inner, other), outputs, strict=True):
        branch = helper.make_graph([inside], name, [], [output])
        choice.attribute.append(helper.make_attribute(f"{name}_branch", branch))
    high = node("ReduceMax", "x", "high", keepdims=0)
    greater = node("Greater", "high zero", "is_high")
    return model([high, greater, choice], constants={"zero": np.float32(0)})


def suppression() -> onnx.ModelProto:
    constants = {
        "scores": np.random.default_rng(0).random((1, 1, 6), np.float32),
        "count": np.array([3]),
        "iou": np.array([0.5], np.float32),
    }
    nodes = [node("NonMaxSuppression", "x scores count iou", "kept"), cast("kept", "y", 1)]
    return model(nodes, (1, 6, 4), constants=constants)


def scatter(op_type: str) -> onnx.ModelProto:
    index = np.zeros((1, 1) if op_type == "ScatterND" else (1, 4), np.int64)
    constants = {"index": index, "update": np.ones((1, 4), np.float32)}
    return model(
        [node(op_type, "x index update", "y", reduction="add")], (2, 4), constants=constants
    )


def convolution_in_four_dimensions() -> onnx.ModelProto:
    weights = {"w": np.ones((2, 2, 1, 1, 1, 1), np.float32)}
    return model([node("Conv", "x w", "y")], (1, 2, 4, 4, 4, 4), constants=weights)


def training() -> onnx.ModelProto:
    constants = {name: np.ones(2, np.float32) for name in "abcd"}
    norm = node("BatchNormalization", "x a b c d", "y mean var", training_mode=1)
    return model([norm, node("Add", "mean var", "both")], constants=constants)


def with_int8_constant() -> onnx.ModelProto:
    nodes = [cast("x", "i", TensorProto.INT8), node("Add", "i c", "s"), cast("s", "y", 1)]
    return model(nodes, (1, 4), constants={"c": np.ones((1, 4), np.int8)})


def inner(dtype: int) -> onnx.ModelProto:
    return model([cast("x", "i", dtype), cast("i", "f", 1), node("Relu", "f", "y")])


def two_outputs(op_type: str, inputs: str, **attributes: Any) -> onnx.ModelProto:
    """A node whose first two outputs are both read."""
    nodes = [
        node(op_type, inputs, "a b", **attributes),
        cast("b", "second", 1),
        node("ReduceMax", "second", "most", keepdims=0),
    ]
    nodes += [node("Add", "a most", "y")]
    return model(nodes, constants={"g": np.ones(4, np.float32)})


def outputs_left_out() -> onnx.ModelProto:
    """A Q/DQ model whose LayerNormalization names its first output alone of three."""
    norm = helper.make_node("LayerNormalization", ["d", "g"], ["y", "", ""])
    nodes = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "d"), norm]
    constants = {"s": np.float32(0.1), "z": np.int8(0), "g": np.ones(4, np.float32)}
    return model(nodes, constants=constants)


def takes_values(*nodes: onnx.NodeProto, count: int = 2) -> onnx.ModelProto:
    """A model with a second input `v` of `count` integers."""
    constants = {"n": np.array([1]), "two": np.array([2]), "one": np.float32(1)}
    proto = model(nodes, constants=constants)
    proto.graph.input.append(helper.make_tensor_value_info("v", TensorProto.INT64, [count]))
    return proto


REFUSED: dict[str, tuple[str, str, Maker]] = {
    "Unique": ("unknown-operator", "the_y", lambda: model([node("Unique", "x", "y")])),
    "Det": ("unknown-operator", "the_y", lambda: model([node("Det", "x", "y")])),
    "in a branch": (
        "unknown-operator",
        "the_det",
        lambda: in_a_branch(node("Det", "x", "then_y", name="the_det")),
    ),
    "custom": ("custom-operator", "the_y", lambda: model([node("Odd", "x", "y", domain="my")])),
    "NonZero": (
        "missing-plugin",
        "the_y",
        lambda: model([node("NonZero", "x", "y")], output=TensorProto.INT64),
    ),
    "NonMaxSuppression": ("suppression", "the_kept", suppression),
    "MaxPool's indices": (
        "extra-output",
        "the_a",
        lambda: two_outputs("MaxPool", "x", kernel_shape=[2, 2]),
    ),
    "LayerNormalization's mean": (
        "extra-output",
        "the_a",
        lambda: two_outputs("LayerNormalization", "x g"),
    ),
    "ScatterND": ("reduction", "the_y", lambda: scatter("ScatterND")),
    "ScatterElements": ("reduction", "the_y", lambda: scatter("ScatterElements")),
    "LpPool": (
        "norm",
        "the_y",
        lambda: model([node("LpPool", "x", "y", kernel_shape=[2, 2], p=3)]),
    ),
    "TopK": (
        "large-top",
        "the_y",
        lambda: model([node("TopK", "x k", "y i")], (1, 4000), constants={"k": np.array([3841])}),
    ),
    "Conv": ("spatial-rank", "the_y", convolution_in_four_dimensions),
    "int16": ("type", "the_i", lambda: inner(TensorProto.INT16)),
    "uint32": ("type", "the_i", lambda: inner(TensorProto.UINT32)),
    "an input of uint16": (
        "type",
        "the_y",
        lambda: model([cast("x", "y", 1)], dtype=TensorProto.UINT16),
    ),
    "nine dimensions": ("rank", "the_y", lambda: model([node("Relu", "x", "y")], [1] * 9)),
    "values for a shape": (
        "shape-input",
        "the_y",
        lambda: takes_values(node("Reshape", "x v", "y")),
    ),
    "values for a size": (
        "shape-input",
        "the_y",
        lambda: takes_values(
            node("Concat", "n two v", "s", axis=0),
            helper.make_node("Resize", ["x", "", "", "s"], ["y"], mode="nearest"),
        ),
    ),
    "values for a count": (
        "shape-input",
        "the_y",
        lambda: takes_values(node("TopK", "x v", "y i"), count=1),
    ),
    "uint8": ("inner-uint8", "the_i", lambda: inner(TensorProto.UINT8)),
    "int8 constant": ("int8-constant", "the_s", with_int8_constant),
}

TAKEN: dict[str, Maker] = {
    "ONNX's Gelu in another domain": lambda: model([node("Relu", "x", "y", domain="my")]),
    "eight dimensions": lambda: model([node("Relu", "x", "y")], [1] * 8),
    "an input of uint8": lambda: model([cast("x", "y", 1)], dtype=TensorProto.UINT8),
    "integers that are looked up": lambda: takes_values(
        node("Flatten", "x", "f"), node("Gather", "f v", "y", axis=1)
    ),
    "integers whose count is a shape": lambda: takes_values(
        node("Shape", "v", "s"),
        node("Concat", "s n", "t", axis=0),
        node("Expand", "one t", "w"),
        node("ReduceMax", "w", "m", keepdims=0),
        node("Mul", "x m", "y"),
    ),
    "int64": lambda: inner(TensorProto.INT64),
    "double": lambda: inner(TensorProto.DOUBLE),
    "outputs that are left out": outputs_left_out,
    "indices that nothing reads": lambda: model([node("MaxPool", "x", "y i", kernel_shape=[2, 2])]),
    "TopK": lambda: model(
        [node("TopK", "x k", "y i")], (1, 4000), constants={"k": np.array([3840])}
    ),
    "NonZero of a constant": lambda: model(
        [node("NonZero", "c", "i"), node("Squeeze", "i", "j"), node("Gather", "x j", "y", axis=3)],
        constants={"c": np.array([1, 0, 1, 1], np.float32)},
    ),
    "LpPool": lambda: model([node("LpPool", "x", "y", kernel_shape=[2, 2], p=2)]),
    "ScatterND": lambda: model(
        [node("ScatterND", "x i u", "y")],
        (2, 4),
        constants={"i": np.zeros((1, 1), np.int64), "u": np.ones((1, 4), np.float32)},
    ),
}


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[onnx.ModelProto], Model]:
    def write(proto: onnx.ModelProto) -> Model:
        onnx.save(proto, tmp_path / "m.onnx")
        return load(tmp_path / "m.onnx")

    return write


Saved = Callable[[onnx.ModelProto], Model]


def errors(model: Model, flavour: str = "tensorrt_rtx") -> list[tuple[str, str]]:
    return [(f.rule, f.node) for f in preflight(model, flavour) if f.severity == ERROR]


def is_built(path: Path) -> bool:
    """Whether TensorRT for RTX builds the file for one GPU."""
    trt = pytest.importorskip("tensorrt_rtx")
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    if not trt.OnnxParser(network, logger).parse_from_file(str(path)):
        return False
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    return builder.build_serialized_network(network, config) is not None


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str, saved: Saved) -> None:
    rule, at, make = REFUSED[name]
    model = saved(make())
    assert errors(model) == [(rule, at)]
    with pytest.raises(EngineError, match=rf"TensorRT for RTX 1\.7 cannot build .*m\.onnx: '{at}'"):
        check_buildable(model, RTX)


@pytest.mark.parametrize("name", REFUSED)
def test_tensorrt_for_rtx_refuses_it(name: str, saved: Saved) -> None:
    model = saved(REFUSED[name][2]())
    assert model.path is not None
    assert not is_built(model.path)


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_taken(name: str, saved: Saved) -> None:
    model = saved(TAKEN[name]())
    assert errors(model) == []
    check_buildable(model, RTX)


@pytest.mark.parametrize("name", graphs.PATTERNS)
def test_usual_models_are_taken(name: str) -> None:
    model = graphs.model_of(graphs.PATTERNS[name]())
    assert errors(model) == errors(model, "tensorrt") == []


@pytest.mark.parametrize(
    "name",
    [name for name in TAKEN if name not in {"indices that nothing reads", "NonZero of a constant"}],
)
def test_tensorrt_for_rtx_takes_it(name: str, saved: Saved) -> None:
    model = saved(TAKEN[name]())
    assert model.path is not None
    assert is_built(model.path)


@pytest.mark.parametrize("name", REFUSED)
def test_tensorrt_itself_may_have_a_plugin(name: str, saved: Saved) -> None:
    rule, _, make = REFUSED[name]
    found = preflight(saved(make()), "tensorrt")
    severities = {finding.severity for finding in found if finding.rule == rule}
    # Its types are known; and it has its own NonZero and NonMaxSuppression.
    expected = {
        "type": {ERROR},
        "shape-input": {ERROR},
        "missing-plugin": set(),
        "suppression": set(),
    }
    assert severities == expected.get(rule, {WARNING})


def test_regions_of_interest_would_crash_the_parser_of_rtx(saved: Saved) -> None:
    constants = {"r": np.zeros((1, 4), np.float32), "b": np.zeros(1, np.int64)}
    align = node("RoiAlign", "x r b", "y", output_height=2, output_width=2)
    assert errors(saved(model([align], constants=constants))) == [("missing-plugin", "the_y")]


def test_deformable_convolutions_are_known_to_tensorrt_itself(saved: Saved) -> None:
    constants = {"w": np.ones((2, 2, 1, 1), np.float32), "o": np.zeros((1, 2, 4, 4), np.float32)}
    model_ = saved(model([node("DeformConv", "x w o", "y")], constants=constants))
    assert preflight(model_, "tensorrt") == ()
    assert errors(model_) == [("unknown-operator", "the_y")]


def test_functions_of_the_model_are_no_custom_operators(saved: Saved) -> None:
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    twice = helper.make_function("my", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 18)])
    proto = model([node("Twice", "x", "y", domain="my")])
    proto.functions.append(twice)
    assert errors(saved(proto)) == []
    proto.functions[0].node[0].op_type = "Det"
    del proto.functions[0].node[0].input[1]
    assert [rule for rule, _ in errors(saved(proto))] == ["unknown-operator"]


def test_double_precision_is_named_where_it_begins(saved: Saved) -> None:
    to_double = cast("x", "d", TensorProto.DOUBLE)
    found = preflight(
        saved(model([to_double, node("Relu", "d", "e"), cast("e", "y", 1)])), "tensorrt_rtx"
    )
    assert [(f.rule, f.severity, f.node, f.reason) for f in found] == [
        ("double", WARNING, "the_d", "'d' is double")
    ]
    given = model([node("Relu", "x", "y")], dtype=TensorProto.DOUBLE, output=TensorProto.DOUBLE)
    assert [f.tensor for f in preflight(saved(given), "tensorrt")] == ["x"]


def test_errors_come_first_and_are_counted(saved: Saved) -> None:
    nodes = [cast("x", "d", TensorProto.DOUBLE), cast("d", "f", 1)]
    nodes += [node("Det", "f", "g"), node("Det", "f", "h"), node("Add", "g h", "y")]
    model_ = saved(model(nodes))
    severities = [finding.severity for finding in preflight(model_, "tensorrt_rtx")]
    assert severities == [ERROR, ERROR, WARNING]
    line = r"'the_g': .* does not know Det; .* \(and 1 more: `qbench inspect --target tensorrt`\)$"
    with pytest.raises(EngineError, match=line):
        check_buildable(model_, RTX)


def test_quantized_models_are_judged_by_the_rules_for_them(saved: Saved, tmp_path: Path) -> None:
    float_model = saved(graphs.residual())
    table = graphs.table_of(float_model)
    quantize(float_model, target="cpu", table=table, output=tmp_path / "cpu.onnx")
    assert "unsigned" in {f.rule for f in preflight(load(tmp_path / "cpu.onnx"), "tensorrt_rtx")}
    quantize(float_model, target="tensorrt", table=table, output=tmp_path / "trt.onnx")
    assert preflight(load(tmp_path / "trt.onnx"), "tensorrt_rtx") == ()


@pytest.mark.parametrize(
    ("shapes", "severity", "reason"),
    [
        ([], ERROR, "of unknown size"),
        (["x=1x2x8x8"], None, ""),
        (["x=4x2x8x8/2x2x8x8/8x2x8x8"], ERROR, "dimension 0 of input 'x' is 4/2/8"),
        (["x=1x3x8x8"], ERROR, "dimension 1 of input 'x' is fixed to 2"),
        (["x=1x2x8"], ERROR, "has 3 dimensions"),
    ],
)
def test_shapes(shapes: list[str], severity: str | None, reason: str, saved: Saved) -> None:
    dynamic = saved(model([node("Relu", "x", "y")], ("N", 2, "H", "W")))
    found = preflight(dynamic, "tensorrt_rtx", parse_shapes(shapes))
    assert [f.severity for f in found] == ([severity] if severity else [])
    assert all(reason in f.reason and f.fix and f.node == "x" for f in found)


def test_a_shape_that_is_chosen_is_a_warning(saved: Saved) -> None:
    dynamic = saved(model([node("Relu", "x", "y")], ("N", 2, "H", "W")))
    (found,) = preflight(dynamic, "tensorrt_rtx", {}, (8, 8))
    assert (found.rule, found.severity) == ("shape", WARNING)
    assert "built for 1x2x8x8" in found.reason
    assert found.fix == "choose with --shapes x=..."


def test_shapes_of_dimensions_that_another_input_has_too(saved: Saved) -> None:
    proto = model([node("Add", "x w", "y")], ("N", "T"))
    proto.graph.input.append(helper.make_tensor_value_info("w", 1, ("N", "T")))
    (found,) = preflight(saved(proto), "tensorrt_rtx", parse_shapes(["w=1x8/2x8/4x8"]))
    assert (found.severity, found.node) == (WARNING, "x")
    assert "built for 1x8/2x8/4x8" in found.reason


def test_a_shape_of_no_input(saved: Saved) -> None:
    static = saved(model([node("Relu", "x", "y")]))
    (found,) = preflight(static, "tensorrt_rtx", parse_shapes(["z=1x2"]))
    assert (found.severity, found.node, found.reason) == (
        ERROR,
        "z",
        "the model has no such input; its inputs are x",
    )


def test_a_build_is_refused_before_any_work(
    saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_module, "find_flavour", lambda _: RTX)
    with pytest.raises(EngineError, match=r"'the_y': .* does not know Det; export the model"):
        # There is no table either, which would be the next error.
        build_engine(
            saved(model([node("Det", "x", "y")])), options=EngineOptions(folder=tmp_path / "out")
        )
    assert not (tmp_path / "out").exists()


def test_without_tensorrt_a_model_is_judged_as_for_rtx(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> Flavour:
        raise UnfitError("not installed")

    monkeypatch.setattr(check, "find_flavour", missing)
    assert (judged_flavour(), judged_flavour("rtx")) == ("tensorrt_rtx", "tensorrt_rtx")
    assert judged_flavour("tensorrt") == "tensorrt"


def test_an_installed_tensorrt_is_judged_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "find_flavour", lambda _: Flavour("tensorrt", "10.3"))
    assert judged_flavour() == "tensorrt"


def test_an_unknown_backend() -> None:
    with pytest.raises(UsageError, match="unknown backend 'cuda'; choose from auto, tensorrt, rtx"):
        judged_flavour("cuda")
