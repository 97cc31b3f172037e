from collections.abc import Sequence

import graphs
import numpy as np
import onnx
import pytest

from qbench.calibration.ranges import Range
from qbench.data.samples import Sample
from qbench.quantization.choice import Choice
from qbench.quantization.equalization import equalized_name
from qbench.quantization.int8 import Int8Options, Quantizer
from qbench.quantization.searching.judge import Judge, run_samples
from qbench.quantization.searching.probe import Probe
from qbench.quantization.searching.refine import Refiner


def refiner_for(
    target: str,
    runs: int = 400,
    proto: onnx.ModelProto | None = None,
    others: Sequence[Sample] = (),
) -> tuple[Refiner, dict[str, Range]]:
    """A refiner of the pattern whose channels differ widely, and its ranges by histogram.

    Its probe may be asked for the samples of `others`, too.
    """
    model = graphs.model_of(proto or graphs.fragile())
    quantizer = Quantizer(model, target, graphs.table_of(model), Int8Options())
    samples = [Sample(str(seed), graphs.feeds_of(model, seed)) for seed in range(3)]
    judged = [*samples, *others]
    judge = Judge(judged, run_samples(quantizer.prepared.ir, judged, simulate=False))
    return Refiner(quantizer, Probe(quantizer, samples, runs, judge)), quantizer.ranges()


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_every_settlement_gains_what_it_says(target: str) -> None:
    refiner, ranges = refiner_for(target)
    settlements = refiner.settled(Choice())
    assert settlements
    for one in settlements:
        before = refiner.probe.of(one.tensor, ranges[one.tensor])
        after = refiner.probe.of(one.tensor, one.range, one.factors)
        assert one.gain == pytest.approx(before - after)
        assert one.gain > 0
    gains = [one.gain for one in settlements]
    assert gains == sorted(gains, reverse=True)


def test_a_tensor_with_unlike_channels_is_equalized_for_its_depthwise_reader() -> None:
    refiner, ranges = refiner_for("tensorrt")
    (unlike,) = [one for one in refiner.settled(Choice()) if one.factors is not None]
    assert unlike.tensor == "unlike"
    assert unlike.factors is not None
    assert np.isfinite(unlike.factors).all()
    assert unlike.gain > 0.5 * refiner.probe.of("unlike", ranges["unlike"])


def unlike_channels(group: int) -> onnx.ModelProto:
    """Channels of unlike size are read by a convolution of some groups."""
    b = graphs.Builder()
    scales = np.logspace(0, -1, graphs.CHANNELS).astype(np.float32).reshape(-1, 1, 1)
    x = b.node("Mul", "unlike", b.conv("stem", b.x), b.constant("scales", scales))
    return b.model(b.conv("last", b.conv("grouped", x, group=group)))


@pytest.mark.parametrize(
    ("group", "expected"), [(2, []), (graphs.CHANNELS // 2, []), (graphs.CHANNELS, ["unlike"])]
)
def test_groups_of_several_channels_are_no_depthwise_convolution(
    group: int, expected: list[str]
) -> None:
    """Their weights lose something by factors, which a little noise is not worth."""
    refiner, _ = refiner_for("tensorrt", proto=unlike_channels(group))
    settled = refiner.settled(Choice())
    assert [one.tensor for one in settled if one.factors is not None] == expected
    assert refiner.alone["unlike"] < 1e-3


def test_without_runs_nothing_is_settled() -> None:
    refiner, _ = refiner_for("tensorrt", runs=0)
    assert refiner.settled(Choice()) == []


def test_the_worst_are_heard_again_on_other_samples_as_the_choice_has_them() -> None:
    model = graphs.model_of(graphs.fragile())
    others = [Sample(str(seed), graphs.feeds_of(model, seed)) for seed in (7, 8)]
    refiner, _ = refiner_for("tensorrt", others=others)
    choice = Choice()
    for one in refiner.settled(Choice()):
        choice = one.added_to(choice)
    heard = refiner.heard_again(choice, others)
    clip, by = choice.ranges[equalized_name("unlike")], choice.factors["unlike"]
    assert heard.keys() == refiner.alone.keys()
    assert heard["unlike"] == refiner.probe.on(others).of("unlike", clip, by)
    assert heard["unlike"] != refiner.probe.of("unlike", clip, by)
