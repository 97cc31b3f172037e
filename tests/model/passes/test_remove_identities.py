import graphs
import numpy as np
import onnx
from onnx import TensorProto, helper

from qbench.model.passes.remove_identities import remove_identities


def identities_left(proto: onnx.ModelProto) -> int:
    """Run the pass, check that names and values of all outputs stay, count what is left."""
    model = graphs.model_of(proto)
    feeds = graphs.feeds_of(model)
    wanted = graphs.run(model.ir, feeds)
    before = sum(node.op_type == "Identity" for node in model.ir.graph)
    removed = remove_identities(model.ir)
    found = graphs.run(model.ir, feeds)
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert np.array_equal(found[name], array)
    left = sum(node.op_type == "Identity" for node in model.ir.graph)
    assert left == before - removed
    return left


def test_readers_see_through_a_chain_of_identities() -> None:
    b = graphs.Builder()
    same = b.node("Identity", "same", b.node("Identity", "copy", b.node("Relu", "relu", b.x)))
    assert identities_left(b.model(b.conv("head", same))) == 0


def test_a_source_takes_the_name_of_the_output_that_it_becomes() -> None:
    b = graphs.Builder()
    assert identities_left(b.model(b.node("Identity", "y", b.node("Relu", "relu", b.x)))) == 0


def test_an_output_that_is_given_twice_keeps_both_names() -> None:
    b = graphs.Builder()
    relu = b.node("Relu", "relu", b.x)
    assert identities_left(b.model(relu, b.node("Identity", "again", relu))) == 1
    b = graphs.Builder()
    relu = b.node("Relu", "relu", b.x)
    twice = [b.node("Identity", name, relu) for name in ("one", "two")]
    assert identities_left(b.model(*twice)) == 1


def test_an_input_and_a_constant_cannot_become_outputs() -> None:
    b = graphs.Builder()
    one = b.constant("one", np.ones(2, np.float32))
    assert identities_left(b.model(b.node("Identity", "y", b.x), b.node("Identity", "z", one))) == 2


def with_identity_branch() -> onnx.ModelProto:
    """One branch of an If hands on a tensor from outside, as recurrent networks are exported."""
    b = graphs.Builder()
    relu = b.node("Relu", "relu", b.node("Identity", "stem", b.conv("conv", b.x)))
    positive = b.node(
        "Greater",
        "positive",
        b.node("ReduceMean", "mean", relu, keepdims=0),
        b.constant("zero", np.float32(0)),
    )
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(op_type, [relu], [f"{name}_y"], name=f"{name}_node")],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, graphs.IMAGE)],
        )
        for name, op_type in (("then", "Identity"), ("else", "Abs"))
    }
    return b.model(b.node("If", "choice", positive, **branches))


def test_a_branch_that_hands_on_a_tensor_from_outside_stays() -> None:
    assert identities_left(with_identity_branch()) == 0


def test_a_scalar_stays_one() -> None:
    b = graphs.Builder(())
    model = graphs.model_of(b.model(b.node("Relu", "y", b.node("Identity", "same", b.x)))).ir
    assert remove_identities(model) == 1
    assert model.graph.inputs[0].shape == ()
