"""The tables of operators, held against the parser of TensorRT for RTX."""

from typing import Any

import onnx
import pytest

from qbench.engines.preflight.operators import CONTRIBUTED, NEED_PLUGIN, UNKNOWN


@pytest.fixture(scope="module")
def parser() -> Any:
    trt = pytest.importorskip("tensorrt_rtx")
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    return trt.OnnxParser(network, logger)


def test_the_parser_knows_all_but_the_operators_named(parser: Any) -> None:
    names = {schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain}
    assert {name for name in names if not parser.supports_operator(name)} == UNKNOWN & names


def test_the_parser_knows_what_others_contributed(parser: Any) -> None:
    assert all(map(parser.supports_operator, CONTRIBUTED | NEED_PLUGIN | {"TRT_Scale"}))
    assert not parser.supports_operator("Odd")


def test_contributed_operators_are_not_of_onnx() -> None:
    assert not any(map(onnx.defs.has, CONTRIBUTED))
