"""TensorRT for RTX is asked what it made of the plans; its compiler needs no GPU."""

from pathlib import Path

import graphs
import pytest

from qbench.engines.build import EngineOptions, build_engine
from qbench.quantization.int8 import Int8Options

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")


@pytest.mark.parametrize(
    "pattern", ["encoder", "encoder_decomposed", "encoder_fused", "encoder_fused_cut_first"]
)
def test_every_planned_node_is_an_int8_layer(pattern: str, tmp_path: Path) -> None:
    model = graphs.model_of(graphs.PATTERNS[pattern](), tmp_path / f"{pattern}.onnx")
    options = EngineOptions(backend="rtx", folder=tmp_path, quantization=Int8Options(effort="fast"))
    audit = build_engine(model, table=graphs.table_of(model), options=options).audit
    assert audit is not None
    assert audit.not_int8 == ()
    assert audit.nodes_by_dtype.keys() == {"MatMul"}
