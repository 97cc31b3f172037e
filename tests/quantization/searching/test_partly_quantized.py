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
from qbench.quantization.numerics import asymmetric, symmetric
from qbench.quantization.qdq import write_qdq
from qbench.quantization.searching.judge import run_samples
from qbench.quantization.searching.partly_quantized import PartlyQuantized, Setting
from qbench.quantization.weights import WeightCoding
from qbench.runtimes.base import Tensors

PATTERNS = [
    graphs.fragile,
    graphs.residual,
    graphs.concat_branches,
    graphs.output_in_the_middle,
    graphs.attention,
    graphs.reduced_tokens,
    graphs.with_if,
]


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_with_all_tensors_it_computes_what_the_written_model_does(
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
        node = nodes[weight.reader.node]
        array = constant(node.inputs[1])
        assert array is not None
        weights[weight.reader] = WeightCoding().encode(node, weight, array).rounded()
    samples = [Sample(str(seed), graphs.feeds_of(model, seed)) for seed in range(2)]
    found = PartlyQuantized(model.ir, plan, plan.observed).run(Setting(scales, weights), samples)
    expected = run_samples(write_qdq(model.ir.clone(), plan, scales), samples)
    for one, other in zip(found, expected, strict=True):
        for name, array in other.items():
            # INT32 biases stay float here.
            largest = float(np.abs(array).max())
            assert one[name] == pytest.approx(array, rel=0.02, abs=0.02 * largest)


def test_with_all_switches_off_it_is_the_float_model_and_leaves_it_alone() -> None:
    model = prepare(model_of(graphs.fragile()))
    before = ir.to_proto(model.ir).SerializeToString()
    samples = [Sample("0", graphs.feeds_of(model))]
    (found,) = PartlyQuantized(model.ir, place(model, "tensorrt")).run(Setting({}), samples)
    (expected,) = run_samples(model.ir, samples)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5)
    assert ir.to_proto(model.ir).SerializeToString() == before


@pytest.mark.parametrize("has_float_weights", [True, False])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_tensor_that_is_switched_on_is_rounded_as_it_is_alone(
    pattern: Callable[[], onnx.ModelProto], has_float_weights: bool
) -> None:
    model = prepare(model_of(pattern()))
    plan = place(model, "cpu")
    samples = [Sample("0", graphs.feeds_of(model))]
    switched = PartlyQuantized(model.ir, plan, None if has_float_weights else plan.observed)
    (plain,) = switched.run(Setting({}), samples)
    for tensor in plan.observed:
        coarse = Setting({tensor: asymmetric(-8.0, 8.0)})
        (found,) = switched.run(coarse, samples)
        (alone,) = PartlyQuantized(model.ir, plan, {tensor}).run(coarse, samples)
        assert any(np.abs(found[name] - array).max() > 0 for name, array in plain.items())
        for name, array in alone.items():
            assert found[name] == pytest.approx(array, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(
    "name", ["x/scale", "x/zero_point", "x/is_on", "x/If", "x/Identity", "stem/1", "head_float"]
)
@pytest.mark.parametrize("alone", [True, False])
def test_a_tensor_of_the_model_may_be_called_like_what_is_inserted(name: str, alone: bool) -> None:
    samples = [Sample("0", graphs.feeds_of(model_of(graphs.residual())))]

    def outputs(proto: onnx.ModelProto) -> Tensors:
        model = prepare(model_of(proto))
        plan = place(model, "cpu")
        scales = Setting({"x": asymmetric(-2.0, 2.0)})
        tensors = {"x"} if alone else None
        (found,) = PartlyQuantized(model.ir, plan, tensors).run(scales, samples)
        return found

    expected = outputs(graphs.residual())
    found = outputs(graphs.renamed(graphs.residual(), "stem_relu", name))
    assert found.keys() == expected.keys()
    for output, array in expected.items():
        np.testing.assert_array_equal(found[output], array)


def test_only_the_tensors_named_are_quantized() -> None:
    model = prepare(model_of(graphs.residual()))
    plan = place(model, "tensorrt")
    first, *others = plan.observed
    coarse = symmetric(-1000.0, 1000.0)
    samples = [Sample("0", graphs.feeds_of(model))]
    (found,) = PartlyQuantized(model.ir, plan, {first}).run(Setting({first: coarse}), samples)
    (plain,) = run_samples(model.ir, samples)
    assert others
    assert all(np.abs(found[name] - array).max() > 0 for name, array in plain.items())
    with pytest.raises(KeyError):
        list(PartlyQuantized(model.ir, plan, {first}).run(Setting({others[0]: coarse}), samples))


def test_a_bias_can_be_given_to_a_node_that_has_none() -> None:
    builder = graphs.Builder()
    weight = builder.weight("w", 4, graphs.CHANNELS, 1, 1)
    model = prepare(model_of(builder.model(builder.node("Conv", "conv", builder.x, weight))))
    plan = place(model, "tensorrt")
    fine = {tensor: symmetric(-4.0, 4.0) for tensor in plan.observed}
    samples = [Sample("0", graphs.feeds_of(model))]
    quantized = PartlyQuantized(model.ir, plan, plan.observed)
    (plain,) = quantized.run(Setting(fine), samples)
    twos = {Reader("conv", 2): np.full(4, 2, np.float32)}
    (moved,) = quantized.run(Setting(fine, twos), samples)
    assert moved["conv"] == pytest.approx(plain["conv"] + 2, abs=1e-5)
