from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import graphs
import numpy as np
import onnx
import pytest
from fake_trt import fake_tensorrt
from onnx import TensorProto, helper, numpy_helper

from qbench.engines.compiling.protocol import BuildRequest
from qbench.runtimes.tensorrt.flavour import Flavour

CHANNELS = 8
MakeCompilation = Callable[[str], tuple[Any, Any, Any]]
SaveModel = Callable[..., Path]


class Graph:
    """Collects nodes and constants of a small model; each call returns an output's name."""

    def __init__(self, seed: int = 0) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(seed)

    def node(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        name = attributes.pop("name", f"{op_type}_{len(self.nodes)}")
        self.nodes.append(helper.make_node(op_type, inputs, [f"{name}_y"], name=name, **attributes))
        return f"{name}_y"

    def constant(self, array: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def qdq(self, tensor: str) -> str:
        scale, zero = self.constant(np.float32(0.05)), self.constant(np.int8(0))
        return self.node(
            "DequantizeLinear", self.node("QuantizeLinear", tensor, scale, zero), scale, zero
        )

    def weights(self, quantized: bool) -> str:
        values = self.random.integers(-127, 128, (CHANNELS, CHANNELS, 3, 3)).astype(np.int8)
        if not quantized:
            return self.constant(values.astype(np.float32) / 1000)
        scales = self.constant(np.full(CHANNELS, 0.001, np.float32))
        zeros = self.constant(np.zeros(CHANNELS, np.int8))
        return self.node("DequantizeLinear", self.constant(values), scales, zeros, axis=0)

    def conv(self, tensor: str, name: str, inputs: bool = True, weights: bool = True) -> str:
        source = self.qdq(tensor) if inputs else tensor
        return self.node("Conv", source, self.weights(weights), name=name, pads=[1, 1, 1, 1])

    def model(self, output: str, shape: Sequence[int | str]) -> onnx.ModelProto:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
        y = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "g", [x], [y], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture
def graph() -> Graph:
    return Graph()


@pytest.fixture
def save(graph: Graph, tmp_path: Path) -> SaveModel:
    def write(output: str, shape: Sequence[int | str] = (1, CHANNELS, 8, 8)) -> Path:
        path = tmp_path / "model.onnx"
        onnx.save(graph.model(output, shape), path)
        return path

    return write


@pytest.fixture
def request_for(tmp_path: Path) -> Callable[..., BuildRequest]:
    def make(onnx_path: Path, **fields: Any) -> BuildRequest:
        return BuildRequest(
            onnx=onnx_path,
            output=tmp_path / "out" / "model.engine",
            log=tmp_path / "out" / "model.log",
            flavour=fields.pop("flavour", Flavour("tensorrt_rtx", "1.7")),
            **fields,
        )

    return make


@pytest.fixture
def compilation() -> MakeCompilation:
    """Return a fake TensorRT of some version, a network from `x` to `y`, and a configuration."""

    def make(version: str) -> tuple[Any, Any, Any]:
        module: Any = fake_tensorrt(version)
        logger = module.Logger()
        builder = module.Builder(logger)
        network = builder.create_network(0)
        b = graphs.Builder()
        model = b.model(b.node("Relu", "y", b.x))
        assert module.OnnxParser(network, logger).parse(model.SerializeToString())
        return module, network, builder.create_builder_config()

    return make
