import graphs
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from graphs import CHANNELS, Builder, model_of, table_of
from qdq import QdqBuilder

from qbench.errors import ModelError
from qbench.evaluation.layerwise import Layer
from qbench.evaluation.tensor_pairs import Pairs, pair_tensors
from qbench.model.load import Model
from qbench.model.prepare import prepare
from qbench.quantization.equalization import equalize
from qbench.quantization.quantize import quantize

FACTORS = np.geomspace(0.01, 1, CHANNELS).astype(np.float32)


def pairs_of(proto: onnx.ModelProto, target: str, **options: bool) -> Pairs:
    model = model_of(proto)
    made = quantize(model, target=target, table=table_of(model))
    return pair_tensors(model, Model(made.ir, None, ""), **options)


def named(pairs: Pairs) -> dict[str, str]:
    return {layer.name: layer.test for layer in pairs.layers}


def test_dequantized_tensors_stand_for_quantized_ones() -> None:
    found = named(pairs_of(graphs.residual(), "tensorrt"))
    assert found["x"] == "x_dequantized"
    assert found["stem_relu"] == "stem_relu_dequantized"
    assert found["stem"] == "stem"
    assert found["head"] == "head"


def test_an_output_that_was_handed_over_stands_for_itself() -> None:
    found = pairs_of(graphs.output_in_the_middle(), "cpu")
    assert named(found)["middle"] == "middle"
    assert len(found.layers) == found.total


def test_sequences_are_not_compared() -> None:
    b = Builder()
    middle = b.conv("middle", b.x)
    proto = b.model(b.node("SequenceConstruct", "pair", middle, middle))
    tensor = proto.graph.input[0].type
    proto.graph.output[0].type.CopyFrom(onnx.helper.make_sequence_type_proto(tensor))
    model = model_of(proto)
    assert named(pair_tensors(model, model)) == {"middle": "middle"}


def test_what_is_selected_by_value_is_not_compared() -> None:
    """Rounding selects other boxes, and more or fewer: rows of two forms do not belong together."""
    b = Builder()
    rows = b.node("Reshape", "rows", b.conv("boxes", b.x), b.constant("four", np.array([-1, 4])))
    where = b.node("NonZero", "where", b.node("Relu", "scores", rows))
    index = b.node("Gather", "index", where, b.constant("zero", np.array(0)), axis=0)
    found = b.node("Gather", "found", rows, index, axis=0)
    pairs = pair_tensors(model := model_of(b.model(b.node("Sqrt", "sides", found))), model)
    assert named(pairs).keys() == {"boxes", "rows", "scores"}
    assert pairs.total == 3


def test_indices_made_from_a_shape_select_nothing() -> None:
    b = Builder(["n", *graphs.IMAGE[1:]])
    size = b.node("Shape", "size", b.conv("boxes", b.x))
    where = b.node("NonZero", "where", b.node("ConstantOfShape", "zeros", size))
    count = b.node("Cast", "count", where, to=onnx.TensorProto.FLOAT)
    output = b.node("Add", "output", "boxes", b.node("ReduceSum", "sum", count, keepdims=0))
    pairs = pair_tensors(model := model_of(b.model(output)), model)
    assert "output" in named(pairs)


def test_batch_normalization_is_compared_behind_its_fusion() -> None:
    found = pairs_of(graphs.conv_bn_relu(), "tensorrt")
    assert {"bn0", "relu0", "bn1", "relu1", "head"} <= named(found).keys()
    assert "conv0" not in named(found)
    operators = {layer.name: layer.op_type for layer in found.layers}
    assert operators["bn0"] == "Conv"


def test_depth_is_the_longest_way_and_inputs_are_the_nearest_layers() -> None:
    layers = {layer.name: layer for layer in pairs_of(graphs.residual(), "tensorrt").layers}
    assert layers["x"] == Layer("x", "x_dequantized", "Input", 0)
    assert layers["join"].depth == 1 + layers["branch2"].depth == 6
    assert set(layers["join"].inputs) == {"branch2", "stem_relu"}
    depths = [layer.depth for layer in layers.values()]
    assert depths == sorted(depths)


def test_a_layer_that_the_test_lacks_is_bridged() -> None:
    b, other = Builder(), Builder()
    reference = b.model(b.conv("head", b.node("Relu", "between", b.conv("stem", b.x))))
    other_stem = other.conv("stem", other.x)
    test = other.model(other.conv("head", other.node("Relu", "renamed", other_stem)))
    found = pair_tensors(model_of(reference), model_of(test))
    assert [(layer.name, layer.inputs, layer.depth) for layer in found.layers] == [
        ("stem", (), 1),
        ("head", ("stem",), 3),
    ]
    assert found.total == 3


def test_equalized_tensors_are_compared_up_to_a_factor() -> None:
    b = Builder()
    gated = b.node("Relu", "gated", b.conv("first", b.x))
    model = model_of(b.model(b.conv("second", gated)))
    changed = equalize(prepare(model).ir, {"gated": FACTORS}, ["second"])
    found = pair_tensors(model, Model(changed, None, ""))
    assert {layer.name: (layer.test, layer.axis) for layer in found.layers} == {
        "first": ("first_equalized", 1),
        "gated": ("gated_equalized", 1),
        "second": ("second", None),
    }


def test_an_offset_is_taken_off() -> None:
    b = Builder()
    stem = b.conv("stem", b.x)
    silu = b.node("Mul", "silu", stem, b.node("Sigmoid", "sigmoid", stem))
    found = pairs_of(b.model(b.conv("head", b.conv("after", silu, size=1))), "tensorrt")
    (layer,) = [layer for layer in found.layers if layer.name == "silu"]
    assert layer.test == "silu_offset_dequantized"
    array = np.ones((1, CHANNELS), np.float32)
    np.testing.assert_allclose(layer.restored(array + np.float32(layer.offset)), array, atol=1e-6)
    assert layer.offset != 0


def test_a_product_is_not_compared_before_an_offset_is_taken_off() -> None:
    """The bias, which an Add brings, holds what the offset adds to the product of a MatMul."""
    found = pairs_of(graphs.encoder_decomposed(), "tensorrt")
    layers = {layer.name: layer for layer in found.layers}
    assert layers["gelu"].offset != 0
    assert "widen" in layers
    assert "narrow" not in layers
    assert layers["narrow.biased"].inputs == ("gelu",)


def test_what_a_model_itself_adds_or_pads_stays() -> None:
    """Though it is called like an offset or a padding of qbench."""
    b, q = Builder(), QdqBuilder()
    for one in (b, q):
        vector = one.constant("vector", np.ones((CHANNELS, 1, 1), np.float32))
        one.node("Add", "x_offset", one.x, vector)
        amounts = one.constant("amounts", np.array([0, 0, -1, 0, 0, 0, 0, 0]))
        one.node("Pad", "x_padded", one.x, amounts)
    q.qdq("x_offset", "moved")
    q.qdq("x_padded", "cropped")
    reference, test = (model_of(one.model("x_offset", "x_padded")) for one in (b, q))
    assert named(pair_tensors(reference, test)) == {
        "x_offset": "moved.dq",
        "x_padded": "cropped.dq",
    }


def test_other_tools_names_do_not_matter() -> None:
    b = Builder()
    float_model = b.model(b.node("Relu", "relu", b.conv("conv", b.x)))
    q = QdqBuilder()
    relu = q.node("Relu", "relu", q.qdq(q.qconv("conv", q.qdq(q.x, "in")), "mid"))
    found = pair_tensors(model_of(float_model), model_of(q.model(relu)))
    assert named(found) == {"x": "in.dq", "conv": "mid.dq", "relu": "relu"}


def test_the_form_of_the_reference_that_has_more_in_common_is_taken() -> None:
    proto = graphs.conv_bn_relu()
    as_it_is = pair_tensors(model_of(proto), model_of(proto))
    assert {"conv0", "bn0", "conv1", "bn1"} <= named(as_it_is).keys()
    prepared = prepare(model_of(proto))
    assert "conv0" not in named(pair_tensors(model_of(proto), prepared))


def test_only_what_a_runtime_fuses_around() -> None:
    found = pairs_of(graphs.residual(), "tensorrt", dequantized_only=True)
    assert "stem" not in named(found)
    assert named(found)["stem_relu"] == "stem_relu_dequantized"
    assert "head" in named(found)


def test_where_weights_alone_are_quantized_nothing_hinders_fusion() -> None:
    b, q = Builder(), QdqBuilder()
    float_model = b.model(b.node("Relu", "relu", b.conv("conv", b.x)))
    weights_only = q.model(q.node("Relu", "relu", q.qconv("conv", q.x)))
    found = pair_tensors(model_of(float_model), model_of(weights_only), dequantized_only=True)
    assert named(found) == {"conv": "conv", "relu": "relu"}


def test_shapes_and_indices_are_no_layers() -> None:
    b = Builder()
    shape = b.node("Shape", "shape", b.conv("stem", b.x))
    proto = b.model(b.node("Reshape", "flat", "stem", shape))
    assert set(named(pair_tensors(model_of(proto), model_of(proto)))) == {"stem", "flat"}


def test_models_that_are_not_two_forms_of_one() -> None:
    float_model, other = model_of(graphs.residual()), model_of(graphs.two_inputs())
    with pytest.raises(ModelError, match="takes x, y and None takes x; compare two forms of one"):
        pair_tensors(float_model, other)
    with pytest.raises(ModelError, match="has no tensor of None under its name; compare it with"):
        pair_tensors(float_model, _renamed(model_of(graphs.residual())))
    quantized = QdqBuilder()
    with pytest.raises(ModelError, match="is quantized already; give the float model"):
        pair_tensors(model_of(quantized.model(quantized.qconv("c", quantized.x))), float_model)


def _renamed(model: Model) -> Model:
    graph: ir.Graph = model.ir.graph
    for node in graph:
        node.outputs[0].name = f"other/{node.outputs[0].name}"
    return model
