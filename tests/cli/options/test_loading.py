"""What the garbage collector makes of a command's model."""

import gc
from pathlib import Path

import graphs
import onnx

from qbench.cli.options.loading import load_model


def test_the_model_is_not_looked_through_for_garbage(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(graphs.conv_silu(), path)
    model = load_model(path)
    assert not any(one is model.ir for one in gc.get_objects())
    later: list[object] = []
    assert any(one is later for one in gc.get_objects())
