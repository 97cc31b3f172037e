"""Real builds: TensorRT for RTX parses and compiles without a GPU."""

import msgspec
import onnx
import pytest

pytest.importorskip("tensorrt_rtx")

from qbench.engines.auditing.engine import audit
from qbench.engines.auditing.qdq import node_name
from qbench.engines.compiling.builder import build
from qbench.engines.compiling.protocol import BuildOptions
from qbench.engines.profiles import ShapeProfile, ShapeRange
from qbench.errors import EngineError, UsageError
from qbench.runtimes.tensorrt.flavour import find_flavour

# One target named, so that the outcome does not depend on the GPU of this machine.
SM86 = BuildOptions(target_gpus=("sm86",))


@pytest.fixture
def compile_model(request_for):
    def run(path, on_progress=None, options=SM86, **fields):
        request = request_for(path, flavour=find_flavour("rtx"), options=options, **fields)
        return build(request, on_progress)

    return run


def audit_of(path, result):
    nodes = {
        node_name(node.name, node.output[0]): node.op_type for node in onnx.load(path).graph.node
    }
    return audit(result.layers, nodes)


def chain(graph, **quantized):
    x = graph.node("Relu", graph.conv("x", "first", **quantized))
    return graph.node("Relu", graph.conv(x, "second", **quantized))


def test_qdq_chain_is_all_int8(graph, save, compile_model, tmp_path):
    path = save(chain(graph))
    result = compile_model(path)
    found = audit_of(path, result)
    assert found.nodes_by_dtype == {"Conv": {"Int8": 2}}
    assert found.fraction("Conv") == 1.0
    assert found.not_int8 == ()
    assert result.size_bytes == (tmp_path / "out" / "model.engine").stat().st_size > 0
    assert result.targets == ("sm86",)


def test_fp32_chain_is_all_float(graph, save, compile_model):
    path = save(chain(graph, inputs=False, weights=False))
    found = audit_of(path, compile_model(path))
    assert found.fraction("Conv") == 0.0
    assert {finding.reason for finding in found.not_int8} == {"its weights are not quantized"}


def test_weights_alone_do_not_count(graph, save, compile_model):
    path = save(chain(graph, inputs=False))
    found = audit_of(path, compile_model(path))
    assert found.nodes_by_dtype == {"Conv": {"Float": 2}}
    assert all("dequantized at run time" in finding.reason for finding in found.not_int8)


def test_inputs_alone_do_not_count(graph, save, compile_model):
    path = save(chain(graph, weights=False))
    assert audit_of(path, compile_model(path)).nodes_by_dtype == {"Conv": {"Float": 2}}


def test_unnamed_nodes_are_found(graph, save, compile_model):
    output = chain(graph)
    for node in graph.nodes:
        node.ClearField("name")
    path = save(output)
    assert audit_of(path, compile_model(path)).fraction("Conv") == 1.0


def test_turing_among_the_targets_costs_int8(graph, save, compile_model):
    path = save(chain(graph))
    result = compile_model(path, options=BuildOptions(target_gpus=("sm86", "sm75")))
    assert audit_of(path, result).fraction("Conv") == 0.0


def test_dynamic_input_with_a_profile(graph, save, compile_model):
    path = save(chain(graph), ("N", 8, "H", 8))
    shapes = ShapeRange((1, 8, 8, 8), (2, 8, 16, 8), (4, 8, 32, 8))
    result = compile_model(path, profiles=(ShapeProfile({"x": shapes}),))
    assert audit_of(path, result).fraction("Conv") == 1.0


def test_several_profiles(graph, save, compile_model):
    path = save(chain(graph), ("N", 8, 8, 8))
    profiles = [ShapeProfile({"x": ShapeRange(*((n, 8, 8, 8),) * 3)}) for n in (1, 4)]
    one = compile_model(path, profiles=tuple(profiles[:1]))
    two = compile_model(path, profiles=tuple(profiles))
    assert two.size_bytes > one.size_bytes


def test_dynamic_input_without_a_profile(graph, save, compile_model):
    path = save(chain(graph), ("N", 8, 8, 8))
    with pytest.raises(
        EngineError, match=r"cannot build .*no optimization profile.*; see .*model\.log"
    ):
        compile_model(path)


def test_profile_of_an_unknown_input(graph, save, compile_model):
    path = save(chain(graph))
    profile = ShapeProfile({"image": ShapeRange((1,), (1,), (1,))})
    with pytest.raises(EngineError, match="has no input 'image'; its inputs are x"):
        compile_model(path, profiles=(profile,))


def test_external_data_is_found(graph, save, compile_model):
    path = save(chain(graph))
    onnx.save(
        onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=64
    )
    assert (path.parent / "weights.bin").exists()
    assert audit_of(path, compile_model(path)).fraction("Conv") == 1.0


def test_all_refused_nodes_are_counted_and_logged(graph, compile_model, tmp_path):
    x = graph.node("Foo", "x", name="foo", domain="custom")
    model = graph.model(graph.node("Bar", x, name="bar", domain="custom"), (1, 8))
    model.opset_import.append(onnx.helper.make_opsetid("custom", 1))
    path = tmp_path / "custom.onnx"
    onnx.save(model, path)
    with pytest.raises(
        EngineError, match=r"custom\.onnx: 2 errors, first: node 'foo' \(Foo\): .*; see"
    ):
        compile_model(path)
    log = (tmp_path / "out" / "model.log").read_text()
    assert "[PARSER] node 'foo' (Foo)" in log
    assert "[PARSER] node 'bar' (Bar)" in log
    assert not (tmp_path / "out" / "model.engine").exists()


def test_unsupported_operator(graph, save, compile_model):
    with pytest.raises(EngineError, match=r"1 error: node 'NonZero_0' \(NonZero\)"):
        compile_model(save(graph.node("NonZero", "x")))


def test_truncated_model(graph, save, compile_model):
    path = save(chain(graph))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(EngineError, match=r"cannot parse .*model\.onnx: 1 error: "):
        compile_model(path)


def test_unknown_target(graph, save, compile_model):
    with pytest.raises(UsageError, match="unknown target GPU 'sm52'; choose from sm75"):
        compile_model(save(chain(graph)), options=BuildOptions(target_gpus=("sm52",)))


def test_the_workspace_limit_reaches_the_compiler(graph, save, compile_model):
    path = save(chain(graph))
    compile_model(path, options=msgspec.structs.replace(SM86, workspace_bytes=1 << 26))
    with pytest.raises(EngineError, match="workspace limit"):
        compile_model(path, options=msgspec.structs.replace(SM86, workspace_bytes=10))


def test_builder_level(graph, save, compile_model):
    path = save(chain(graph))
    compile_model(path, options=msgspec.structs.replace(SM86, builder_level=1))
    with pytest.raises(UsageError, match="unknown builder level -3; choose from 0 to 5"):
        compile_model(path, options=msgspec.structs.replace(SM86, builder_level=-3))


def test_progress_ends_with_the_build(graph, save, compile_model):
    seen = []
    compile_model(save(chain(graph)), seen.append)
    assert seen[-1].parent is None
    assert seen[-1].step == seen[-1].steps > 0


def test_interrupt_leaves_no_engine(graph, save, compile_model, tmp_path):
    def interrupt(_):
        raise KeyboardInterrupt

    path = save(chain(graph))
    with pytest.raises(KeyboardInterrupt):
        compile_model(path, interrupt)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["model.log"]
