from pathlib import Path

import graphs
import numpy as np
import onnx
import pytest

from qbench.errors import ModelError
from qbench.model.graph import constant
from qbench.model.load import load
from qbench.model.spec import TensorSpec


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(graphs.classifier(), path)
    return path


@pytest.fixture
def external(tmp_path: Path) -> Path:
    path = tmp_path / "external.onnx"
    onnx.save(
        graphs.classifier(), path, save_as_external_data=True, location="w.bin", size_threshold=0
    )
    return path


def test_inputs_and_outputs(path: Path) -> None:
    model = load(path)
    assert model.inputs == (TensorSpec("x", (1, 8, 16, 16), np.dtype(np.float32)),)
    assert [spec.name for spec in model.outputs] == ["probabilities"]


def test_named_and_unknown_dimensions(tmp_path: Path) -> None:
    builder = graphs.Builder(("N", 8, "height", 16))
    proto = builder.model(builder.conv("head", builder.x))
    proto.graph.input[0].type.tensor_type.shape.dim[3].Clear()
    onnx.save(proto, tmp_path / "m.onnx")
    assert load(tmp_path / "m.onnx").inputs[0].shape == ("N", 8, "height", None)


def test_an_input_without_a_shape_is_no_scalar(path: Path) -> None:
    proto = onnx.load(path)
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    onnx.save(proto, path)
    with pytest.raises(ModelError, match=r"input 'x' of .*model.onnx has no shape; export it with"):
        load(path)
    proto.graph.input[0].type.tensor_type.shape.SetInParent()
    onnx.save(proto, path)
    assert load(path).inputs[0].shape == ()


def test_an_input_that_is_no_tensor(path: Path) -> None:
    proto = onnx.load(path)
    kind = proto.graph.input[0].type
    kind.CopyFrom(onnx.helper.make_sequence_type_proto(kind))
    onnx.save(proto, path)
    with pytest.raises(ModelError, match=r"input 'x' of .*model.onnx is no tensor; export"):
        load(path)


def test_a_graph_without_nodes_computes_nothing(tmp_path: Path) -> None:
    """As one that hands its input on, which ONNX allows."""
    b = graphs.Builder()
    onnx.save(b.model("x"), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"m\.onnx computes nothing: its graph has no nodes"):
        load(tmp_path / "m.onnx")


def test_nodes_in_any_order(tmp_path: Path) -> None:
    """Converters to half precision append the casts that they add; runtimes do not mind."""
    proto = graphs.classifier()
    order = [node.name for node in proto.graph.node]
    nodes = list(proto.graph.node)[::-1]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    onnx.save(proto, tmp_path / "m.onnx")
    model = load(tmp_path / "m.onnx").ir
    assert sorted(node.name or "" for node in model.clone().graph) == sorted(order)
    written: set[object] = set()
    for node in model.graph:
        assert all(v is None or v.producer() is None or v in written for v in node.inputs)
        written.update(node.outputs)


def test_a_name_that_stands_for_two_weights(path: Path) -> None:
    """ONNX Runtime takes the last one, and other readers the first."""
    proto = onnx.load(path)
    proto.graph.initializer.append(proto.graph.initializer[0])
    onnx.save(proto, path)
    name = proto.graph.initializer[0].name
    with pytest.raises(ModelError, match=f"is damaged: it holds two weights '{name}'; export"):
        load(path)


def test_a_name_that_two_nodes_write(path: Path) -> None:
    proto = onnx.load(path)
    proto.graph.node.append(proto.graph.node[0])
    onnx.save(proto, path)
    with pytest.raises(ModelError, match=r"is damaged: two nodes write '.+'; export it again"):
        load(path)


def test_sparse_weights(tmp_path: Path) -> None:
    values = onnx.helper.make_tensor("", onnx.TensorProto.FLOAT, [1], [2.0])
    places = onnx.helper.make_tensor("", onnx.TensorProto.INT64, [1], [0])
    sparse = onnx.helper.make_sparse_tensor(values, places, [4])
    as_constant = graphs.classifier()
    node = onnx.helper.make_node("Constant", [], ["c"], sparse_value=sparse)
    as_constant.graph.node.insert(0, node)
    as_initializer = graphs.classifier()
    sparse.values.name = "w"
    as_initializer.graph.sparse_initializer.append(sparse)
    for proto in (as_constant, as_initializer):
        onnx.save(proto, tmp_path / "m.onnx")
        with pytest.raises(ModelError, match="holds sparse weights, which are not supported; make"):
            load(tmp_path / "m.onnx")


def test_initializers_that_older_files_list_as_inputs_are_none(tmp_path: Path) -> None:
    proto = graphs.classifier()
    weight = proto.graph.initializer[0]
    info = onnx.helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims)
    proto.graph.input.append(info)
    onnx.save(proto, tmp_path / "m.onnx")
    assert [spec.name for spec in load(tmp_path / "m.onnx").inputs] == ["x"]


@pytest.mark.parametrize(
    "op_type", ["QLinearConv", "QAttention", "MatMulNBits", "DynamicQuantizeLSTM"]
)
def test_a_model_with_integer_kernels_is_quantized(op_type: str) -> None:
    b = graphs.Builder()
    model = graphs.model_of(b.model(b.node(op_type, "kernel", b.x)))
    assert model.is_quantized
    with pytest.raises(ModelError, match="is quantized already"):
        model.check_float()


def test_looking_at_weights_in_the_file_copies_nothing(tmp_path: Path) -> None:
    onnx.save(graphs.classifier(), tmp_path / "m.onnx")
    for value in load(tmp_path / "m.onnx").ir.graph.initializers.values():
        array = constant(value)
        assert array is not None
        assert array.size == 0 or np.shares_memory(array, constant(value))


def test_the_hash_follows_the_weights_outside_the_file(external: Path) -> None:
    before = load(external).sha256
    weights = external.with_name("w.bin")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    assert load(external).sha256 != before


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model at .*none\.onnx; check the path"):
        load(tmp_path / "none.onnx")


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is a folder; name the \.onnx file in it"):
        load(tmp_path)


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").touch()
    with pytest.raises(ModelError, match=r"m\.onnx is empty; export or copy it again"):
        load(tmp_path / "m.onnx")


@pytest.mark.parametrize("content", [b"hello\n", b"{}", b"\x89PNG\r\n\x1a\n"])
def test_something_else_than_onnx(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"^[^\n]*m\.onnx (is not a complete ONNX|holds no graph)"):
        load(tmp_path / "m.onnx")


def test_a_pointer_of_git_lfs(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ModelError, match=r"is a pointer of Git LFS, not the model; fetch it: git"):
        load(tmp_path / "m.onnx")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelError, match=r"^[^\n]*model\.onnx (is not a complete|holds no graph)"):
        load(path)


def test_missing_external_data(external: Path) -> None:
    external.with_name("w.bin").unlink()
    with pytest.raises(ModelError, match=r"keeps its weights in .*w\.bin, which is missing; copy"):
        load(external)


def test_truncated_external_data(external: Path) -> None:
    weights = external.with_name("w.bin")
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ModelError, match=r"w\.bin is truncated: \d+ bytes are needed; copy it"):
        load(external)


@pytest.mark.parametrize("unknown", [-1, "?"])
def test_dimensions_that_exporters_write_for_an_unknown_one_are_open(
    unknown: int | str, tmp_path: Path
) -> None:
    b = graphs.Builder((unknown, graphs.CHANNELS, unknown, 16))
    onnx.save(b.model(b.conv("head", b.x)), tmp_path / "m.onnx")
    (spec,) = load(tmp_path / "m.onnx").inputs
    assert spec.shape == (None, graphs.CHANNELS, None, 16)


def test_the_long_name_of_the_default_domain(tmp_path: Path) -> None:
    proto = graphs.with_if()
    proto.opset_import[0].domain = "ai.onnx"
    branch = proto.graph.node[-2].attribute[0].g
    for node in (*proto.graph.node, *branch.node):
        node.domain = "ai.onnx"
    onnx.save(proto, tmp_path / "m.onnx")
    model = load(tmp_path / "m.onnx").ir
    assert model.graph.opset_imports == {"": 17}
    assert {node.domain for node in model.graph.all_nodes()} == {""}
