import graphs
import numpy as np
import pytest

from qbench.errors import ModelError
from qbench.model.passes.opset import MINIMUM_OPSET, raise_opset


def test_an_old_model_computes_the_same() -> None:
    model = graphs.model_of(graphs.opset11())
    feeds = graphs.feeds_of(model)
    raised = raise_opset(model.ir, MINIMUM_OPSET)
    assert raised.graph.opset_imports[""] == MINIMUM_OPSET
    assert np.array_equal(graphs.run(raised, feeds)["head"], graphs.run(model.ir, feeds)["head"])


def test_a_newer_model_is_left_alone() -> None:
    model = graphs.model_of(graphs.classifier()).ir
    assert raise_opset(model, MINIMUM_OPSET) is model


def test_what_cannot_be_raised_is_one_line() -> None:
    b = graphs.Builder(opset=8)
    scales = b.constant("scales", np.array([1, 1, 2, 2], np.float32))
    b.node("Upsample", "wide", b.x, scales, mode="nearest")
    b.nodes[-1].attribute.append(b.nodes[-1].attribute[0])
    model = graphs.model_of(b.model(b.node("Scan", "y", "wide")))
    with pytest.raises(ModelError, match=r"^opset 8 cannot be raised to 13 \([^\n]+\); export the"):
        raise_opset(model.ir, MINIMUM_OPSET)
