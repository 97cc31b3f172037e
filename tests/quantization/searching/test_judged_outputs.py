"""What is judged of models that end by a selection."""

from collections.abc import Callable

import graphs
import numpy as np
import onnx
import pytest

from qbench.data.samples import Sample
from qbench.quantization.choice import Choice
from qbench.quantization.int8 import Int8Options, Quantizer
from qbench.quantization.searching.contest import Contest
from qbench.quantization.searching.judge import judge_of
from qbench.quantization.searching.judged_outputs import judged_outputs
from qbench.quantization.searching.noise import sqnr_from_noise
from qbench.quantization.searching.probe import Probe, scalings_of

CELLS = 16 * 16


def heads(b: graphs.Builder) -> tuple[str, str]:
    """Scores [1, 8, cells] and boxes [1, 8, cells] of a small network."""
    stem = b.node("Relu", "stem_relu", b.conv("stem", b.x))
    flat = b.constant("flat", np.array([1, graphs.CHANNELS, CELLS]))
    scores = b.node("Sigmoid", "scores", b.node("Reshape", "logits", b.conv("head", stem), flat))
    return scores, b.node("Reshape", "boxes", b.conv("box", stem), flat)


def best(b: graphs.Builder, scores: str, count: int = 20) -> str:
    """Places of the highest scores of any class."""
    axes = {"axes": [1], "keepdims": 0}
    b.nodes.append(
        onnx.helper.make_node(
            "TopK",
            [b.node("ReduceMax", "highest", scores, **axes), b.constant("k", np.array([count]))],
            ["best_scores", "places"],
            name="best",
        )
    )
    return "places"


def kept(b: graphs.Builder, name: str = "y") -> str:
    """The boxes of the highest scores."""
    scores, boxes = heads(b)
    return b.node("Gather", name, boxes, best(b, scores), axis=2)


def selected() -> onnx.ModelProto:
    b = graphs.Builder()
    return b.model(kept(b), "best_scores")


def with_work_behind() -> onnx.ModelProto:
    b = graphs.Builder()
    return b.model(b.node("MatMul", "y", kept(b, "kept"), b.weight("w", 20, 4)))


def with_an_output_before() -> onnx.ModelProto:
    b = graphs.Builder()
    return b.model(kept(b), "stem_relu")


def arg_max() -> onnx.ModelProto:
    b = graphs.Builder()
    found = b.node("ArgMax", "class", b.conv("logits", b.node("Relu", "r", b.x)), axis=1)
    return b.model(b.node("Cast", "y", found, to=1))


def arg_max_of_codes() -> onnx.ModelProto:
    b = graphs.Builder()
    codes = b.node("Cast", "codes", b.conv("logits", b.node("Relu", "r", b.x)), to=6)
    return b.model(b.node("Cast", "y", b.node("ArgMax", "class", codes, axis=1), to=1))


def selected_sizes() -> onnx.ModelProto:
    b = graphs.Builder()
    sizes = b.node("Cast", "sizes", b.node("Shape", "shape", b.x), to=1)
    largest = b.node("Cast", "axis", b.node("ArgMax", "largest", sizes, axis=0), to=1)
    return b.model(b.node("Add", "y", b.conv("conv", b.x), largest))


def quantizer_of(proto: onnx.ModelProto, target: str = "tensorrt") -> Quantizer:
    model = graphs.model_of(proto)
    return Quantizer(model, target, graphs.table_of(model), Int8Options())


@pytest.mark.parametrize(
    ("build", "selecting", "judged"),
    [
        (selected, ["best"], {"highest", "boxes"}),
        (with_work_behind, [], set()),
        (with_an_output_before, ["best"], {"highest", "boxes"}),
        (arg_max, ["class"], {"logits"}),
        (arg_max_of_codes, [], set()),
        (selected_sizes, [], set()),
    ],
)
def test_what_the_selection_reads_is_judged(
    build: Callable[[], onnx.ModelProto], selecting: list[str], judged: set[str]
) -> None:
    quantizer = quantizer_of(build())
    found = judged_outputs(quantizer.prepared.ir.graph, quantizer.plan)
    assert list(found.selecting) == selecting
    assert found.readers.keys() == judged
    assert list(found.own) == (["stem_relu"] if build is with_an_output_before else [])
    names = [value.name for value in found.of(quantizer.prepared.ir).graph.outputs]
    wanted = [*found.own, *(f"{name} (judged)" for name in found.readers)]
    assert names == (wanted or ["y"])


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_a_selection_does_not_make_int8_look_ruinous(target: str) -> None:
    quantizer = quantizer_of(selected(), target)
    samples = [Sample(f"{i}", graphs.feeds_of(quantizer.model, i)) for i in range(4)]
    judge = judge_of(quantizer.prepared.ir, quantizer.plan, samples)
    trial = Contest(quantizer, samples, judge).trial(Choice())
    assert sqnr_from_noise(trial.noise) > 25
    probe = Probe(quantizer, samples, 100)
    scalings = scalings_of(quantizer, Choice())
    assert 0 < probe.glance(scalings) < 0.01
    (tensor, scaling), *_ = scalings.items()
    assert 0 < probe.of(tensor, *scaling) < 0.01


def test_place_by_place_the_same_model_has_lost_its_output() -> None:
    quantizer = quantizer_of(selected())
    samples = [Sample(f"{i}", graphs.feeds_of(quantizer.model, i)) for i in range(4)]
    kept = quantizer.graph(Choice()).ir
    pairs = [
        (graphs.run(quantizer.prepared.ir, s.feeds), graphs.run(kept, s.feeds)) for s in samples
    ]
    noise = [np.square(a["y"] - b["y"]).sum() / np.square(a["y"]).sum() for a, b in pairs]
    assert np.mean(noise) > 0.1
