from collections.abc import Callable

import graphs
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from graphs import model_of, table_of

from qbench.data.samples import Sample
from qbench.model.graph import constant
from qbench.model.prepare import prepare
from qbench.placement.plan import Reader
from qbench.placement.targets import place
from qbench.quantization.judge import run_samples
from qbench.quantization.numerics import asymmetric, symmetric
from qbench.quantization.qdq import write_qdq
from qbench.quantization.switchboard import Setting, Switchboard
from qbench.quantization.weights import WeightCoding

PATTERNS = [
    graphs.fragile,
    graphs.residual,
    graphs.concat_branches,
    graphs.output_in_the_middle,
    graphs.attention,
    graphs.with_if,
]


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_with_all_switches_on_it_computes_what_the_written_model_does(
    pattern: Callable[[], onnx.ModelProto], target: str
) -> None:
    model = prepare(model_of(pattern()))
    plan, table = place(model, target), table_of(model)
    convert = symmetric if plan.symmetric else asymmetric
    scales = {
        t: convert(*table.range_of(t, "minmax", symmetric=plan.symmetric)) for t in plan.observed
    }
    nodes = {node.name: node for node in model.ir.graph}
    weights = {}
    for weight in plan.weights:
        array = constant(nodes[weight.reader.node].inputs[1])
        assert array is not None
        weights[weight.reader] = WeightCoding().rounded(weight, array)
    samples = [Sample(str(seed), graphs.feeds_of(model, seed)) for seed in range(2)]
    found = Switchboard(model.ir, plan).run(Setting(scales, weights), samples)
    expected = run_samples(write_qdq(model.ir, plan, scales), samples)
    for one, other in zip(found, expected, strict=True):
        for name, array in other.items():
            # INT32 biases stay float in the switchboard.
            largest = float(np.abs(array).max())
            assert one[name] == pytest.approx(array, rel=0.02, abs=0.02 * largest)


def test_with_all_switches_off_it_is_the_float_model_and_leaves_it_alone() -> None:
    model = prepare(model_of(graphs.fragile()))
    before = ir.to_proto(model.ir).SerializeToString()
    samples = [Sample("0", graphs.feeds_of(model))]
    (found,) = Switchboard(model.ir, place(model, "tensorrt")).run(Setting(), samples)
    (expected,) = run_samples(model.ir, samples)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    assert ir.to_proto(model.ir).SerializeToString() == before


def test_a_bias_can_be_given_to_a_node_that_has_none() -> None:
    builder = graphs.Builder()
    weight = builder.weight("w", 4, graphs.CHANNELS, 1, 1)
    model = prepare(model_of(builder.model(builder.node("Conv", "conv", builder.x, weight))))
    samples = [Sample("0", graphs.feeds_of(model))]
    switchboard = Switchboard(model.ir, place(model, "tensorrt"))
    plain = switchboard.run(Setting(), samples)[0]["conv"]
    setting = Setting(constants={Reader("conv", 2): np.full(4, 2, np.float32)})
    moved = switchboard.run(setting, samples)
    assert moved[0]["conv"] == pytest.approx(plain + 2, abs=1e-5)
