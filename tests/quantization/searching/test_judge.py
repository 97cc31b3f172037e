from collections.abc import Iterator
from weakref import ref

import graphs
import numpy as np
import onnx
import pytest
from graphs import CHANNELS, Builder, feeds_of, model_of

from qbench.data.samples import Sample
from qbench.model.load import Model
from qbench.model.prepare import prepare
from qbench.quantization.searching.judge import Judge, run_samples
from qbench.runtimes.base import Tensors


def samples_for(model: Model, count: int = 3) -> list[Sample]:
    return [Sample(str(seed), feeds_of(model, seed)) for seed in range(count)]


def test_the_float_model_has_no_noise() -> None:
    model = prepare(model_of(graphs.fragile()))
    samples = samples_for(model)
    judge = Judge(samples, run_samples(model.ir, samples, simulate=False))
    assert judge.noise(run_samples(model.ir, samples)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("shape", [(1, 3), (1, 22, 2100)], ids=["features", "boxes"])
def test_some_samples_are_judged_as_if_there_were_no_others(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    reference, results = (
        [{"y": random.uniform(size=shape).astype(np.float32)} for _ in range(4)] for _ in range(2)
    )
    images = [{"x": np.zeros((1, 3, 320, 320), np.float32)} for _ in range(4)]
    samples = [Sample("same", feeds) for feeds in images]
    chosen = [0, 3]
    some = [samples[i] for i in chosen]
    alone = Judge(some, [reference[i] for i in chosen])
    found = Judge(samples, reference).on(some).noise([results[i] for i in chosen])
    assert 0 < found == alone.noise([results[i] for i in chosen])


def test_outputs_that_change_their_shape_are_not_judged() -> None:
    builder = Builder(("n", CHANNELS))
    where = builder.node("NonZero", "where", builder.node("Relu", "relu", builder.x))
    output = builder.node("Cast", "output", where, to=onnx.TensorProto.FLOAT)
    model = prepare(model_of(builder.model(output)))
    samples = samples_for(model)
    assert not Judge(samples, run_samples(model.ir, samples)).can_judge


def test_an_output_without_a_finite_value_is_not_judged() -> None:
    builder = Builder()
    negative = builder.node("Neg", "negative", builder.node("Exp", "exp", builder.x))
    model = prepare(model_of(builder.model(builder.node("Sqrt", "nan", negative))))
    samples = samples_for(model)
    assert not Judge(samples, run_samples(model.ir, samples)).can_judge


def test_a_sequence_of_tensors_is_not_judged() -> None:
    builder = Builder()
    relu = builder.node("Relu", "relu", builder.x)
    proto = builder.model(relu)
    proto.graph.node.append(onnx.helper.make_node("SequenceConstruct", [relu], ["both"]))
    tensor = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None)
    sequence = onnx.helper.make_sequence_type_proto(tensor)
    proto.graph.output[0].CopyFrom(onnx.helper.make_value_info("both", sequence))
    model = prepare(model_of(proto))
    samples = samples_for(model)
    assert not Judge(samples, run_samples(model.ir, samples)).can_judge


def test_a_sample_whose_output_has_another_shape_is_ruined() -> None:
    """As behind a NonZero, of which the quantized model finds other values."""
    random = np.random.default_rng(0)
    reference = [{"y": random.normal(size=(1, 3)).astype(np.float32)} for _ in range(4)]
    other = {"y": np.zeros((0, 3), np.float32)}
    samples = [Sample(str(index), {"x": np.zeros((1, 3), np.float32)}) for index in range(4)]
    judge = Judge(samples, reference)
    assert judge.noise([*reference[:3], other]) == 0.25
    assert judge.noise([other] * 4) == 1
    # Nor is an array that could be broadcast compared.
    assert judge.noise([{"y": one["y"].repeat(2, axis=0)} for one in reference]) == 1


@pytest.mark.parametrize("shape", [(1, 3, 32, 64), (1, 32, 64, 3)])
def test_a_detector_is_known_by_the_size_of_its_images_wherever_their_channels_are(
    shape: tuple[int, ...],
) -> None:
    """Of 42 cells at 32 x 64, only what is detected counts: a box without an object may move."""
    output = np.full((1, 6, 42), 1e-4, np.float32)
    output[0, :4] = np.arange(42)
    output[0, 4, 0] = 0.9
    moved = output.copy()
    moved[0, 0, 7] = 45
    judge = Judge([Sample("a", {"images": np.zeros(shape, np.float32)})], [{"out": output}])
    assert judge.noise([{"out": moved}]) < 1e-6


def test_a_detector_is_judged_by_what_it_detects() -> None:
    """At 32 pixels there are 21 cells; a coordinate of a cell without an object may be anything."""
    feeds = {"images": np.zeros((1, 3, 32, 32), np.float32)}
    output = np.full((1, 6, 21), 1e-4, np.float32)
    output[0, :4] = 16
    output[0, 4, 0] = 0.9
    moved = output.copy()
    moved[0, 0, 7] = 25
    missed = output.copy()
    missed[0, 4, 0] = 0.1
    judge = Judge([Sample("a", feeds)], [{"out": output}])
    assert judge.noise([{"out": moved}]) < 1e-6
    assert judge.noise([{"out": missed}]) > 0.3


def test_outputs_of_a_detector_may_come_one_by_one() -> None:
    """Decoded, those of all samples would be the most memory that a search takes."""
    random = np.random.default_rng(0)
    outputs = [{"y": random.uniform(size=(1, 22, 2100)).astype(np.float32)} for _ in range(8)]
    samples = [Sample("same", {"x": np.zeros((1, 3, 320, 320), np.float32)}) for _ in range(4)]
    judge, held = Judge(samples, outputs[:4]), []

    def one_by_one() -> Iterator[Tensors]:
        for output in outputs[4:]:
            copied = output["y"].copy()
            held.append(ref(copied))
            yield {"y": copied}
            del copied
            assert sum(one() is not None for one in held) <= 1

    assert judge.noise(one_by_one()) == judge.noise(outputs[4:])
